"""Splits records by hash over independent jobs (shards), and merges the shards' tables.

Shard i/n of scores.parquet is in `scores.shards/i-of-n/`, with its own journal and lock, so that all shards can run at
once on a shared disk; `scores.shard.json` there says which records it contains and what scored them."""

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
from marginalia.schemas.storage.regular_files import path_inside
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.scoring.score_files import Messages, Origin, records_path, written_files

Records = Sequence[tuple[str, Messages]]
CHUNK = 20_000  # records whose scores are in memory at a time


class Shard(NamedTuple):
    """The `number`th (from 1) of `of` parts."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, record_id: str) -> bool:
        """Whether the record belongs to this shard. Depends only on the hash of its id, not on other records."""
        digest = hashlib.sha256(record_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


def parse_shard(text: str) -> Shard:
    """The shard that `text` names, such as `2/4` for the second of four. Raises InputError."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard {text}: expected i/n with i from 1 to n, such as 2/4")
    return Shard(int(found[1]), int(found[2]))


def shard_path(out: Path, shard: Shard) -> Path:
    """The path of this shard's part of the table `out`. Raises InputError when a symbolic link is on it."""
    return path_inside(out.parent, f"{_folder(out).name}/{shard.number}-of-{shard.of}/{out.name}")


def written_by_shard(out: Path, shard: Shard) -> tuple[Path, ...]:
    """All files that scoring this shard of `out` writes."""
    path = shard_path(out, shard)
    return *written_files(path), _facts_path(path)


def _folder(out: Path) -> Path:
    return out.parent / f"{out.stem}.shards"


class ShardFacts(StrictModel):
    """NAME.shard.json: what one shard contains, and what scored it."""

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
    def as_shard(self) -> Shard:
        """Which shard it is."""
        return Shard(self.shard, self.of)


def finish_shard(out: Path, shard: Shard, records: Records, origin: Origin, estimators: Sequence[str]) -> None:
    """Writes NAME.shard.json next to the shard's tables `out`. A shard without this file is not finished."""
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
    """Merged shards: the facts of the first one, the notes of all, and the table of records (ScoredRecord)."""

    facts: ShardFacts
    notes: list[str]
    table: pl.DataFrame


def merge_shards(out: Path, records: Records, command: Callable[[Shard], str]) -> Merged:
    """Writes `out` and its table of records from all shards, with the same rows that one job would write.

    `records`: those of all shards, in the order of the table; `command`: the command that scores a shard, for errors.
    Raises InputError when shards are missing, or were scored with other settings or from other records; ArtifactError
    when a file is damaged."""
    found = _read_facts(out, command)
    shards = [found[number] for number in sorted(found)]
    for facts in shards[1:]:
        _check_settings(shards[0], facts, command)
    ids: dict[Shard, list[str]] = {}
    for facts in shards:
        shard_records = [record for record in records if facts.as_shard.holds(record[0])]
        _check_contents(out, facts, shard_records, command)
        ids[facts.as_shard] = [record_id for record_id, _ in shard_records]
    order = {record_id: position for position, (record_id, _) in enumerate(records)}
    tables = [_table(out, facts, ids[facts.as_shard], command) for facts in shards]
    table = _in_order(pl.concat(tables), order)
    write_frames(records_path(out), [table], ScoredRecord)
    write_frames(out, _scores(out, shards, table, order), LabelScore)
    return Merged(shards[0], list(dict.fromkeys(note for facts in shards for note in facts.notes)), table)


def _read_facts(out: Path, command: Callable[[Shard], str]) -> dict[int, ShardFacts]:
    folder = _folder(out)
    matches = [re.fullmatch(r"(\d+)-of-(\d+)", path.name) for path in sorted(folder.glob("*-of-*"))]
    shards = [Shard(int(match[1]), int(match[2])) for match in matches if match is not None]
    if not shards:
        raise InputError.at(folder, "contains no shards", hint=f"score them first: {command(Shard(1, 4))}")
    if len(counts := sorted({shard.of for shard in shards})) > 1:
        raise InputError.at(
            folder,
            f"contains shards of a job with {counts[0]} parts and of one with {counts[1]}",
            hint=f"delete those that you do not need, such as {folder}/*-of-{counts[0]}",
        )
    facts = {}
    for number in range(1, counts[0] + 1):
        shard = Shard(number, counts[0])
        path = _facts_path(shard_path(out, shard))
        if not path.exists():
            state = "not finished" if shard in shards else "missing"
            raise InputError.at(folder, f"shard {shard} is {state}", hint=command(shard))
        facts[number] = read_model(path, ShardFacts, made_by=command(shard))
        if facts[number].as_shard != shard:
            raise ArtifactError.at(path, f"is of shard {facts[number].as_shard}, expected {shard}", hint=command(shard))
    return facts


def _check_settings(first: ShardFacts, other: ShardFacts, command: Callable[[Shard], str]) -> None:
    if other.fingerprint == first.fingerprint and other.estimators == first.estimators:
        return
    fields = {
        "guard": "guards",
        "model": "models",
        "revision": "revisions",
        "estimators": "estimators",
        "rows": "labels",
    }
    different = next((name for name in fields if getattr(first, name) != getattr(other, name)), None)
    difference = "settings (dtype, tolerance, budget, guard file or taxonomy)"
    if different is not None:
        difference = f"{fields[different]}: {getattr(first, different)} and {getattr(other, different)}"
    raise InputError(
        f"shards {first.as_shard} and {other.as_shard} were scored with different {difference}",
        hint=f"score {other.as_shard} again: {command(other.as_shard)}",
    )


def _check_contents(out: Path, facts: ShardFacts, records: Records, command: Callable[[Shard], str]) -> None:
    path = shard_path(out, facts.as_shard)
    for file, expected in ((path, facts.scores_sha256), (records_path(path), facts.table_sha256)):
        if not file.exists() or sha256(file) != expected:
            raise ArtifactError.at(file, "has changed since its shard was scored", hint=command(facts.as_shard))
    if _digest(records) != facts.records_sha256:
        difference = f"it has {facts.records}, and the file of records now has {len(records)} for it"
        if len(records) == facts.records:
            difference = "their ids, texts or order have changed"
        problem = f"shard {facts.as_shard} was scored from other records: {difference}"
        raise InputError(problem, hint=command(facts.as_shard))


def _table(out: Path, facts: ShardFacts, ids: list[str], command: Callable[[Shard], str]) -> pl.DataFrame:
    path = records_path(shard_path(out, facts.as_shard))
    table = read_frame(path, ScoredRecord, made_by=command(facts.as_shard))
    if table["record_id"].to_list() != ids:
        raise ArtifactError.at(path, "does not contain exactly the records of its shard", hint=command(facts.as_shard))
    return table


def _in_order(frame: pl.DataFrame, order: dict[str, int]) -> pl.DataFrame:
    position = pl.col("record_id").replace_strict(order, return_dtype=pl.Int64)
    return frame.sort(position, maintain_order=True)


def _scores(out: Path, shards: list[ShardFacts], table: pl.DataFrame, order: dict[str, int]) -> Iterator[pl.DataFrame]:
    """The scores in the order of the records, CHUNK records at a time. Relies on each shard having its records in that
    order, with the same number of rows for each."""
    height = len(shards[0].rows) * len(shards[0].estimators)
    scored = table.filter(pl.col("error").is_null())["record_id"].to_list()
    next_rows = dict.fromkeys((facts.as_shard for facts in shards), 0)
    if not scored:
        yield LabelScore.frame([])
    for start in range(0, len(scored), CHUNK):
        parts = []
        chunk = scored[start : start + CHUNK]
        for shard in next_rows:
            ids = [record_id for record_id in chunk if shard.holds(record_id)]
            path = shard_path(out, shard)
            part = pl.scan_parquet(path).slice(next_rows[shard], len(ids) * height).collect()
            if part["record_id"].unique(maintain_order=True).to_list() != ids or part.height != len(ids) * height:
                raise ArtifactError.at(path, f"does not contain {height} rows for each of its scored records")
            next_rows[shard] += part.height
            parts.append(part)
        yield _in_order(pl.concat(parts), order)
