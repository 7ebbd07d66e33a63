"""Both sides over the same records: the paper's strategies and our estimators, each journalled record by record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

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
from marginalia.schemas.storage.files import content_hash, write_json, write_text
from marginalia.schemas.storage.journal import Journal, read_journal
from marginalia.scoring.measures.intervals import Array
from marginalia.scoring.paper import published_procedures
from marginalia.scoring.paper.strategies import BASELINES, SCORES, Strategies
from marginalia.scoring.score_files import score_to_journal, tables
from marginalia.scoring.scorer import Scorer

OURS = ("conditional", "joint", "marginal", "marginal_in_language", "marginal_constrained")


@dataclass(frozen=True)
class Asked:
    """The paper's settings: nucleus and smallest mass of its searches, and the threshold of all scores."""

    top_p: float
    eps: float
    threshold: float


def compare(
    scorer: Scorer, records: Sequence[Labelled], asked: Asked, out: Path, *, notes: Sequence[str] = ()
) -> PaperTable:
    """Scores what the journals in `out` do not hold yet, and writes paper.json and paper.csv there.

    Raises InputError where the paper's procedures do not fit the guard, ModelError when no record could be scored."""
    strategies = Strategies(scorer, top_p=asked.top_p, eps=asked.eps)
    texts = [(record.id, record.messages) for record in records]
    theirs = _published(strategies, texts, out / "published.journal.jsonl")
    journal = out / "marginalia.journal.jsonl"
    done = score_to_journal(scorer, texts, journal)
    for _ in tqdm(done, total=len(texts), unit="record", desc="marginalia", disable=None):
        pass
    scores, told = tables(journal, [record.id for record in records], scorer.settings.estimators)
    failed = {one["id"]: one["error"] for one in theirs.values() if one["error"] is not None}
    failed |= dict(told.filter(pl.col("error").is_not_null()).select("record_id", "error").iter_rows())
    kept = [record for record in records if record.id not in failed]
    if not kept:
        raise ModelError(f"no record could be scored; the first: {next(iter(failed.values()))}")
    told = told.filter(~pl.col("record_id").is_in(list(failed)))
    ours = _ours(scores.filter(~pl.col("record_id").is_in(list(failed))), len(kept), scorer)
    found = [theirs[record.id] for record in kept]
    labels, settings = list(scorer.guard.labels), scorer.settings
    truth = flags([record.labels for record in kept], labels)
    table = PaperTable(
        model=scorer.model.name,
        guard=scorer.guard.name,
        labels=labels,
        records=len(kept),
        failed=len(failed),
        top_p=asked.top_p,
        eps=asked.eps,
        tolerance=settings.tolerance,
        node_budget=settings.node_budget,
        off_language=_mean(told["off_language"].to_list()),
        widest=float((ours["upper"] - ours["lower"]).max()),
        lines=[
            *_their_lines(strategies, found, kept, asked.threshold),
            *(scored_line(name, "marginalia", truth, ours[name], asked.threshold) for name in OURS),
        ],
        cost=Cost(
            any_place_passes=_mean([one["passes"] for one in found]),
            published_seconds=_mean([one["seconds"] for one in found]),
            marginalia_passes=_mean(told["forward_passes"].to_list()),
            marginalia_nodes=_mean(told["nodes"].to_list()),
            marginalia_seconds=_mean(told["seconds"].to_list()),
        ),
        notes=[*notes, *_notes(strategies, failed)],
    )
    write_json(out / "paper.json", table.model_dump(mode="json"))
    write_text(out / "paper.csv", table.csv())
    return table


def _published(strategies: Strategies, texts: Sequence[tuple[str, Any]], path: Path) -> dict[str, dict[str, Any]]:
    """The latest journal entry of each record, after those that are missing were made."""
    fingerprint = strategies.fingerprint
    wanted = {record_id: content_hash([fingerprint, list(messages)]) for record_id, messages in texts}
    held = {entry["id"]: entry for entry in read_journal(path) if wanted.get(entry["id"]) == entry["key"]}
    held = {record_id: entry for record_id, entry in held.items() if entry["error"] is None}  # failed: tried again
    todo = [(record_id, messages) for record_id, messages in texts if record_id not in held]
    with (
        Journal(path) as journal,
        tqdm(total=len(texts), initial=len(held), unit="record", desc="the paper's", disable=None) as bar,
    ):
        for entry in strategies.run(todo):
            journal.append(entry)
            held[entry["id"]] = entry
            bar.update()
    return held


def _their_lines(
    strategies: Strategies, found: Sequence[dict[str, Any]], records: Sequence[Labelled], at: float
) -> list[TableLine]:
    codes = strategies.codes
    code_of = {category.id: category.code for category in strategies.scorer.guard.categories}
    right = [[code_of[label] for label in record.labels if label in code_of] for record in records]
    truth = flags(right, codes)
    lines = [labelled_line("greedy", truth, flags([one["greedy"] for one in found], codes))]
    # as the published code does: only data that hold safe records get a safety check before
    asked = [place for place, one in enumerate(found) if all(right) or one.get("flagged")]
    for kind in BASELINES:
        if strategies.why_not is not None:
            lines.append(empty_line(kind, len(found), strategies.why_not))
            continue
        chosen: list[list[str]] = [[] for _ in found]
        if asked:
            logits = [found[place]["logits"] for place in asked]
            cut = published_procedures.choose_cut(logits, [right[place] for place in asked], kind)
            for place, labels in zip(asked, published_procedures.cut_labels(logits, cut, kind), strict=True):
                chosen[place] = labels
        lines.append(labelled_line(kind, truth, flags(chosen, codes)))
    lines += [scored_line(name, "paper", truth, matrix([one[name] for one in found], codes), at) for name in SCORES]
    return lines


def _ours(scores: pl.DataFrame, records: int, scorer: Scorer) -> dict[str, Array]:
    """(n, L) of each of OURS, and the bounds of the marginal as `lower` and `upper`."""
    labels = scores.filter(pl.col("label") != UNSAFE)
    shape = (records, len(scorer.guard.labels))
    found = {
        name: np.asarray(labels.filter(pl.col("estimator") == name)["probability"]).reshape(shape) for name in OURS
    }
    marginal = labels.filter(pl.col("estimator") == "marginal")
    return found | {end: np.asarray(marginal[end]).reshape(shape) for end in ("lower", "upper")}


def _notes(strategies: Strategies, failed: dict[str, str]) -> list[str]:
    notes = [*strategies.scorer.prompts.notes, *strategies.scorer.model.notes]
    if strategies.forced is not None:
        notes += [
            f"{', '.join(codes)} share their second token: the baselines cannot tell them apart"
            for codes in strategies.forced.shared
        ]
    if failed:
        first, why = next(iter(failed.items()))
        notes.append(f"{len(failed)} records could not be scored and are in no line, first '{first}': {why}")
    return notes


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
