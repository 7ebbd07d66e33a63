"""agreement.json: how far annotators agree, per label and per annotator, with intervals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class Estimate(StrictModel):
    """A statistic with its 95 % interval over records. `value` is null where the statistic is undefined: no record has
    two answers, or the answers do not vary."""

    value: float | None
    low: float | None
    high: float | None
    n: int = Field(description="records that the value is computed from")
    reason: str | None = Field(default=None, description="why there is a value but no interval")


def _is_none(value: object) -> bool:
    return value is None


class LabelAgreement(StrictModel):
    """Agreement of all annotators on one label, from the records with at least two answers that judge it."""

    label: str
    alpha: Estimate = Field(description="Krippendorff's alpha, nominal, ticked or not")
    percent: Estimate = Field(description="share of pairs of answers to one record that agree on the label")
    ticked: float | None = Field(description="share of the answers that carry the label, of those that judge it")
    answers: int | None = Field(
        default=None,
        exclude_if=_is_none,
        description="answers that judge the label; only where some answers judge only some of the labels",
    )


class AnnotatorLabelAgreement(StrictModel):
    """One annotator against the others on one label; null where the statistic is undefined."""

    label: str
    n: int | None = Field(
        default=None,
        exclude_if=_is_none,
        description="records on which the annotator and one of the others judge the label; only where some answers "
        "judge only some of the labels",
    )
    kappa: float | None
    precision: float | None
    recall: float | None


class AnnotatorAgreement(StrictModel):
    """One annotator against the others. Each comparison is one label of one record that this annotator and one of the
    others judged, weighted so that each label of a record counts once."""

    annotator: str
    answers: int
    labels_per_answer: float | None
    kappa: Estimate = Field(description="Cohen's kappa")
    precision: Estimate = Field(description="share of this annotator's ticks that the others also ticked")
    recall: Estimate = Field(description="share of the others' ticks that this annotator also ticked")
    per_label: list[AnnotatorLabelAgreement]


class PairAgreement(StrictModel):
    """Agreement of two annotators on the records that both answered, on the labels that both judged there."""

    first: str
    second: str
    records: int = Field(description="records of which both judged a label")
    kappa: float | None
    exact: float | None = Field(description="share of those records on which their label sets are equal")


class GoldQuestionAccuracy(StrictModel):
    """One annotator on the gold questions: records whose labels are known."""

    annotator: str
    skipped: int
    exact: Estimate = Field(
        description="share of gold questions with exactly the known labels, among the labels that the answer judges; "
        "Wilson's interval"
    )
    precision: float | None = Field(description="share of the ticks that are correct")
    recall: float | None = Field(description="share of the known labels that were ticked, among those judged")


class LabelSeverity(StrictModel):
    """How severe annotators rated one label on the records on which they ticked it."""

    label: str
    counts: list[int] = Field(description="answers per level, the mildest first")
    alpha: Estimate = Field(description="Krippendorff's alpha, ordinal, over records with at least two ratings")


class Severity(StrictModel):
    """Severity ratings of all labels."""

    levels: list[str] = Field(description="names of the levels, the mildest first")
    per_label: list[LabelSeverity]


class Anchoring(StrictModel):
    """Whether pre-ticked suggestions bias answers: how often an answer equals the suggestion, on records where it was
    shown and on the random control share where it was not. Compared are the labels that the answer judges."""

    sources: list[Literal["intended", "check"]] = Field(
        default=["intended"], description="whose labels were suggested: the intended ones, the blind check's"
    )
    suggested: Estimate = Field(description="share of answers that equal the suggestion shown")
    control: Estimate = Field(description="share of answers that equal the suggestion that was not shown")
    difference: Estimate = Field(description="suggested minus control; above 0: suggestions bias answers")


class MethodComparison(StrictModel):
    """What another reconciliation method decides on the records that are final."""

    method: str
    records: int = Field(description="final records that were compared: all, or a random sample of a large run")
    same_labels: int = Field(description="records for which both methods decide all judged labels alike")


class Agreement(StrictModel):
    """The whole of agreement.json."""

    simulated: bool = Field(description="the annotators are simulated: the numbers say nothing about people")
    taxonomy: str
    records: int = Field(description="records with at least one submitted answer")
    pairable: int = Field(
        description="records with at least two submitted answers that judge a label in common; only these enter "
        "agreement"
    )
    answers: int
    partial_answers: int = Field(
        default=0,
        exclude_if=lambda value: value == 0,
        description="answers that judge only some of the labels; agreement is measured on the labels that both answers "
        "judge",
    )
    annotators: int
    alpha_masi: Estimate = Field(
        description="Krippendorff's alpha over label sets with MASI distance. It may be below the nominal alpha of "
        "every label: label sets agree fully only if all labels do"
    )
    alpha_mean: Estimate = Field(description="mean of the labels' nominal alphas, over the labels that have one")
    exact: Estimate = Field(description="share of pairs of answers to one record with equal label sets")
    jaccard: Estimate = Field(description="mean Jaccard of pairs of answers to one record; two empty sets agree")
    per_label: list[LabelAgreement]
    per_annotator: list[AnnotatorAgreement]
    pairs: list[PairAgreement]
    gold_questions: list[GoldQuestionAccuracy] = Field(
        default=[], description="accuracy of each annotator on gold questions"
    )
    anchoring: Anchoring | None = Field(default=None, description="null where no suggestions were shown")
    severity: Severity | None = Field(default=None, description="null where annotation.severity was not set")
    methods: list[MethodComparison] = Field(default=[])
    notes: list[str] = Field(default=[], description="caveats that a reader must know before using the numbers")
