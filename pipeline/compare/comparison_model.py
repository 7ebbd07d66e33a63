"""The result of `marginalia compare`, as `--json` prints it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.evaluation_json import Finding, Metric, Outcome
from marginalia.scoring.measures.conclusions import Answer

Use = Literal["a", "b", "cannot tell", "no guard reaches the promise", "not computed"]


class ComparedRunSummary(StrictModel):
    """One run, and which of its guards and estimators is compared."""

    run: str
    simulated: bool
    taxonomy: str
    guard: str
    model: str | None
    estimator: str
    records: int = Field(description="final gold records with scores")
    gold_sha256: str = Field(description="of id, text and labels of its final records, and of which labels were judged")
    seconds: float | None = Field(default=None, description="mean scoring time per record; null if it was not recorded")
    forward_passes: float | None = Field(default=None, description="mean forward passes of the model per record")


class Differing(StrictModel):
    """A setting or count that differs; null where one of the two runs does not have it."""

    what: str
    a: str | None
    b: str | None


class SharedGold(StrictModel):
    """How many final gold records the two runs share, compared by id, text and labels. Labels are compared where both
    runs judged them."""

    same: bool = Field(description="the same records with the same text and labels, and the same labels judged")
    records: int = Field(description="in both, with the same text and labels")
    only_a: int
    only_b: int
    changed: int = Field(description="in both, with another text or other labels")
    judged: int = Field(
        description="of those shared: scored in both, with a label that both judged; differences are over these"
    )
    labels: list[str] = Field(description="labels that both guards score")


class MetricRow(StrictModel):
    """One metric of both runs. `difference` is b minus a on the shared records and the same resamples."""

    metric: str
    on: str = Field(description="judged splits, or test split")
    a: Metric | None = Field(description="as in the run's own evaluation.json, on its own records")
    b: Metric | None
    difference: Metric | None = Field(description="null where no gold is shared")
    finding: Finding
    tested: bool = Field(
        default=False, description="whether this is the one tested metric; findings in others are descriptive"
    )


class LabelRow(MetricRow):
    """One metric of one label, in both runs."""

    label: str


class GuardForLabel(StrictModel):
    """One of the two guards for one label, at the threshold that its own run chose on the calibration split."""

    threshold: float | None = Field(
        description="for the highest of evaluate.precision_targets, or of the highest F1 where that is not attainable"
    )
    goal: str | None = Field(description="what the threshold was chosen for, as in thresholds.json")
    judged: Outcome | None = Field(
        description="on the test records that both judged; on its own test split if only this guard has a probability"
    )
    reaches: Answer = Field(description="whether the precision there is at least the target")


class LabelChoice(StrictModel):
    """Which of the two guards to use for one label."""

    label: str
    name: str
    use: Use
    why: str = Field(description="a phrase")
    a: GuardForLabel | None = Field(description="null if the guard has no probability for the label")
    b: GuardForLabel | None
    positives: int = Field(description="shared records that have the label")
    n: int = Field(description="shared records in which it was judged")
    difference: Metric | None = Field(
        description="b minus a in the decision's metric; its intervals hold for all labels at once. Null where it is "
        "not computed"
    )
    finding: Finding = Field(description="whether b is better in this metric")


class ComparisonDecision(StrictModel):
    """Which guard for which label."""

    sentence: str
    target: float | None = Field(description="the promised precision: a's highest evaluate.precision_targets")
    metric: str = Field(description="whose differences decide: roc_auc or average_precision, as evaluate.primary")
    labels: list[LabelChoice]


class GuardCost(StrictModel):
    """What one guard costs at the stated recall; intervals are over resamples that choose the threshold again."""

    threshold: float | None = Field(description="null for all labels together: each has its own")
    recall: float | None = Field(description="share of the positives that it finds; above the stated one if scores tie")
    flags: Metric = Field(description="per 1,000 records")
    false_alarms: Metric = Field(description="per 1,000 records")
    precision: Metric


class CostOfLabel(StrictModel):
    """Both guards at the same recall, for one label or for all labels together."""

    label: str | None = Field(description="null: all measured labels together, each at its own threshold")
    name: str
    positives: int
    n: int = Field(description="shared records in which it was judged; for all labels, in which one of them was")
    a: GuardCost
    b: GuardCost
    difference: Metric = Field(description="b minus a in false alarms per 1,000 records, paired")
    finding: Finding = Field(description="tested for all labels together, descriptive for single labels")


class EqualRecall(StrictModel):
    """Costs where both guards find the same share of the positives. The thresholds are chosen on the records that they
    are measured on, so the costs are optimistic: they compare guards, and are no forecast."""

    sentence: str
    recall: float
    overall: CostOfLabel | None = Field(description="null where no label has enough records")
    labels: list[CostOfLabel]
    left_out: dict[str, str] = Field(description="label → why it is not measured")


class Comparison(StrictModel):
    """Two runs compared; notes are sentences without a full stop."""

    version: Literal[1] = 1
    a: ComparedRunSummary
    b: ComparedRunSummary
    differing: list[Differing]
    shared: SharedGold
    confidence: float
    metrics: list[MetricRow]
    labels: list[LabelRow]
    notes: list[str]
    warnings: int = Field(default=0, description="how many of the notes, the first ones, limit every number")
    decision: ComparisonDecision | None = Field(default=None, description="null in the output of an older version")
    equal_recall: EqualRecall | None = Field(default=None, description="null in the output of an older version")
