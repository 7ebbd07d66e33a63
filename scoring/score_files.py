"""Results on disk: a journal while scoring goes on, two tables when it is done.

Each scored record is one line of the journal, so a killed job loses at most the batch under way. A line carries a
hash of everything its numbers depend on; when the model, the guard, a setting or the record's text has changed, it is
passed over and the record is scored again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from marginalia.schemas.storage.files import content_hash, write_frame
from marginalia.schemas.storage.journal import Journal, read_at, read_journal, read_with_offsets
from marginalia.schemas.storage.large_tables import write_frames
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.scoring.score_journal_entry import KEYS, check_entry
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer

Messages = Sequence[dict[str, str]]
FACTS = tuple(name for name in ScoredRecord.model_fields if name != "record_id")
CHUNK = 2000  # records whose scores are in memory at a time


@dataclass(frozen=True)
class Origin:
    """Who scored. `fingerprint` is the hash of everything that the numbers depend on; `rows` are the labels of the
    tables, the verdict last."""

    fingerprint: str
    guard: str
    model: str
    revision: str
    rows: tuple[str, ...]
    notes: tuple[str, ...]


def origin_of(scorer: Scorer) -> Origin:
    model, guard = scorer.model, scorer.guard
    notes = (*model.notes, *scorer.prompts.notes, *scorer.notes)
    return Origin(scorer_fingerprint(scorer), guard.name, model.name, model.revision, guard.rows, notes)


def record_key(fingerprint: str, messages: Messages) -> str:
    """Hash of everything that a record's numbers depend on."""
    return content_hash([fingerprint, list(messages)])


def score_to_journal(scorer: Scorer, records: Sequence[tuple[str, Messages]], journal_path: Path) -> Iterator[str]:
    """Scores the records that the journal does not hold yet; yields the id of each record once it is on disk."""
    fingerprint = scorer_fingerprint(scorer)
    wanted = {record_id: record_key(fingerprint, messages) for record_id, messages in records}
    held = {record_id for record_id, key in latest_keys(journal_path).items() if wanted.get(record_id) == key}
    yield from sorted(held)
    with Journal(journal_path) as journal:
        for results in scorer.score_batches(records, held):
            journal.extend([journal_entry(result, wanted[result.record_id], scorer.guard.rows) for result in results])
            yield from (result.record_id for result in results)
    scorer.measure(records)


def latest_keys(journal: Path) -> dict[str, str]:
    """Record → the key of its latest line, for the tables are made of those; without the records that failed, which
    are tried again."""
    found: dict[str, str] = {}
    for entry in read_journal(journal, KEYS, check_entry):
        if entry["error"] is None:
            found[entry["id"]] = entry["key"]
        else:
            found.pop(entry["id"], None)
    return found


def scorer_fingerprint(scorer: Scorer) -> str:
    """Hash of what the numbers depend on: model, revision, dtype, guard, labels, estimators, limits."""
    model, guard, settings = scorer.model, scorer.guard, scorer.settings
    return content_hash(
        {
            "model": model.identity,
            "guard": guard.file.model_dump(mode="json"),
            "categories": [vars(category) for category in guard.categories],
            "estimators": sorted(settings.estimators),
            "sampling": [settings.samples, settings.seed] if "monte_carlo" in settings.estimators else None,
            "limits": [settings.tolerance, settings.node_budget, settings.answer_tokens],
        }
    )


def journal_entry(result: Result, key: str, rows: Sequence[str]) -> dict[str, Any]:
    """A record's line. `rows` are the labels of its scores."""
    scores = {
        name: [found.probability.tolist(), found.lower.tolist(), found.upper.tolist()]
        for name, found in result.estimates.items()
    }
    return {
        "id": result.record_id,
        "key": key,
        "rows": list(rows) if scores else [],
        "scores": scores,
        "answer": result.answer,
        "predicted": result.predicted,
        "off_language": result.off_language,
        "unexplored": result.unexplored,
        "nodes": result.nodes,
        "forward_passes": result.forward_passes,
        "seconds": round(result.seconds, 4),
        "stopped": result.stopped,
        "error": result.error,
        **({"passing": result.passing} if result.error is not None else {}),
    }


def write_tables(
    out: Path,
    record_ids: Sequence[str],
    estimators: Sequence[str],
    change: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Writes OUT.parquet (LabelScore) and OUT.records.parquet (ScoredRecord) from the journal beside them, in the order
    of `record_ids`; returns the latter. `change` is applied to the scores of 2,000 records at a time.

    The table of scores (records × estimators × labels) is never in memory as a whole. The records are written first:
    who sees the scores finds both."""
    journal = journal_path(out)
    latest = _latest(journal, record_ids)
    records = _records(latest)
    write_frame(records_path(out), records, ScoredRecord)
    pieces = _scores(journal, latest, estimators)
    write_frames(out, pieces if change is None else map(change, pieces), LabelScore)
    return records


def tables(
    journal_path: Path, record_ids: Sequence[str], estimators: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(LabelScore rows, ScoredRecord rows) in the order of `record_ids`, from the latest journal line of each."""
    latest = _latest(journal_path, record_ids)
    return pl.concat(_scores(journal_path, latest, estimators)), _records(latest)


@dataclass(frozen=True, slots=True)
class _Line:
    """A record's latest line: the byte at which it starts, and its row in the table of records."""

    place: int
    row: tuple[Any, ...]


def _latest(journal: Path, record_ids: Sequence[str]) -> dict[str, _Line]:
    """The latest line of each record that has one, in the order of `record_ids`."""
    found: dict[str, _Line | None] = dict.fromkeys(record_ids)
    for place, entry in read_with_offsets(journal, KEYS, check_entry):
        if entry["id"] in found:
            found[entry["id"]] = _Line(place, (entry["id"], *(entry[name] for name in FACTS)))
    return {record_id: line for record_id, line in found.items() if line is not None}


def _records(latest: dict[str, _Line]) -> pl.DataFrame:
    rows = [dict(zip(("record_id", *FACTS), line.row, strict=True)) for line in latest.values()]
    return ScoredRecord.frame(rows)


def _scores(journal: Path, latest: dict[str, _Line], estimators: Sequence[str]) -> Iterator[pl.DataFrame]:
    """LabelScore rows, those of CHUNK records at a time; at least one frame."""
    lines = list(latest.values())
    for start in range(0, max(len(lines), 1), CHUNK):
        yield _long(read_at(journal, [line.place for line in lines[start : start + CHUNK]]), estimators)


def _long(entries: Iterable[dict[str, Any]], estimators: Sequence[str]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in LabelScore.model_fields}
    for entry in entries:
        for estimator in estimators:
            if estimator not in entry["scores"]:
                continue
            probability, lower, upper = entry["scores"][estimator]
            count = len(probability)
            columns["record_id"] += [entry["id"]] * count
            columns["estimator"] += [estimator] * count
            columns["label"] += entry["rows"]
            columns["probability"] += probability
            columns["lower"] += lower
            columns["upper"] += upper
    return pl.DataFrame(columns, schema=LabelScore.polars_schema())


def records_path(out: Path) -> Path:
    """`scores.records.parquet` beside `scores.parquet`."""
    return out.with_name(f"{out.stem}.records{out.suffix}")


def journal_path(out: Path) -> Path:
    """`scores.journal.jsonl` beside `scores.parquet`."""
    return out.with_name(f"{out.stem}.journal.jsonl")
