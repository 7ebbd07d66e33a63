"""Scoring with Ray Data: a pool of actors, each with the model, that are given blocks of records.

    records ──blocks──► ActorPool(ScoringActor) ──journal lines──► the journal on this machine, in any order

Ray sends records to the actors and journal lines back, so no shared file system is needed. The journal is the same as
that of a single process, so either engine can continue where the other stopped. When an actor dies, Ray starts another
one and gives it the same block. A block that kills every actor is divided into single records, and a record that still
kills its actors is journalled as failed."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from marginalia.schemas.errors import ArtifactError, InputError, ModelError, ServiceError, first_line
from marginalia.schemas.storage.journal import Journal
from marginalia.schemas.unexpected_errors import WorkerFault
from marginalia.scoring.config import RayOptions
from marginalia.scoring.engines.portable_request import portable
from marginalia.scoring.prompt import check_messages
from marginalia.scoring.score_files import Messages, Origin, journal_entry, latest_keys
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.scored_record import Result

if TYPE_CHECKING:
    import pyarrow as pa

INSTALL = "pip install 'ray[data]>=2.50,<2.64'"
TRIES = 3  # how often a block that killed its actor is given to another one
BAD_BLOCKS = 16  # more blocks that kill their actors end the job: the fault is then probably the cluster's
BLOCKS = 20_000  # most blocks of a job, as each costs the driver some bookkeeping
_ERRORS = {error.__name__: error for error in (InputError, ArtifactError, ModelError, ServiceError)}


class RayJob:
    """Iterating scores the records that are not yet in the journal, and yields the id of each once it is on disk.

    Raises InputError when Ray is not installed or no actor fits on a node; ServiceError when Ray cannot be reached or
    fails, or every actor dies; any error that the model's loading raises in an actor."""

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
        """What scored the records; known once the first one is scored. Raises ServiceError before that."""
        if self._origin is None:
            raise ServiceError(
                "no Ray actor scored any record", hint="see Ray's logs; run the same command to continue"
            )
        return replace(self._origin, notes=tuple(self._notes))

    def __iter__(self) -> Iterator[str]:
        journalled = latest_keys(self._journal)
        with _cluster(self._options) as cluster, Journal(self._journal) as journal:
            invalid = _invalid(self._records)
            journal.extend([journal_entry(Result(name, error=why), "", ()) for name, why in invalid.items()])
            yield from invalid
            left = {name: messages for name, messages in self._records if name not in invalid}
            block = _block_size(len(left), cluster.actors, self._options.block_records)
            for size in dict.fromkeys((block, 1)):
                todo = list(left.items())
                for rows in cluster.run(self._request, _blocks(todo, journalled, size)) if todo else ():
                    entries = self._read(rows)
                    journal.extend(entries)
                    for row in rows:
                        del left[row["id"]]
                        yield row["id"]
            yield from self._give_up(list(left), journal)

    def _read(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The journal lines of a block of OUTPUT rows. Raises the error that the actor reported."""
        for row in rows:
            if row["failure"] is not None:
                failure = json.loads(row["failure"])
                node = f"[on the Ray node {failure['node']}]"
                if "frames" in failure:
                    raise WorkerFault(f"{failure['kind']}: {failure['message']} {node}", failure["frames"])
                raise _ERRORS.get(failure["kind"], ModelError)(f"{failure['message']} {node}")
            if row["origin"] is not None:
                self._add_origin(json.loads(row["origin"]))
        return [json.loads(row["entry"]) for row in rows if row["entry"] is not None]

    def _add_origin(self, fields: dict[str, Any]) -> None:
        """Collects the notes of an actor's origin. Raises ModelError when two actors have different guards."""
        self._notes |= dict.fromkeys(fields.pop("notes"))
        found = Origin(**{**fields, "rows": tuple(fields["rows"])}, notes=())
        if self._origin is None:
            self._origin = found
        if found.fingerprint != self._origin.fingerprint:
            raise ModelError(
                f"two Ray actors loaded different guards: {found.model}, {found.revision} and {self._origin.model}, "
                f"{self._origin.revision}",
                hint="the model and this package must be the same on every node",
            )

    def _give_up(self, lost: list[str], journal: Journal) -> Iterator[str]:
        """Journals records that killed every actor as failed. Raises ServiceError when these are all records."""
        if lost and len(lost) == len(self._records):
            raise ServiceError(
                "every Ray actor died before it had scored a record",
                hint="see Ray's logs; the usual cause is memory: use fewer or larger actors, or smaller batch_tokens",
            )
        error = f"each of {TRIES + 1} Ray actors that scored it died"
        journal.extend([journal_entry(Result(record_id, error=error, is_temporary=True), "", ()) for record_id in lost])
        yield from lost


def _invalid(records: Sequence[tuple[str, Messages]]) -> dict[str, str]:
    """Record → why its messages are invalid. They are found here because Arrow tables cannot hold all of them."""
    problems = {}
    for record_id, messages in records:
        try:
            check_messages(messages)
        except InputError as error:
            problems[record_id] = str(error)
    return problems


def _block_size(records: int, actors: int, most: int) -> int:
    """Records per block: few enough that all actors have work until the end, but not more than BLOCKS blocks."""
    even = -(-records // (4 * actors))
    return max(1, min(most, even), -(-records // BLOCKS))


def _blocks(records: list[tuple[str, Messages]], journalled: dict[str, str], size: int) -> Iterator[pa.Table]:
    """Tables of at most `size` records, with the schema INPUT. `journalled`: record → the key of its journal line."""
    from marginalia.scoring.engines.ray_actor import INPUT

    messages = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    schema = pl.Schema({"id": pl.String(), "messages": messages})
    for start in range(0, len(records), size):
        part = records[start : start + size]
        frame = pl.DataFrame(part, schema=schema, orient="row")
        keys = pl.Series("journal_key", [journalled.get(record_id) for record_id, _ in part], dtype=pl.String)
        yield frame.with_columns(keys).to_arrow().cast(INPUT)


class _Cluster:
    """A connected Ray cluster, on which `actors` actors run with `cpus` cores and `gpus` GPUs each."""

    def __init__(self, ray: Any, actors: int, cpus: int, gpus: float) -> None:
        self._ray = ray
        self.actors, self.cpus, self.gpus = actors, cpus, gpus

    def run(self, request: ScoreRequest, blocks: Iterator[pa.Table]) -> Iterator[list[dict[str, Any]]]:
        """The OUTPUT rows of each block, in any order. Blocks that kill their actors are left out.

        Raises ServiceError when more than BAD_BLOCKS blocks do, or when Ray itself fails."""
        with _quietly():
            answers = self._pipeline(request, blocks).iter_batches(batch_size=None, batch_format="pyarrow")
        try:
            for block in answers:
                yield block.to_pylist()
        except self._ray.exceptions.RayError as error:
            raise _ray_failure(error) from error

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


def _ray_failure(error: Exception) -> ServiceError:
    reason = next((line for line in reversed(str(error).strip().split("\n")) if line.strip()), type(error).__name__)
    return ServiceError(
        f"Ray failed: {reason.strip()[:400]}",
        hint="finished records are kept: run the same command to continue; every node needs this package and the model",
    )


@contextmanager
def _cluster(options: RayOptions) -> Iterator[_Cluster]:
    """Connects to the cluster at `options.address` (else $RAY_ADDRESS), or starts one here and stops it afterwards."""
    address = options.address or os.environ.get("RAY_ADDRESS") or None
    with _environment(address is None):
        with _quietly():
            import ray

            ours = not ray.is_initialized()
            if ours:
                with _own_signal_handler():
                    _connect(ray, address, options)
        try:
            yield _with_actors(ray, options, elastic=address is not None)
        finally:
            if ours:
                ray.shutdown()


@contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Keeps the handler of SIGTERM, which Ray replaces: its own ends the process without a message of ours."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppresses warnings: Ray uses APIs that it deprecates itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _connect(ray: Any, address: str | None, options: RayOptions) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            # a user may ask for more actors than there are cores; with the real number Ray would wait for cores forever
            cores = max(len(os.sched_getaffinity(0)), (options.actors or 1) * (options.cpus or 1))
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = first_line(error)
        if address is None:
            raise ServiceError(f"cannot start Ray on this machine: {reason}", hint="see Ray's logs") from error
        hint = "is it running? the address is the host:port of its head node"
        raise ServiceError(f"cannot connect to Ray at {address}: {reason}", hint=hint) from error


def _with_actors(ray: Any, options: RayOptions, *, elastic: bool) -> _Cluster:
    """The cluster with the number of actors asked for, or as many as fit on its nodes. `elastic`: more than fit may be
    asked for, as the cluster may grow. Raises InputError when not even one fits."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    gpus = options.gpus if options.gpus is not None else float(any(node.get("GPU", 0) >= 1 for node in nodes))
    if options.cpus is not None:
        cpus = options.cpus
    elif gpus:
        cpus = 1
    else:
        # the cores are divided among the actors asked for; an actor cannot span two nodes
        share = sum(int(node.get("CPU", 0)) for node in nodes) // options.actors if options.actors else 4
        cpus = max(1, min(share, largest))
    room = sum(_fits(node, cpus, gpus) for node in nodes)
    if room < 1 and not (elastic and options.actors):
        size = f"{cpus} core{'s' * (cpus != 1)}" + (f" and {gpus:g} GPU{'s' * (gpus != 1)}" if gpus else "")
        raise InputError(
            f"an actor with {size} fits on no node of the Ray cluster: the largest has {largest} cores",
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
    """Sets what Ray reads from the environment when it is imported and started, and restores it afterwards. `alone`:
    for a cluster of this machine only."""
    changes = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    if alone:
        # also on Linux: listen on 127.0.0.1 only, and require a password
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
