"""Results on disk: a journal during scoring, and two tables when it is done.

Each scored record is one line of the journal, so a killed job loses at most the current batch. A line contains a hash
of everything that its numbers depend on; when the model, the guard, a setting or the record's text has changed, the
line is ignored and the record is scored again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
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
ADDED = ScoredRecord.added_later()  # facts that the lines of older versions lack
CHUNK = 2000  # records whose scores are in memory at a time


@dataclass(frozen=True)
class Origin:
    """What scored the records. `fingerprint`: hash of everything that the numbers depend on; `rows`: the labels of the
    tables, the verdict last; `notes`: what readers of the scores should know."""

    fingerprint: str
    guard: str
    model: str
    revision: str
    rows: tuple[str, ...]
    notes: tuple[str, ...]


def origin_of(scorer: Scorer) -> Origin:
    """The origin of this scorer's results. Its notes may grow while it scores."""
    model, guard = scorer.model, scorer.guard
    notes = (*model.notes, *scorer.prompt_notes, *scorer.notes)
    return Origin(scorer_fingerprint(scorer), guard.name, model.name, model.revision, guard.rows, notes)


def record_key(fingerprint: str, messages: Messages) -> str:
    """Hash of everything that a record's numbers depend on: the scorer's fingerprint and the record's messages."""
    try:
        return content_hash([fingerprint, list(messages)])
    except (TypeError, ValueError, RecursionError):  # not messages; the scorer says so in the record's row
        return content_hash([fingerprint, repr(messages)[:1000]])


def score_to_journal(scorer: Scorer, records: Sequence[tuple[str, Messages]], journal_path: Path) -> Iterator[str]:
    """Scores the records that are not yet in the journal, and yields the id of every record once it is on disk."""
    fingerprint = scorer_fingerprint(scorer)
    keys = {record_id: record_key(fingerprint, messages) for record_id, messages in records}
    journalled = {record_id for record_id, key in latest_keys(journal_path).items() if keys.get(record_id) == key}
    yield from sorted(journalled)
    with Journal(journal_path) as journal:
        for results in scorer.score_batches(records, journalled):
            journal.extend([journal_entry(result, keys[result.record_id], scorer.guard.rows) for result in results])
            yield from (result.record_id for result in results)
    scorer.measure(records)


def journal_failures(journal_path: Path, errors: Mapping[str, str]) -> None:
    """Journals the records (id → error) that no scorer can be given, so that the tables contain them."""
    if errors:
        with Journal(journal_path) as journal:
            journal.extend([journal_entry(Result(name, error=why), "", ()) for name, why in errors.items()])


def latest_keys(journal: Path) -> dict[str, str]:
    """Record id → the key of its latest line, from which the tables are made. Failed records are left out, so that they
    are tried again."""
    keys: dict[str, str] = {}
    for entry in read_journal(journal, KEYS, check_entry):
        if entry["error"] is None:
            keys[entry["id"]] = entry["key"]
        else:
            keys.pop(entry["id"], None)
    return keys


def scorer_fingerprint(scorer: Scorer) -> str:
    """Hash of everything that a scorer's numbers depend on: model, revision, dtype, guard, labels, estimators,
    limits."""
    model, guard, settings = scorer.model, scorer.guard, scorer.settings
    return content_hash(
        {
            "model": model.identity,
            "guard": guard.file.model_dump(mode="json"),
            "categories": [vars(category) for category in guard.categories],
            "estimators": sorted(settings.estimators),
            "sampling": [settings.samples, settings.seed] if "monte_carlo" in settings.estimators else None,
            "limits": [settings.tolerance, settings.node_budget, settings.answer_tokens],
            **({} if guard.covered is None else {"covered": [vars(label) for label in guard.covered]}),
        }
    )


def journal_entry(result: Result, key: str, rows: Sequence[str]) -> dict[str, Any]:
    """The journal line of a result. `rows`: the labels of its scores."""
    scores = {
        name: [_or_null(estimates.probability.tolist()), estimates.lower.tolist(), estimates.upper.tolist()]
        for name, estimates in result.estimates.items()
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
        **({} if result.levels is None else {"levels": result.levels}),
        **({"passing": result.is_temporary} if result.error is not None else {}),
    }


def _or_null(probabilities: list[float]) -> list[float | None]:
    """The probabilities, with null for NaN: JSON has no NaN."""
    return [None if isnan(probability) else probability for probability in probabilities]


def write_tables(
    out: Path,
    record_ids: Sequence[str],
    estimators: Sequence[str],
    change: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Writes OUT.parquet (LabelScore) and OUT.records.parquet (ScoredRecord) from the journal next to them, in the
    order of `record_ids`. Returns the table of records. `change` is applied to the scores of 2,000 records at a time.

    The table of scores (records × estimators × labels) is never in memory as a whole. The table of records is written
    first, so that it exists whenever the table of scores does."""
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
    """(table of LabelScore, table of ScoredRecord) in the order of `record_ids`, from each record's latest journal
    line."""
    latest = _latest(journal_path, record_ids)
    return pl.concat(_scores(journal_path, latest, estimators)), _records(latest)


@dataclass(frozen=True, slots=True)
class _Line:
    """A record's latest journal line: the byte at which it starts, and its row of the table of records."""

    offset: int
    row: tuple[Any, ...]


def _latest(journal: Path, record_ids: Sequence[str]) -> dict[str, _Line]:
    """The latest line of each record that has one, in the order of `record_ids`."""
    latest: dict[str, _Line | None] = dict.fromkeys(record_ids)
    for offset, entry in read_with_offsets(journal, KEYS, check_entry):
        if entry["id"] in latest:
            latest[entry["id"]] = _Line(offset, _row(entry))
    return {record_id: line for record_id, line in latest.items() if line is not None}


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    """The row of the table of records, in the order of its columns."""
    return (entry["id"], *(entry.get(name) or None if name in ADDED else entry[name] for name in FACTS))


def _records(latest: dict[str, _Line]) -> pl.DataFrame:
    rows = [dict(zip(("record_id", *FACTS), line.row, strict=True)) for line in latest.values()]
    return ScoredRecord.frame(rows)


def _scores(journal: Path, latest: dict[str, _Line], estimators: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Tables of LabelScore, each of CHUNK records; at least one table."""
    lines = list(latest.values())
    for start in range(0, max(len(lines), 1), CHUNK):
        yield _score_table(read_at(journal, [line.offset for line in lines[start : start + CHUNK]]), estimators)


def _score_table(entries: Iterable[dict[str, Any]], estimators: Sequence[str]) -> pl.DataFrame:
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
    """The path of the table of records: `scores.records.parquet` next to `scores.parquet`."""
    return out.with_name(f"{out.stem}.records{out.suffix}")


def written_files(out: Path) -> tuple[Path, ...]:
    """All files that scoring into `out` writes."""
    return out, records_path(out), journal_path(out), out.parent / ".lock"


def journal_path(out: Path) -> Path:
    """The path of the journal: `scores.journal.jsonl` next to `scores.parquet`."""
    return out.with_name(f"{out.stem}.journal.jsonl")
