"""Records split by hash over jobs that know nothing of each other, and their tables put together again.

Shard i/n of scores.parquet lies in `scores.shards/i-of-n/`, with its own journal and lock, so that all shards may run
at once on a shared disk; `scores.shard.json` there says what it holds and what scored it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import ArtifactError, InputError
from marginalia.schemas.storage.files import content_hash, read_frame, read_model, sha256, write_json
from marginalia.schemas.storage.large_tables import write_frames
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.scoring.score_files import Messages, Origin, records_path

Records = Sequence[tuple[str, Messages]]
CHUNK = 20_000  # records whose scores are in memory at a time


class Shard(NamedTuple):
    """The `number`th (from 1) of `of` parts."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, record_id: str) -> bool:
        """Whether the record belongs here: by the hash of its id, whatever the other records are."""
        digest = hashlib.sha256(record_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


def parse_shard(text: str) -> Shard:
    """`2/4` → the second of four. Raises InputError."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard {text}: expected i/n with i from 1 to n, such as 2/4")
    return Shard(int(found[1]), int(found[2]))


def shard_path(out: Path, shard: Shard) -> Path:
    """Where that shard of the table `out` is written."""
    return _folder(out) / f"{shard.number}-of-{shard.of}" / out.name


def _folder(out: Path) -> Path:
    return out.parent / f"{out.stem}.shards"


class ShardFacts(StrictModel):
    """NAME.shard.json: what one shard holds, and what scored it."""

    shard: int = Field(description="from 1")
    of: int
    guard: str
    model: str
    revision: str
    rows: list[str] = Field(description="the labels, the verdict last")
    estimators: list[str]
    fingerprint: str = Field(description="hash of all that the numbers depend on: model, guard, labels, settings")
    notes: list[str]
    records: int
    records_sha256: str = Field(description="of the ids and messages, in their order")
    scores_sha256: str
    table_sha256: str = Field(description="of NAME.records.parquet")

    @property
    def place(self) -> Shard:
        return Shard(self.shard, self.of)


def finish_shard(out: Path, shard: Shard, records: Records, origin: Origin, estimators: Sequence[str]) -> None:
    """Says beside the shard's tables `out` what they are; a shard without this is not finished."""
    facts = ShardFacts(
        shard=shard.number,
        of=shard.of,
        guard=origin.guard,
        model=origin.model,
        revision=origin.revision,
        rows=list(origin.rows),
        estimators=list(estimators),
        fingerprint=origin.fingerprint,
        notes=list(origin.notes),
        records=len(records),
        records_sha256=_digest(records),
        scores_sha256=sha256(out),
        table_sha256=sha256(records_path(out)),
    )
    write_json(_facts_path(out), facts.model_dump(mode="json"))


def _facts_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}.shard.json")


def _digest(records: Records) -> str:
    digest = hashlib.sha256()
    for record_id, messages in records:
        digest.update(content_hash([record_id, list(messages)]).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Merged:
    """What was put together: facts of the first shard, all shards' notes, and the table of records."""

    facts: ShardFacts
    notes: list[str]
    table: pl.DataFrame


def merge_shards(out: Path, records: Records, command: Callable[[Shard], str]) -> Merged:
    """Writes `out` and its table of records from all shards, row for row as one job would have.

    `records` are those of the whole, in order; `command` is what scores a shard, for errors. Raises InputError when
    shards are missing, were scored differently or from other records; ArtifactError when a file is damaged."""
    found = _found(out, command)
    shards = [found[number] for number in sorted(found)]
    for facts in shards[1:]:
        _same(shards[0], facts, command)
    own: dict[Shard, list[str]] = {}
    for facts in shards:
        held = [record for record in records if facts.place.holds(record[0])]
        _check(out, facts, held, command)
        own[facts.place] = [record_id for record_id, _ in held]
    order = {record_id: position for position, (record_id, _) in enumerate(records)}
    tables = [_table(out, facts, own[facts.place], command) for facts in shards]
    table = _in_order(pl.concat(tables), order)
    write_frames(records_path(out), [table], ScoredRecord)
    write_frames(out, _scores(out, shards, table, order), LabelScore)
    return Merged(shards[0], list(dict.fromkeys(note for facts in shards for note in facts.notes)), table)


def _found(out: Path, command: Callable[[Shard], str]) -> dict[int, ShardFacts]:
    folder = _folder(out)
    names = [re.fullmatch(r"(\d+)-of-(\d+)", path.name) for path in sorted(folder.glob("*-of-*"))]
    places = [Shard(int(name[1]), int(name[2])) for name in names if name is not None]
    if not places:
        raise InputError.at(folder, "holds no shards", hint=f"score them first: {command(Shard(1, 4))}")
    if len(counts := sorted({place.of for place in places})) > 1:
        raise InputError.at(
            folder,
            f"holds shards of {counts[0]} and of {counts[1]}",
            hint=f"delete those that do not belong here, such as {folder}/*-of-{counts[0]}",
        )
    found = {}
    for number in range(1, counts[0] + 1):
        place = Shard(number, counts[0])
        path = _facts_path(shard_path(out, place))
        if not path.exists():
            what = "not finished" if place in places else "missing"
            raise InputError.at(folder, f"shard {place} is {what}", hint=command(place))
        found[number] = read_model(path, ShardFacts, made_by=command(place))
        if found[number].place != place:
            raise ArtifactError.at(path, f"says that it is shard {found[number].place}", hint=command(place))
    return found


def _same(first: ShardFacts, other: ShardFacts, command: Callable[[Shard], str]) -> None:
    if other.fingerprint == first.fingerprint and other.estimators == first.estimators:
        return
    named = ("guard", "model", "revision", "estimators", "rows")
    different = next((name for name in named if getattr(first, name) != getattr(other, name)), None)
    how = (
        f"another {different} ({getattr(other, different)}, not {getattr(first, different)})"
        if different
        else "other settings (dtype, tolerance, budget, guard file or taxonomy)"
    )
    raise InputError(
        f"shard {other.place} was scored with {how} than shard {first.place}", hint=f"again: {command(other.place)}"
    )


def _check(out: Path, facts: ShardFacts, held: Records, command: Callable[[Shard], str]) -> None:
    path = shard_path(out, facts.place)
    for file, expected in ((path, facts.scores_sha256), (records_path(path), facts.table_sha256)):
        if not file.exists() or sha256(file) != expected:
            raise ArtifactError.at(file, "is not what its shard wrote", hint=command(facts.place))
    if _digest(held) != facts.records_sha256:
        raise InputError(
            f"shard {facts.place} was scored from other records: it has {facts.records}, the file now gives it "
            f"{len(held)}" + (" with other ids, order or text" if len(held) == facts.records else ""),
            hint=command(facts.place),
        )


def _table(out: Path, facts: ShardFacts, ids: list[str], command: Callable[[Shard], str]) -> pl.DataFrame:
    path = records_path(shard_path(out, facts.place))
    table = read_frame(path, ScoredRecord, made_by=command(facts.place))
    if table["record_id"].to_list() != ids:
        raise ArtifactError.at(path, "does not hold just the records of its shard", hint=command(facts.place))
    return table


def _in_order(frame: pl.DataFrame, order: dict[str, int]) -> pl.DataFrame:
    position = pl.col("record_id").replace_strict(order, return_dtype=pl.Int64)
    return frame.sort(position, maintain_order=True)


def _scores(out: Path, shards: list[ShardFacts], table: pl.DataFrame, order: dict[str, int]) -> Iterator[pl.DataFrame]:
    """The scores in the order of the records, some thousand records at a time: each shard has its own in that order,
    and as many rows for each of them."""
    height = len(shards[0].rows) * len(shards[0].estimators)
    scored = table.filter(pl.col("error").is_null())["record_id"].to_list()
    at = dict.fromkeys((facts.place for facts in shards), 0)
    if not scored:
        yield LabelScore.frame([])
    for start in range(0, len(scored), CHUNK):
        parts = []
        chunk = scored[start : start + CHUNK]
        for place in at:
            wanted = [record_id for record_id in chunk if place.holds(record_id)]
            path = shard_path(out, place)
            part = pl.scan_parquet(path).slice(at[place], len(wanted) * height).collect()
            if part["record_id"].unique(maintain_order=True).to_list() != wanted or part.height != len(wanted) * height:
                raise ArtifactError.at(path, f"does not hold {height} rows for each of its scored records")
            at[place] += part.height
            parts.append(part)
        yield _in_order(pl.concat(parts), order)
