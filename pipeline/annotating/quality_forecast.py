"""`marginalia simulate`: how good gold would be, and how many answers it takes, before anybody is paid.

Annotators are programs that err at given rates, the same that answer in the demo; they answer the run's own records
(or its plan), and the run's own rules make gold of it. Nothing is written."""

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

NOW = datetime(2000, 1, 1, tzinfo=UTC)  # no time of anything


class Forecast(StrictModel):
    """What one number of answers a record would give. Right means: as the simulated truth."""

    simulated: bool = True
    overlap: int = Field(description="annotators a record")
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
    alpha_masi: float | None = Field(description="the agreement that such annotators would show")


def forecast(
    run: Run,
    profiles: Sequence[AnnotatorProfile],
    expert: AnnotatorProfile,
    overlaps: Sequence[int],
    *,
    records: int,
) -> list[Forecast]:
    """One forecast a number of annotators, on at most `records` of the run's label sets.

    Raises InputError without plan or records to simulate on."""
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
    """`truth`: the right labels by record. The annotators take turns, so that each answers as much as the others; the
    last profile serves all further ones."""
    people = max(overlap, len(profiles))
    crowd = []
    for at, record in enumerate(truth):
        for turn in range(overlap):
            who = (at * overlap + turn) % people
            profile = profiles[min(who, len(profiles) - 1)]
            crowd.append(_row(record, f"A{who + 1:02}", truth[record], labels, profile, "annotate", seed))
    answers = Answer.frame(crowd)
    messages = pl.lit([], dtype=GoldRecord.polars_schema()["messages"])
    ids = pl.DataFrame({"id": list(truth)}).with_columns(messages=messages)
    before = reconcile(ids, answers, labels, section, seed=seed)
    doubtful = before.filter(pl.col("status") == "needs_adjudication")["id"].to_list()
    verdicts = Answer.frame([_row(one, "E01", truth[one], labels, expert, "adjudicate", seed) for one in doubtful])
    after = reconcile(ids, pl.concat([answers, verdicts]), labels, section, seed=seed)
    settled, final = _final(before), _final(after)
    hits = sum(len(given & set(truth[record])) for record, given in final.items())
    plain = section.model_copy(update={"bootstrap": 0})
    return Forecast(
        overlap=overlap,
        records=len(truth),
        answers=answers.height + verdicts.height,
        final=len(settled),
        for_expert=len(doubtful),
        open=len(truth) - len(final),
        right=_right(settled, truth),
        right_with_expert=_right(final, truth),
        precision=_share(hits, sum(len(given) for given in final.values())),
        recall=_share(hits, sum(len(set(truth[record])) for record in final)),
        alpha_masi=agreement_of(answers, labels, plain, seed=seed, taxonomy="", simulated=True).alpha_masi.value,
    )


def table(found: Sequence[Forecast]) -> str:
    """The forecasts for people, one line each."""
    head = (
        "answers a record  answers in all  settled  for the expert    open  right  right with expert  precision  recall"
        "  alpha"
    )
    lines = ["simulated annotators: a forecast, not a measurement", head]
    for one in found:
        lines.append(
            f"{one.overlap:>16}  {one.answers:>14,}  {_percent(one.final / one.records):>7}"
            f"  {_percent(one.for_expert / one.records):>14}  {_percent(one.open / one.records):>6}"
            f"  {_percent(one.right.value):>5}"
            f"  {_percent(one.right_with_expert.value):>17}  {_percent(one.precision):>9}  {_percent(one.recall):>6}"
            f"  {'–' if one.alpha_masi is None else f'{one.alpha_masi:.2f}':>5}"
        )
    return "\n".join(lines)


def profiles_of(miss: Sequence[float], false_alarm: Sequence[float], skip: float) -> list[AnnotatorProfile]:
    """One annotator for each rate given; the shorter list goes on with its last. Raises InputError for no rate."""
    for name, rates in (("--miss", miss), ("--false-alarm", false_alarm), ("--skip", [skip])):
        if not rates or not all(0 <= rate <= 1 for rate in rates):
            raise InputError(f"{name} takes rates from 0 to 1, saw {', '.join(map(str, rates)) or 'none'}")
    places = range(max(len(miss), len(false_alarm)))
    return [
        AnnotatorProfile(
            miss=miss[min(at, len(miss) - 1)], false_alarm=false_alarm[min(at, len(false_alarm) - 1)], skip=skip
        )
        for at in places
    ]


def _label_sets(run: Run, most: int) -> dict[str, list[str]]:
    """Label sets by record: the intended ones of what was written, else of what is planned."""
    if PROMPTS.exists(run):
        frame = PROMPTS.read(run)
        frame = frame.drop_nulls("intended_labels")  # of imported records that nobody labelled
        pairs = list(zip(frame["id"].to_list(), frame["intended_labels"].to_list(), strict=True))
    else:
        frame = PLAN.read(run)
        pairs = list(zip(frame["slot_id"].to_list(), frame["labels"].to_list(), strict=True))
    if len(pairs) > most:
        pairs = random.Random(f"{run.config.seed}:simulate").sample(pairs, most)
    if not pairs:
        raise InputError(f"{run.folder}: there are no records to simulate on", hint=run.command("plan"))
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
    given = simulated_answer(right, labels, profile, seed=seed, annotator=annotator, record=f"{round}:{record}")
    submitted = given["status"] == "submitted"
    ticked = [label for label in given["values"][LABELS]["value"] if label != NONE] if submitted else None
    return {
        "record_id": record,
        "annotator": annotator,
        "labels": ticked,
        "status": given["status"],
        "note": None,
        "submitted_at": NOW if submitted else None,
        "pulled_at": NOW,
        "round": round,
    }


def _final(gold: pl.DataFrame) -> dict[str, set[str]]:
    settled = gold.filter(pl.col("status") == "final")
    return {record: set(given) for record, given in settled.select("id", "labels").iter_rows()}


def _right(final: Mapping[str, set[str]], truth: Mapping[str, Sequence[str]]) -> Estimate:
    return wilson(sum(given == set(truth[record]) for record, given in final.items()), len(final))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
