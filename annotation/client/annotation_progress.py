"""The progress of annotation: records done, each annotator's pace, agreement so far, remaining time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
from pydantic import Field

from marginalia.annotation.client.answer_journal import UnreadableAnswerError, answers_frame, entry_of, response_of
from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.pull_answers import usernames
from marginalia.annotation.client.push_records import dataset_records
from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.agreement import agreement_of
from marginalia.annotation.gold.gold_questions import ROUND, accuracy
from marginalia.schemas.agreement_json import Agreement, Estimate, PairAgreement
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.judged_labels import judged_cells
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import one_line

BREAK = 600  # seconds; a longer time between two answers counts as a break


class AnnotatorProgress(StrictModel):
    """One annotator's answers so far."""

    username: str
    submitted: int
    discarded: int
    draft: int
    seconds_per_answer: float | None = Field(description="mean over gaps of at most ten minutes; null with one answer")
    last_answer: datetime | None
    kappa: float | None = Field(description="against the others, on the records that they share")
    gold_questions: int = Field(description="records with a known answer that were answered")
    gold_exact: float | None = Field(description="share of those with exactly the known labels")


class AnnotationProgress(StrictModel):
    """The state of one round on the server. It has usernames, for the people who organise the annotation, and is never
    written to a file."""

    round: str
    url: str
    dataset: str
    simulated: bool
    records: int
    done: int = Field(description="records with as many answers as they need, to each label")
    started: int = Field(description="records with an answer, but fewer than they need")
    untouched: int
    answers_needed: int = Field(description="submitted answers still missing")
    rejected: int = Field(description="submitted answers that cannot count: nothing ticked, or none with a category")
    unreadable: int = Field(default=0, description="answers that Argilla would not give; pull says what is wrong")
    alpha_masi: Estimate
    exact: Estimate
    annotators: list[AnnotatorProgress]
    pairs: list[PairAgreement] = Field(description="who agrees with whom, the least first; usernames")
    hours_left: float | None = Field(description="of work in all, at the pace so far; null when nobody has a pace")
    hours_left_each: float | None = Field(description="the same shared out among those who have answered")


def progress(
    connection: Connection,
    pushed: Pushed,
    taxonomy: Taxonomy,
    *,
    simulated: bool,
    known: Mapping[str, Sequence[str]] | None = None,
) -> AnnotationProgress:
    """The present state on the server. `known`: the labels of the gold questions by record id. Raises ServiceError."""
    known = known or {}
    names = usernames(connection, [pushed.workspace])
    now = datetime.now(UTC)
    entries: dict[tuple[str, str], dict[str, Any]] = {}  # one per record and annotator, also if a server repeats some
    records, unreadable = [], 0
    for record in dataset_records(connection, pushed.dataset_id, responses=True):
        records.append(str(record.external_id))
        round = ROUND if records[-1] in known else "annotate"
        for reply in record.responses or []:
            try:
                response = response_of(reply)
                annotator = one_line(names.get(response.user_id, response.user_id))
                entry = entry_of(record.external_id, annotator, round, response, now, taxonomy.ids)
                entries[records[-1], annotator] = entry
            except UnreadableAnswerError:
                unreadable += 1
    rejected = sum(entry["rejected"] is not None for entry in entries.values())
    state = summary(
        records, answers_frame(entries.values()), pushed, taxonomy, rejected=rejected, simulated=simulated, known=known
    )
    return state.model_copy(update={"unreadable": unreadable})


def summary(
    records: Sequence[str],
    answers: pl.DataFrame,
    pushed: Pushed,
    taxonomy: Taxonomy,
    *,
    rejected: int = 0,
    simulated: bool = False,
    known: Mapping[str, Sequence[str]] | None = None,
) -> AnnotationProgress:
    """The progress computed from `Answer` rows whose annotators are usernames. `records`: ids of all records that were
    pushed; `rejected`: number of submitted answers that do not count."""
    submitted = answers.filter(pl.col("status") == "submitted")
    per_record = _answers_per_record(submitted, taxonomy.ids)
    n_answers = [per_record.get(record, (0, 0)) for record in records]
    needed = sum(max(0, pushed.annotators - fewest) for _, fewest in n_answers)
    agreement = agreement_of(
        answers, taxonomy.ids, ReconcileSection(bootstrap=0), seed=0, taxonomy=taxonomy.id, simulated=simulated
    )
    kappas = {person.annotator: person.kappa.value for person in agreement.per_annotator}
    gold_exact = {person.annotator: person.exact for person in accuracy(answers, known or {})}
    annotators = [
        _annotator(name, answers, kappas, gold_exact.get(name))
        for name in answers["annotator"].unique().sort().to_list()
    ]
    hours = _hours(needed, annotators)
    return AnnotationProgress(
        round=pushed.round,
        url=pushed.url,
        dataset=pushed.dataset,
        simulated=simulated,
        records=len(records),
        done=sum(fewest >= pushed.annotators for _, fewest in n_answers),
        started=sum(n > 0 and fewest < pushed.annotators for n, fewest in n_answers),
        untouched=sum(n == 0 for n, _ in n_answers),
        answers_needed=needed,
        rejected=rejected,
        alpha_masi=agreement.alpha_masi,
        exact=agreement.exact,
        annotators=annotators,
        pairs=_pairs(agreement),
        hours_left=hours,
        hours_left_each=hours / max(1, sum(annotator.submitted > 0 for annotator in annotators))
        if hours is not None
        else None,
    )


def _answers_per_record(submitted: pl.DataFrame, labels: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How many of the `submitted` answers each record has, and how many judge the label that the fewest judge."""
    judged = judged_cells(submitted["judged"], labels)
    cells = pl.DataFrame(judged, schema=[f"label{at}" for at in range(len(labels))])
    per_record = cells.with_columns(submitted["record_id"], answers=pl.any_horizontal(cells.columns))
    sums = per_record.group_by("record_id").agg(pl.all().sum())
    counted = sums.select("record_id", "answers", fewest=pl.min_horizontal(cells.columns))
    return {record: (n, fewest) for record, n, fewest in counted.iter_rows()}


def _annotator(
    name: str, answers: pl.DataFrame, kappas: Mapping[str, float | None], gold_exact: Estimate | None
) -> AnnotatorProgress:
    own = answers.filter(pl.col("annotator") == name)
    times = own["submitted_at"].drop_nulls().sort()
    gaps = times.diff().drop_nulls().dt.total_microseconds() / 1e6
    working = gaps.filter(gaps <= BREAK)
    counts = dict(own.group_by("status").len().iter_rows())
    return AnnotatorProgress(
        username=name,
        submitted=counts.get("submitted", 0),
        discarded=counts.get("discarded", 0),
        draft=counts.get("draft", 0),
        seconds_per_answer=float(working.sum()) / len(working) if len(working) else None,
        last_answer=times[-1] if len(times) else None,
        kappa=kappas.get(name),
        gold_questions=gold_exact.n if gold_exact else 0,
        gold_exact=gold_exact.value if gold_exact else None,
    )


def _pairs(agreement: Agreement) -> list[PairAgreement]:
    """The pairs of annotators, the lowest kappa first, pairs without a kappa last."""
    return sorted(
        agreement.pairs, key=lambda pair: (2.0 if pair.kappa is None else pair.kappa, pair.first, pair.second)
    )


def _hours(needed: int, annotators: Sequence[AnnotatorProgress]) -> float | None:
    """Hours of work for the answers still needed, at the mean pace so far; None when nobody has a pace yet."""
    paces = [(annotator.seconds_per_answer, annotator.submitted) for annotator in annotators]
    known = [(pace, n) for pace, n in paces if pace is not None]
    if needed == 0:
        return 0.0
    if not known:
        return None
    return needed * sum(pace * n for pace, n in known) / sum(n for _, n in known) / 3600
