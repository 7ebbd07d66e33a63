"""Scoring by Ray Data: a pool of actors, each with the model, fed with blocks of records.

    records ──blocks──► ActorPool(ScoringActor) ──journal lines──► the journal here, in whatever order they come

Records travel to the actors and journal lines come back through Ray, so no file system need be shared. The journal is
the one that a single process writes: either engine goes on where the other stopped, record by record. A killed actor
is started again by Ray and asked for its block again; a block that kills every actor is cut into single records, and a
record that still does is journalled as failed."""

from __future__ import annotations

import json
import logging
import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from marginalia.schemas.errors import ArtifactError, InputError, ModelError, ServiceError
from marginalia.schemas.storage.journal import Journal
from marginalia.scoring.config import RayOptions
from marginalia.scoring.engines.portable_request import portable
from marginalia.scoring.score_files import Messages, Origin, journal_entry, latest_keys
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.scored_record import Result

if TYPE_CHECKING:
    import pyarrow as pa

INSTALL = "pip install 'ray[data]>=2.50,<2.64'"
TRIES = 3  # times that a block is given to an actor again after it killed one
BAD_BLOCKS = 16  # blocks that may kill their actors before the cluster is held to be at fault
BLOCKS = 20_000  # at most: each costs the driver some bookkeeping
_KINDS = {kind.__name__: kind for kind in (InputError, ArtifactError, ModelError, ServiceError)}


class RayJob:
    """Iterating scores what the journal does not hold yet and yields each record's id once it is on disk."""

    def __init__(
        self, request: ScoreRequest, records: Sequence[tuple[str, Messages]], journal: Path, options: RayOptions
    ) -> None:
        if find_spec("ray") is None or find_spec("pyarrow") is None:
            raise InputError("the engine ray is not installed", hint=INSTALL)
        self._request = portable(request)
        self._records = records
        self._journal = journal
        self._options = options
        self._origin: Origin | None = None
        self._notes: dict[str, None] = {}

    @property
    def origin(self) -> Origin:
        """Who scored; known once the first record is."""
        if self._origin is None:
            raise ServiceError("no Ray actor has scored anything", hint="look at Ray's logs; the same command goes on")
        return replace(self._origin, notes=tuple(self._notes))

    def __iter__(self) -> Iterator[str]:
        held = latest_keys(self._journal)
        with _cluster(self._options) as cluster, Journal(self._journal) as journal:
            left = dict(self._records)
            block = _block_size(len(left), cluster.actors, self._options.block_records)
            for size in dict.fromkeys((block, 1)):
                todo = list(left.items())
                for rows in cluster.run(self._request, _tables(todo, held, size)) if todo else ():
                    entries = self._read(rows)
                    journal.extend(entries)
                    for row in rows:
                        del left[row["id"]]
                        yield row["id"]
            yield from self._give_up(list(left), journal)

    def _read(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The journal lines in one block of an actor's answers. Raises what the actor met."""
        for row in rows:
            if row["failure"] is not None:
                told = json.loads(row["failure"])
                raise _KINDS.get(told["kind"], ModelError)(f"{told['message']} [on the Ray node {told['node']}]")
            if row["origin"] is not None:
                self._meet(json.loads(row["origin"]))
        return [json.loads(row["entry"]) for row in rows if row["entry"] is not None]

    def _meet(self, told: dict[str, Any]) -> None:
        self._notes |= dict.fromkeys(told.pop("notes"))
        found = Origin(**{**told, "rows": tuple(told["rows"])}, notes=())
        if self._origin is None:
            self._origin = found
        if found.fingerprint != self._origin.fingerprint:
            raise ModelError(
                f"two Ray actors loaded different guards: {found.model}, {found.revision} and {self._origin.model}, "
                f"{self._origin.revision}",
                hint="the model and this package must be the same on every node",
            )

    def _give_up(self, lost: list[str], journal: Journal) -> Iterator[str]:
        if lost and len(lost) == len(self._records):
            raise ServiceError(
                "every Ray actor died before it had scored a record",
                hint="look at Ray's logs (memory is the usual cause: fewer or larger actors, smaller batch_tokens)",
            )
        error = f"each of {TRIES + 1} Ray actors that scored it died"
        journal.extend([journal_entry(Result(record_id, error=error, passing=True), "", ()) for record_id in lost])
        yield from lost


def _block_size(records: int, actors: int, most: int) -> int:
    """Small enough that all actors have work to the end, large enough that blocks do not become too many."""
    even = -(-records // (4 * actors))
    return max(1, min(most, even), -(-records // BLOCKS))


def _tables(records: list[tuple[str, Messages]], held: dict[str, str], size: int) -> Iterator[pa.Table]:
    from marginalia.scoring.engines.ray_actor import INPUT

    messages = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    schema = pl.Schema({"id": pl.String(), "messages": messages})
    for start in range(0, len(records), size):
        part = records[start : start + size]
        frame = pl.DataFrame(part, schema=schema, orient="row")
        keys = pl.Series("held", [held.get(record_id) for record_id, _ in part], dtype=pl.String)
        yield frame.with_columns(keys).to_arrow().cast(INPUT)


class _Cluster:
    """A connected Ray with `actors` of `cpus` cores and `gpus` GPUs each."""

    def __init__(self, ray: Any, actors: int, cpus: int, gpus: float) -> None:
        self._ray = ray
        self.actors, self.cpus, self.gpus = actors, cpus, gpus

    def run(self, request: ScoreRequest, blocks: Iterator[pa.Table]) -> Iterator[list[dict[str, Any]]]:
        """The actors' answers to each block, as they come. Blocks that kill their actors are left out.

        Raises ServiceError when too many do, or when Ray itself fails."""
        with _quietly():
            answers = self._pipeline(request, blocks).iter_batches(batch_size=None, batch_format="pyarrow")
        try:
            for block in answers:
                yield block.to_pylist()
        except self._ray.exceptions.RayError as error:
            raise _failed(error) from error

    def _pipeline(self, request: ScoreRequest, blocks: Iterator[pa.Table]) -> Any:
        import ray.data

        from marginalia.scoring.engines.ray_actor import ScoringActor

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = BAD_BLOCKS
        return ray.data.from_blocks(list(blocks)).map_batches(
            ScoringActor,
            fn_constructor_kwargs={"request": request, "folder": str(Path.cwd())},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=self.actors),
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
            max_task_retries=TRIES,
        )


def _failed(error: Exception) -> ServiceError:
    reason = next((line for line in reversed(str(error).strip().split("\n")) if line.strip()), type(error).__name__)
    return ServiceError(
        f"Ray failed: {reason.strip()[:400]}",
        hint="what was scored is kept, the same command goes on; every node needs this package and the model",
    )


@contextmanager
def _cluster(options: RayOptions) -> Iterator[_Cluster]:
    """Connects to the cluster at `options.address`, or starts one on this machine and ends it afterwards."""
    address = options.address or os.environ.get("RAY_ADDRESS") or None
    with _environment(address is None):
        with _quietly():
            import ray

            ours = not ray.is_initialized()
            if ours:
                _connect(ray, address, options)
        try:
            yield _sized(ray, options, elastic=address is not None)
        finally:
            if ours:
                ray.shutdown()


@contextmanager
def _quietly() -> Iterator[None]:
    """Ray warns of its own use of what it deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _connect(ray: Any, address: str | None, options: RayOptions) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            # more actors than there are cores is the user's wish: Ray would let them wait for ever
            cores = max(len(os.sched_getaffinity(0)), (options.actors or 1) * (options.cpus or 1))
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        where = f"at {address}" if address is not None else "on this machine"
        reason = next((line for line in str(error).split("\n") if line.strip()), type(error).__name__)
        hint = (
            "is it running? the address is that of its head, host:port" if address is not None else "its logs say why"
        )
        raise ServiceError(f"no Ray {where}: {reason}", hint=hint) from error


def _sized(ray: Any, options: RayOptions, *, elastic: bool) -> _Cluster:
    """Actors as asked for, or as many as there is room for. `elastic`: the cluster may grow when more are asked for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    gpus = options.gpus if options.gpus is not None else float(any(node.get("GPU", 0) >= 1 for node in nodes))
    if options.cpus is not None:
        cpus = options.cpus
    elif gpus:
        cpus = 1
    else:
        # actors asked for share the cores; an actor cannot span two nodes
        share = sum(int(node.get("CPU", 0)) for node in nodes) // options.actors if options.actors else 4
        cpus = max(1, min(share, largest))
    room = sum(_fits(node, cpus, gpus) for node in nodes)
    if room < 1 and not (elastic and options.actors):
        wanted = f"{cpus} cores" + (f" and {gpus:g} GPUs" if gpus else "")
        raise InputError(
            f"an actor of {wanted} fits on no node of the Ray cluster: the largest has {largest} cores",
            hint="set score.ray.cpus and score.ray.gpus (--actor-cpus, --actor-gpus)",
        )
    return _Cluster(
        ray, (options.actors if elastic and options.actors else min(options.actors or room, room)), cpus, gpus
    )


def _fits(node: dict[str, float], cpus: int, gpus: float) -> int:
    """How many actors a node has room for."""
    by_cores = int(node.get("CPU", 0) // cpus)
    return min(by_cores, int(node.get("GPU", 0) / gpus)) if gpus else by_cores


@contextmanager
def _environment(alone: bool) -> Iterator[None]:
    """What Ray reads from the environment when it is imported and started; put back afterwards."""
    changes = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    if alone:
        # on Linux, too: listen on 127.0.0.1 only, and ask for a password
        changes |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        changes |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
