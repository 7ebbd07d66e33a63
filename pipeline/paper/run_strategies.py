"""Runs the paper's strategies and our estimators on the same records, with a journal for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from marginalia.pipeline.paper.labelled_records import Labelled
from marginalia.pipeline.paper.metric_table import (
    Cost,
    PaperTable,
    TableLine,
    empty_line,
    flags,
    labelled_line,
    matrix,
    scored_line,
)
from marginalia.schemas.errors import ModelError
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.progress import progress
from marginalia.schemas.storage.files import write_json, write_text
from marginalia.schemas.storage.journal import Journal, read_journal
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.paper import published_procedures
from marginalia.scoring.paper.strategies import BASELINES, SCORES, Strategies
from marginalia.scoring.score_files import record_key, score_to_journal, tables
from marginalia.scoring.scorer import Scorer

PUBLISHED_JOURNAL, OUR_JOURNAL = "published.journal.jsonl", "marginalia.journal.jsonl"
TABLE_JSON, TABLE_CSV = "paper.json", "paper.csv"
NO_CUT = "no record has all labels judged, so their cut-off cannot be chosen"
OURS = ("conditional", "joint", "marginal", "marginal_in_language", "marginal_constrained")


@dataclass(frozen=True)
class PaperSettings:
    """The settings of the paper: nucleus and smallest prefix probability of its searches, threshold of all scores."""

    top_p: float
    eps: float
    threshold: float


def written_files(out: Path) -> list[Path]:
    """All files that the command writes into the folder `out`."""
    return [out / name for name in (TABLE_JSON, TABLE_CSV, PUBLISHED_JOURNAL, OUR_JOURNAL, ".lock")]


def compare(
    scorer: Scorer, records: Sequence[Labelled], settings: PaperSettings, out: Path, *, notes: Sequence[str] = ()
) -> PaperTable:
    """Scores the records that are not in the journals in `out`, and writes paper.json and paper.csv there.

    Raises InputError if the paper's procedures do not fit the guard, ModelError if no record could be scored."""
    strategies = Strategies(scorer, top_p=settings.top_p, eps=settings.eps)
    texts = [(record.id, record.messages) for record in records]
    published = _published(strategies, texts, out / PUBLISHED_JOURNAL)
    journal = out / OUR_JOURNAL
    done = score_to_journal(scorer, texts, journal)
    for _ in progress(done, total=len(texts), unit="record", what="marginalia"):
        pass
    scores, scored_records = tables(journal, [record.id for record in records], scorer.settings.estimators)
    failed = {entry["id"]: entry["error"] for entry in published.values() if entry["error"] is not None}
    failed |= dict(scored_records.filter(pl.col("error").is_not_null()).select("record_id", "error").iter_rows())
    kept = [record for record in records if record.id not in failed]
    if not kept:
        raise ModelError(f"no record could be scored; the first: {next(iter(failed.values()))}")
    scored_records = scored_records.filter(~pl.col("record_id").is_in(list(failed)))
    ours = _ours(scores.filter(~pl.col("record_id").is_in(list(failed))), len(kept), scorer)
    entries = [published[record.id] for record in kept]
    labels = list(scorer.guard.labels)
    truth, judged = flags([record.labels for record in kept], labels), _judged(kept, labels)
    table = PaperTable(
        model=scorer.model.name,
        guard=scorer.guard.name,
        labels=labels,
        records=len(kept),
        failed=len(failed),
        top_p=settings.top_p,
        eps=settings.eps,
        tolerance=scorer.settings.tolerance,
        node_budget=scorer.settings.node_budget,
        off_language=_mean(scored_records["off_language"].to_list()),
        widest=float((ours["upper"] - ours["lower"]).max()),
        lines=[
            *_paper_lines(strategies, entries, kept, settings.threshold),
            *(scored_line(name, "marginalia", truth, judged, ours[name], settings.threshold) for name in OURS),
        ],
        cost=Cost(
            any_place_passes=_mean([entry["passes"] for entry in entries]),
            published_seconds=_mean([entry["seconds"] for entry in entries]),
            marginalia_passes=_mean(scored_records["forward_passes"].to_list()),
            marginalia_nodes=_mean(scored_records["nodes"].to_list()),
            marginalia_seconds=_mean(scored_records["seconds"].to_list()),
        ),
        notes=[*notes, *_notes(strategies, failed)],
    )
    write_json(out / TABLE_JSON, table.model_dump(mode="json"))
    write_text(out / TABLE_CSV, table.csv())
    return table


def _published(strategies: Strategies, texts: Sequence[tuple[str, Any]], path: Path) -> dict[str, dict[str, Any]]:
    """The latest journal entry of each record. Runs the strategies on records that have none, or only a failed one."""
    fingerprint = strategies.fingerprint
    keys = {record_id: record_key(fingerprint, messages) for record_id, messages in texts}
    entries = {
        entry["id"]: entry
        for entry in read_journal(path, ("id", "key", "error"))
        if keys.get(entry["id"]) == entry["key"]
    }
    entries = {record_id: entry for record_id, entry in entries.items() if entry["error"] is None}
    todo = [(record_id, messages) for record_id, messages in texts if record_id not in entries]
    with (
        Journal(path) as journal,
        progress(total=len(texts), done=len(entries), unit="record", what="the paper's") as bar,
    ):
        for entry in strategies.run(todo):
            journal.append(entry)
            entries[entry["id"]] = entry
            bar.update()
    return entries


def _paper_lines(
    strategies: Strategies, entries: Sequence[dict[str, Any]], records: Sequence[Labelled], threshold: float
) -> list[TableLine]:
    """The lines of the paper's strategies, from the journal entries of the records."""
    codes = strategies.codes
    code_of = {category.id: category.code for category in strategies.scorer.guard.categories}
    gold = [[code_of[label] for label in record.labels if label in code_of] for record in records]
    truth = flags(gold, codes)
    judged = _judged(records, [category.id for category in strategies.scorer.guard.categories])
    lines = [labelled_line("greedy", truth, judged, flags([entry["greedy"] for entry in entries], codes))]
    # as in the published code: data with safe records get a safety check first
    unsafe = [index for index, entry in enumerate(entries) if all(gold) or entry.get("flagged")]
    complete = [index for index in unsafe if judged[index].all()]  # only they show whether a second label is right
    why_not = strategies.why_not or (NO_CUT if unsafe and not complete else None)
    for baseline in BASELINES:
        if why_not is not None:
            lines.append(empty_line(baseline, len(entries), why_not))
            continue
        predicted: list[list[str]] = [[] for _ in entries]
        if unsafe:
            logits = [entries[index]["logits"] for index in complete]
            cut = published_procedures.choose_cut(logits, [gold[index] for index in complete], baseline)
            logits = [entries[index]["logits"] for index in unsafe]
            for index, labels in zip(unsafe, published_procedures.cut_labels(logits, cut, baseline), strict=True):
                predicted[index] = labels
        lines.append(labelled_line(baseline, truth, judged, flags(predicted, codes)))
    for name in SCORES:
        scores = matrix([entry[name] for entry in entries], codes)
        lines.append(scored_line(name, "paper", truth, judged, scores, threshold))
    return lines


def _judged(records: Sequence[Labelled], labels: Sequence[str]) -> Flags:
    """(n, L): whether each label was judged in each record."""
    return flags([labels if record.judged is None else record.judged for record in records], labels)


def _ours(scores: pl.DataFrame, records: int, scorer: Scorer) -> dict[str, Array]:
    """An (n, L) array for each name in OURS, and the bounds of the marginal as `lower` and `upper`."""
    labels = scores.filter(pl.col("label") != UNSAFE)
    shape = (records, len(scorer.guard.labels))
    probabilities = {
        name: np.asarray(labels.filter(pl.col("estimator") == name)["probability"]).reshape(shape) for name in OURS
    }
    marginal = labels.filter(pl.col("estimator") == "marginal")
    return probabilities | {end: np.asarray(marginal[end]).reshape(shape) for end in ("lower", "upper")}


def _notes(strategies: Strategies, failed: dict[str, str]) -> list[str]:
    notes = [*strategies.scorer.prompts.notes, *strategies.scorer.model.notes]
    if strategies.forced is not None:
        notes += [
            f"{', '.join(codes)} share their second token: the baselines cannot tell them apart"
            for codes in strategies.forced.indistinguishable_codes
        ]
    if failed:
        first, error = next(iter(failed.items()))
        records = "1 record" if len(failed) == 1 else f"{len(failed):,} records"
        notes.append(f"{records} could not be scored and are left out, first '{first}': {error}")
    return notes


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
