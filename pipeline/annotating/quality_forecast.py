"""`marginalia simulate`: forecasts the quality of gold and the number of answers, before you pay for annotation.

Simulated annotators with given error rates, the same as in the demo, answer the run's own records (or its plan), and
the run's own rules turn the answers into gold. Nothing is written."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
from pydantic import Field

from marginalia.annotation.client.dataset_settings import LABELS, NONE
from marginalia.annotation.config import ReconcileSection, Splits
from marginalia.annotation.gold.agreement import agreement_of
from marginalia.annotation.gold.gold_questions import wilson
from marginalia.annotation.gold.reconcile import reconcile
from marginalia.annotation.simulated.annotator_profiles import AnnotatorProfile
from marginalia.pipeline.annotating.simulated_annotators import simulated_answer
from marginalia.pipeline.core.artifacts import PLAN, PROMPTS
from marginalia.pipeline.core.run import Run
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError
from marginalia.schemas.tables import Answer, GoldRecord
from marginalia.schemas.terminal import table

HEADERS = (
    *("answers per record", "answers in all", "settled", "for the expert", "open"),
    *("right", "right with expert", "precision", "recall", "alpha"),
)
NOW = datetime(2000, 1, 1, tzinfo=UTC)  # a placeholder: the results do not depend on times


class Forecast(StrictModel):
    """The forecast for one number of answers per record. Right means equal to the simulated truth."""

    simulated: bool = True
    overlap: int = Field(description="annotators per record")
    records: int
    answers: int = Field(description="of annotators and experts together, skips included")
    final: int = Field(description="records that the annotators settle")
    for_expert: int = Field(description="records with a tie or too little agreement")
    open: int = Field(
        description="records without gold even after the expert: fewer answers than reconcile.min_answers, or skipped"
    )
    right: Estimate = Field(description="share of the annotators' final records with exactly the right labels")
    right_with_expert: Estimate = Field(description="the same over all final records once the expert has answered")
    precision: float | None = Field(description="share of labels in the final gold, experts' included, that are right")
    recall: float | None = Field(description="share of the right labels that the final gold has")
    alpha_masi: float | None = Field(
        description="the agreement that such annotators would show: Krippendorff's alpha over label sets (MASI)"
    )


def forecast(
    run: Run,
    profiles: Sequence[AnnotatorProfile],
    expert: AnnotatorProfile,
    overlaps: Sequence[int],
    *,
    records: int,
) -> list[Forecast]:
    """One forecast per number of answers in `overlaps`, on at most `records` of the run's label sets.

    Raises InputError when the run has neither records nor a plan."""
    truth = _label_sets(run, records)
    section = run.config.reconcile.model_copy(update={"compare": False, "splits": Splits()})
    return [
        simulate(truth, run.taxonomy.ids, profiles, expert, overlap, section, seed=run.config.seed)
        for overlap in overlaps
    ]


def simulate(
    truth: Mapping[str, Sequence[str]],
    labels: Sequence[str],
    profiles: Sequence[AnnotatorProfile],
    expert: AnnotatorProfile,
    overlap: int,
    section: ReconcileSection,
    *,
    seed: int,
) -> Forecast:
    """The forecast for `overlap` answers per record. `truth`: the right labels by record.

    The annotators take turns, so that each answers about equally often; the last profile serves all further
    annotators."""
    annotators = max(overlap, len(profiles))
    rows = []
    for at, record in enumerate(truth):
        for turn in range(overlap):
            annotator = (at * overlap + turn) % annotators
            profile = profiles[min(annotator, len(profiles) - 1)]
            rows.append(_row(record, f"A{annotator + 1:02}", truth[record], labels, profile, "annotate", seed))
    answers = Answer.frame(rows)
    messages = pl.lit([], dtype=GoldRecord.polars_schema()["messages"])
    ids = pl.DataFrame({"id": list(truth)}).with_columns(messages=messages)
    before = reconcile(ids, answers, labels, section, seed=seed)
    unsettled = before.filter(pl.col("status") == "needs_adjudication")["id"].to_list()
    expert_answers = Answer.frame(
        [_row(record, "E01", truth[record], labels, expert, "adjudicate", seed) for record in unsettled]
    )
    after = reconcile(ids, pl.concat([answers, expert_answers]), labels, section, seed=seed)
    settled, final = _final_labels(before), _final_labels(after)
    hits = sum(len(decided & set(truth[record])) for record, decided in final.items())
    without_intervals = section.model_copy(update={"bootstrap": 0})
    agreement = agreement_of(answers, labels, without_intervals, seed=seed, taxonomy="", simulated=True)
    return Forecast(
        overlap=overlap,
        records=len(truth),
        answers=answers.height + expert_answers.height,
        final=len(settled),
        for_expert=len(unsettled),
        open=len(truth) - len(final),
        right=_exact(settled, truth),
        right_with_expert=_exact(final, truth),
        precision=_share(hits, sum(len(decided) for decided in final.values())),
        recall=_share(hits, sum(len(set(truth[record])) for record in final)),
        alpha_masi=agreement.alpha_masi.value,
    )


def forecast_table(forecasts: Sequence[Forecast]) -> str:
    """The forecasts as a table for the terminal, one row each."""
    rows = [
        [
            str(row.overlap),
            f"{row.answers:,}",
            _percent(row.final / row.records),
            _percent(row.for_expert / row.records),
            _percent(row.open / row.records),
            _percent(row.right.value),
            _percent(row.right_with_expert.value),
            _percent(row.precision),
            _percent(row.recall),
            "–" if row.alpha_masi is None else f"{row.alpha_masi:.2f}",
        ]
        for row in forecasts
    ]
    return "simulated annotators: a forecast, not a measurement\n" + table(HEADERS, rows, indent=0)


def profiles_of(miss: Sequence[float], false_alarm: Sequence[float], skip: float) -> list[AnnotatorProfile]:
    """One profile per rate; the last rate of the shorter list is repeated. Raises InputError for a rate outside 0 to 1,
    or without any rate."""
    for name, rates in (("--miss", miss), ("--false-alarm", false_alarm), ("--skip", [skip])):
        if not rates or not all(0 <= rate <= 1 for rate in rates):
            raise InputError(f"{name}: expected rates from 0 to 1, saw {', '.join(map(str, rates)) or 'none'}")
    return [
        AnnotatorProfile(
            miss=miss[min(at, len(miss) - 1)], false_alarm=false_alarm[min(at, len(false_alarm) - 1)], skip=skip
        )
        for at in range(max(len(miss), len(false_alarm)))
    ]


def _label_sets(run: Run, most: int) -> dict[str, list[str]]:
    """Label sets by record, at most `most` of them: the intended labels of the records, or of the plan when there are
    no records yet."""
    if PROMPTS.exists(run):
        frame = PROMPTS.read(run)
        frame = frame.drop_nulls("intended_labels")  # they are null for imported records without labels
        pairs = list(zip(frame["id"].to_list(), frame["intended_labels"].to_list(), strict=True))
    else:
        frame = PLAN.read(run)
        pairs = list(zip(frame["slot_id"].to_list(), frame["labels"].to_list(), strict=True))
    if len(pairs) > most:
        pairs = random.Random(f"{run.config.seed}:simulate").sample(pairs, most)
    if not pairs:
        raise InputError(f"{run.folder}: no records to simulate on", hint=run.command("plan"))
    return dict(pairs)


def _row(
    record: str,
    annotator: str,
    right: Sequence[str],
    labels: Sequence[str],
    profile: AnnotatorProfile,
    round: str,
    seed: int,
) -> dict[str, Any]:
    answer = simulated_answer(right, labels, profile, seed=seed, annotator=annotator, record=f"{round}:{record}")
    submitted = answer["status"] == "submitted"
    ticked = [label for label in answer["values"][LABELS]["value"] if label != NONE] if submitted else None
    return {
        "record_id": record,
        "annotator": annotator,
        "labels": ticked,
        "status": answer["status"],
        "note": None,
        "submitted_at": NOW if submitted else None,
        "pulled_at": NOW,
        "round": round,
    }


def _final_labels(gold: pl.DataFrame) -> dict[str, set[str]]:
    final = gold.filter(pl.col("status") == "final")
    return {record: set(labels) for record, labels in final.select("id", "labels").iter_rows()}


def _exact(final: Mapping[str, set[str]], truth: Mapping[str, Sequence[str]]) -> Estimate:
    """The share of records with exactly the right labels."""
    return wilson(sum(labels == set(truth[record]) for record, labels in final.items()), len(final))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
