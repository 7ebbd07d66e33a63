"""agreement.json: how far the annotators agree, per label and per person, with intervals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class Estimate(StrictModel):
    """A statistic with its 95 % interval over records. `value` is null where it is not defined: fewer than two answers
    on every record, or no variation to agree about."""

    value: float | None
    low: float | None
    high: float | None
    n: int = Field(description="records that it rests on")
    reason: str | None = Field(default=None, description="why there is a value but no interval")


class LabelAgreement(StrictModel):
    label: str
    alpha: Estimate = Field(description="Krippendorff's alpha, nominal, ticked or not")
    percent: Estimate = Field(description="share of pairs of answers to one record that agree on the label")
    ticked: float | None = Field(description="share of all answers that carry the label")


class AnnotatorLabelAgreement(StrictModel):
    label: str
    kappa: float | None
    precision: float | None
    recall: float | None


class AnnotatorAgreement(StrictModel):
    """One annotator against the others: every comparison is one label of one record, answered by this annotator and
    by one of the others, weighted so that each record counts once."""

    annotator: str
    answers: int
    labels_per_answer: float | None
    kappa: Estimate = Field(description="Cohen's kappa")
    precision: Estimate = Field(description="share of this annotator's ticks that the others ticked, too")
    recall: Estimate = Field(description="share of the others' ticks that this annotator ticked, too")
    per_label: list[AnnotatorLabelAgreement]


class PairAgreement(StrictModel):
    first: str
    second: str
    records: int = Field(description="records both answered")
    kappa: float | None
    exact: float | None = Field(description="share of those records on which their label sets are equal")


class GoldQuestionAccuracy(StrictModel):
    """One annotator on the records whose answers are known."""

    annotator: str
    skipped: int
    exact: Estimate = Field(description="share of gold questions with exactly the known labels; Wilson's interval")
    precision: float | None = Field(description="share of the ticks that are right")
    recall: float | None = Field(description="share of the known labels that were ticked")


class LabelSeverity(StrictModel):
    """How severe annotators found one label on the records on which they ticked it."""

    label: str
    counts: list[int] = Field(description="answers of each level, the mildest first")
    alpha: Estimate = Field(description="Krippendorff's alpha, ordinal, over records with two levels or more")


class Severity(StrictModel):
    levels: list[str] = Field(description="names of the levels, the mildest first")
    per_label: list[LabelSeverity]


class Anchoring(StrictModel):
    """Whether suggestions that are shown pre-ticked draw answers to them: how often an answer is exactly the
    suggestion, where it was shown and where, in the random control share, it was not."""

    sources: list[Literal["intended", "check"]] = Field(
        default=["intended"], description="whose labels were suggested: the intended ones, the blind check's"
    )
    suggested: Estimate = Field(description="share of answers that equal the suggestion shown")
    control: Estimate = Field(description="share of answers that equal the suggestion which was not shown")
    difference: Estimate = Field(description="suggested less control; above 0: suggestions anchor")


class MethodComparison(StrictModel):
    """What another way of reconciling would have decided on the records that are final here."""

    method: str
    records: int = Field(description="final records that were compared: all, or a random part of very many")
    same_labels: int = Field(description="records with the same label set")


class Agreement(StrictModel):
    simulated: bool = Field(description="the annotators are programs: the numbers say nothing about people")
    taxonomy: str
    records: int = Field(description="records with at least one submitted answer")
    pairable: int = Field(description="records with at least two: only they tell anything about agreement")
    answers: int
    annotators: int
    alpha_masi: Estimate = Field(description="Krippendorff's alpha over label sets with MASI distance")
    alpha_mean: Estimate = Field(description="mean of the labels' alphas, over the labels that have one")
    exact: Estimate = Field(description="share of pairs of answers to one record with equal label sets")
    jaccard: Estimate = Field(description="mean Jaccard of pairs of answers to one record; two empty sets agree")
    per_label: list[LabelAgreement]
    per_annotator: list[AnnotatorAgreement]
    pairs: list[PairAgreement]
    gold_questions: list[GoldQuestionAccuracy] = Field(default=[], description="measured accuracy of each annotator")
    anchoring: Anchoring | None = Field(default=None, description="null where no suggestions were shown")
    severity: Severity | None = Field(default=None, description="null where annotators were not asked for it")
    methods: list[MethodComparison] = Field(default=[])
    notes: list[str] = Field(default=[], description="what a reader must know before trusting the numbers")
