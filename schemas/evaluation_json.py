"""evaluation.json, thresholds.json and calibration.json: what the evaluate stage leaves behind.

A number that cannot be had is null and carries its reason; nothing is filled in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.equal_texts import EqualTexts

UNSAFE = "unsafe"  # the verdict's reserved row in scores/GUARD.parquet
Split = Literal["train", "calibration", "test"]
Source = Literal["label", "pooled", "identity"]
Finding = Literal["better", "worse", "no clear difference", "not known", "descriptive"]
Primary = Literal[
    "macro_roc_auc",
    "micro_roc_auc",
    "macro_average_precision",
    "micro_average_precision",
    "micro_f1",
    "hamming_loss",
    "tuned_micro_f1",
    "tuned_macro_f1",
    "tuned_hamming_loss",
]


class Metric(StrictModel):
    """One number with its interval."""

    value: float | None
    low: float | None = Field(default=None, description="lower end of the interval at the evaluation's confidence")
    high: float | None = None
    n: int = Field(description="records (for a rate: the records it is a share of)")
    resamples: int | None = Field(
        default=None, description="resamples used; null where the interval is exact or from the jackknife"
    )
    resamples_left_out: int = Field(default=0, description="resamples that lacked a class the metric needs")
    reason: str | None = Field(default=None, description="why the value or its interval is null")
    range_low: float | None = Field(
        default=None,
        description="lowest value that the bounds of the probabilities allow; null where they are single numbers",
    )
    range_high: float | None = None


class LabelMetrics(StrictModel):
    label: str
    n: int
    positives: int
    metrics: dict[str, Metric] = Field(description="f1, precision, recall, roc_auc, average_precision")


class Bin(StrictModel):
    """One bar of a reliability diagram; bins hold equally many values, and equal values share a bin."""

    n: int
    mean_probability: float
    share_positive: float
    low: float = Field(
        description="interval of share_positive: Clopper-Pearson, over records where one has several values"
    )
    high: float


class Decomposition(StrictModel):
    """score = miscalibration - discrimination + uncertainty, exactly (Dimitriadis, Gneiting & Jordan 2021)."""

    miscalibration: float
    discrimination: float
    uncertainty: float


class CalibrationQuality(StrictModel):
    """How well probabilities match frequencies, over `n` values of the given splits."""

    splits: list[Split]
    n: int = Field(description="record x label values")
    positives: int
    ece: Metric = Field(
        description="expected calibration error over equal-mass bins, without what chance alone adds (in files of an "
        "older version: with it)"
    )
    ece_plug_in: float | None = Field(default=None, description="the plain error over the bins, as other tools give it")
    ece_if_calibrated: float | None = Field(
        description="95 % of perfectly calibrated forecasts of this size, with labels of a record as dependent as "
        "these, show an `ece` below this"
    )
    brier: Metric
    brier_parts: Decomposition | None
    log_loss: Metric = Field(description="nats; probabilities clipped to [1e-6, 1 - 1e-6]")
    log_loss_parts: Decomposition | None
    bins: list[Bin]


class Identity(StrictModel):
    method: Literal["identity"] = "identity"


class Platt(StrictModel):
    """sigmoid(slope * logit(p) + intercept), slope >= 0"""

    method: Literal["platt"] = "platt"
    slope: float = Field(ge=0)
    intercept: float


class Beta(StrictModel):
    """sigmoid(a * ln p - b * ln(1 - p) + c), a and b >= 0"""

    method: Literal["beta"] = "beta"
    a: float = Field(ge=0)
    b: float = Field(ge=0)
    c: float


class Isotonic(StrictModel):
    """Piecewise linear through the knots, flat outside them."""

    method: Literal["isotonic"] = "isotonic"
    x: list[float]
    y: list[float]


CalibrationMap = Annotated[Identity | Platt | Beta | Isotonic, Field(discriminator="method")]


class LabelMap(StrictModel):
    map: CalibrationMap
    source: Source = Field(description="label: fitted on this label; pooled: the map of all labels; identity: neither")
    positives: int = Field(description="of this label, in the records it was fitted on")


class Calibration(StrictModel):
    """Monotone maps from a guard's probability to a calibrated one, one a label."""

    version: Literal[1] = 1
    simulated: bool
    guard: str = Field(description="the guard's name in the run that it was fitted in")
    family: str | None = Field(default=None, description="name of its guard file; null in files of an older version")
    model: str | None = Field(default=None, description="the model that was scored with, as the run's config names it")
    estimator: str
    method: str = Field(description="identity, platt, beta or isotonic: what cross-fitting found best, or the config's")
    records: int = Field(description="records of the calibration split it was fitted on")
    cross_fitted_log_loss: dict[str, float] = Field(description="method → mean out-of-fold log loss (nats)")
    pooled: CalibrationMap
    labels: dict[str, LabelMap]


class CalibrationFile(StrictModel):
    """calibration.json: the recommended estimator's maps first, then the others', for each guard."""

    version: Literal[1] = 1
    calibrations: list[Calibration]


class CalibrationReport(StrictModel):
    """Before and after recalibration, on records that the maps did not see."""

    method: str
    reason: str | None = Field(description="why there is no recalibration, or why a label uses the pooled map")
    raw: CalibrationQuality | None
    recalibrated: CalibrationQuality | None
    bias: Metric | None = Field(default=None, description="mean probability less share of positives, raw")
    improvement: Metric | None = Field(
        default=None, description="Brier score of the raw less that of the recalibrated probabilities, paired"
    )
    labels_raw: dict[str, CalibrationQuality]
    labels_recalibrated: dict[str, CalibrationQuality] = Field(description="empty where there is no recalibration")


class Outcome(StrictModel):
    """What a threshold does on one split."""

    split: Split
    n: int
    positives: int
    flagged: int
    precision: Metric
    recall: Metric
    f1: Metric
    false_positive_rate: Metric


class Threshold(StrictModel):
    """Flag when probability >= threshold."""

    goal: str = Field(description="max_f1, 'precision >= 0.9', 'false_positive_rate <= 0.01'")
    threshold: float | None
    source: Literal["label", "global"] = Field(description="global: too few positives for one of the label's own")
    reason: str | None = Field(default=None, description="why there is none, or why it is the global one")
    chosen_on: Outcome | None
    judged_on: Outcome | None


class ThresholdReport(StrictModel):
    overall: list[Threshold] = Field(description="one for all labels together: max_f1 over record x label values")
    labels: dict[str, list[Threshold]] = Field(description="per label, the verdict `unsafe` included")


class ReviewPoint(StrictModel):
    """Risk and coverage: the least certain records go to a person, the guard keeps the rest."""

    share_reviewed: float
    n_kept: int
    hamming_loss: float | None = Field(description="of what the guard keeps")
    subset_error: float | None = Field(description="share of kept records with any label wrong")
    subset_error_overall: float | None = Field(description="wrong records left, if every review is right")


class SoftLabel(StrictModel):
    """One label's share of the error against annotators; null where no annotator and no decision names it."""

    label: str
    brier: float | None = Field(description="(p - soft)²")
    disagreement: float | None = Field(description="soft (1 - soft)")
    expected_f1: float | None = Field(description="of the guard, against an annotator drawn at random")
    annotator_f1: float | None = Field(description="of one annotator against another")


class SoftMetrics(StrictModel):
    """Against the annotators' own spread: (p - vote)² = (p - soft)² + soft (1 - soft), averaged."""

    n: int = Field(description="records with soft labels")
    splits: list[Split]
    decided_at: str = Field(description="the fixed threshold, or 'own thresholds'")
    brier_against_votes: float
    guard: float = Field(description="(p - soft)²: what the guard can still gain")
    disagreement: float = Field(description="soft (1 - soft): annotators differ among themselves")
    share_disagreement: float | None
    metrics: dict[str, Metric] = Field(
        description="brier, log_loss and entropy (nats), expected_micro_f1, …_precision, …_recall, "
        "expected_hamming_loss: the guard against an annotator drawn at random; annotator_micro_f1, "
        "annotator_hamming_loss: one annotator against another, the noise ceiling; annotator_gold_micro_f1: against "
        "gold; f1_below_annotators: the ceiling less the guard, paired"
    )
    labels: list[SoftLabel]


class Curve(StrictModel):
    """Points for a plot, at most a few hundred, over pooled record x label values."""

    x: list[float]
    y: list[float]


class EstimatorEvaluation(StrictModel):
    estimator: str
    baseline: bool = Field(description="a yardstick, not an estimator to be used")
    splits: list[Split] = Field(description="records judged with nothing fitted: metrics, labels, verdict")
    n: int
    threshold: float = Field(description="the fixed threshold that decisions in `metrics` use")
    metrics: dict[str, Metric]
    labels: list[LabelMetrics]
    labels_left_out: dict[str, str] = Field(description="label → why macro averages leave it out")
    verdict: dict[str, Metric] = Field(description="binary: at least one label; empty when the guard gives no verdict")
    tuned: dict[str, Metric] = Field(description="decisions on the test split at the max-F1 thresholds of each label")
    calibration: CalibrationReport
    thresholds: ThresholdReport
    review: list[ReviewPoint]
    soft: SoftMetrics | None = Field(description="on the judged splits, decisions at the fixed threshold")
    soft_tuned: SoftMetrics | None = Field(description="on the test split, decisions at each label's own threshold")
    roc: Curve
    precision_recall: Curve


TESTED = (
    "whether `finding` answers a question that was fixed beforehand, that of the primary metric; the intervals of a "
    "list's tested rows hold all at once. Other rows are descriptive, and each of their intervals holds on its own"
)


class Difference(StrictModel):
    """estimator minus reference on the same records and the same resamples."""

    estimator: str
    reference: str
    metric: str
    splits: list[Split]
    difference: Metric
    finding: Finding
    tested: bool = Field(default=False, description=TESTED)


class GuardDifference(StrictModel):
    """A guard's recommended estimator less that of the run's first guard, on the records that both judged."""

    guard: str
    estimator: str
    reference: str = Field(description="the first guard")
    reference_estimator: str
    metric: str = Field(description="tuned_…: at own thresholds, test split; verdict_…: of the verdict")
    on: str
    labels: list[str] = Field(description="that both score")
    difference: Metric
    finding: Finding
    tested: bool = Field(default=False, description=TESTED)


class Slice(StrictModel):
    """Records that share one value of an attribute."""

    attribute: str
    value: str
    n: int
    metrics: dict[str, Metric]


class Confusion(StrictModel):
    """Records that have `gold`, where the guard missed it and wrongly said `predicted`."""

    gold: str
    predicted: str
    records: int


class WorstRecord(StrictModel):
    record_id: str
    split: Split
    gold: list[str]
    predicted: list[str]
    loss: float = Field(description="mean log loss over the labels, nats")


class BoundsEffect(StrictModel):
    """What it does to the recommended estimator's metrics that its probabilities are known within bounds only."""

    widest: float = Field(description="largest upper - lower of a label of a judged record")
    mean: float = Field(description="mean upper - lower over judged record x label values")
    beyond: int = Field(description="judged records whose bounds are wider than the tolerance they were scored at")
    wide: list[str] = Field(description="metrics whose range exceeds a third of their sampling interval")
    tolerance: float | None = Field(description="score.tolerance at which none would be wide; null where all is well")


class GuardEvaluation(StrictModel):
    guard: str
    records: int = Field(description="final gold records with scores")
    left_out: dict[str, int] = Field(description="reason → final gold records without usable scores")
    labels_not_scored: list[str] = Field(description="labels of the taxonomy that this guard has no code for")
    estimators_left_out: dict[str, str]
    recommended: str | None
    recommended_because: str
    off_language: float | None = Field(description="mean mass of answers outside the guard's format")
    unexplored: float | None = Field(description="mean mass not expanded when the search stopped")
    seconds: float = Field(description="scoring time of all records")
    forward_passes: int
    estimators: list[EstimatorEvaluation]
    differences: list[Difference]
    against_frequency: Difference | None = Field(
        default=None, description="micro ROC AUC of the recommended estimator less that of label_frequency"
    )
    bounds: BoundsEffect | None = Field(default=None, description="null where the probabilities are single numbers")
    slices: list[Slice]
    confusions: list[Confusion]
    worst: list[WorstRecord]


class GoldCounts(StrictModel):
    """What the gold holds, and what evaluation could not use."""

    records: int
    final: int
    left_out: dict[str, int] = Field(description="status → records without final labels")
    safe: int = Field(description="final records that no label applies to")
    splits: dict[str, int] = Field(description="final records by split")
    positives: dict[str, int] = Field(description="label → final records that have it")
    equal_texts: EqualTexts | None = Field(default=None, description="null in files of an older version")


class Evaluation(StrictModel):
    version: Literal[1] = 1
    simulated: bool = Field(description="the gold comes of simulated annotators")
    taxonomy: str
    confidence: float
    resamples: int
    seed: int
    gold: GoldCounts
    guards: list[GuardEvaluation]
    guard_differences: list[GuardDifference] = Field(default=[], description="empty with fewer than two guards")


class ServiceThreshold(StrictModel):
    threshold: float | None
    source: Literal["label", "global"]
    reason: str | None


class EstimatorThresholds(StrictModel):
    overall: dict[str, ServiceThreshold]
    labels: dict[str, dict[str, ServiceThreshold]]


class GuardThresholds(StrictModel):
    recommended: str | None
    estimators: dict[str, EstimatorThresholds]


class ThresholdsFile(StrictModel):
    """thresholds.json: what a moderation service loads."""

    version: Literal[1] = 1
    simulated: bool
    taxonomy: str
    rule: str = "flag a label when its uncalibrated probability (scores/GUARD.parquet) >= threshold"
    confidence: float = Field(description="of each attainable precision or false-positive-rate promise, one at a time")
    chosen_on: str = "calibration"
    guards: dict[str, GuardThresholds]
