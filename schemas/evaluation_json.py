"""evaluation.json: metrics, calibration quality, thresholds and comparisons of every guard and estimator.

A number that cannot be computed is null, with a `reason`; no default takes its place."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.equal_texts import EqualTexts
from marginalia.schemas.label_coverage import GuardCoverage

UNSAFE = "unsafe"  # reserved label of the verdict in scores/GUARD.parquet
Split = Literal["train", "calibration", "test"]
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
    """One number with its sampling interval, and its range where probabilities are known only within bounds."""

    value: float | None
    low: float | None = Field(default=None, description="lower end of the interval at the evaluation's confidence")
    high: float | None = None
    n: int = Field(description="records with a judged label; for a rate, those in its denominator")
    resamples: int | None = Field(
        default=None, description="resamples used; null if the interval is exact or from the jackknife"
    )
    resamples_left_out: int = Field(default=0, description="resamples without a class that the metric needs")
    reason: str | None = Field(default=None, description="why the value or its interval is null")
    range_low: float | None = Field(
        default=None,
        description="lowest value that the bounds of the probabilities allow; null if there are no bounds",
    )
    range_high: float | None = None


class LabelMetrics(StrictModel):
    """Metrics of one label at the fixed threshold."""

    label: str
    n: int = Field(description="records in which the label was judged")
    positives: int
    metrics: dict[str, Metric] = Field(description="f1, precision, recall, roc_auc, average_precision")


class Bin(StrictModel):
    """One bar of a reliability diagram. All bins have about the same number of values; equal values share a bin."""

    n: int
    mean_probability: float
    share_positive: float
    low: float = Field(
        description="interval of share_positive: Clopper-Pearson; over records if a record has several values"
    )
    high: float


class Decomposition(StrictModel):
    """The exact decomposition score = miscalibration - discrimination + uncertainty (Dimitriadis, Gneiting & Jordan
    2021)."""

    miscalibration: float
    discrimination: float
    uncertainty: float


class CalibrationQuality(StrictModel):
    """How well probabilities match observed frequencies, over `n` values of the given splits."""

    splits: list[Split]
    n: int = Field(description="judged record × label values")
    positives: int
    ece: Metric = Field(
        description="expected calibration error over equal-mass bins, corrected for chance (not in older files)"
    )
    ece_plug_in: float | None = Field(
        default=None, description="the uncorrected error over the bins, as other tools compute it"
    )
    ece_if_calibrated: float | None = Field(
        description="95th percentile of `ece` for perfectly calibrated probabilities on as many records with equally "
        "dependent labels"
    )
    brier: Metric
    brier_parts: Decomposition | None
    log_loss: Metric = Field(description="nats; probabilities clipped to [1e-6, 1 - 1e-6]")
    log_loss_parts: Decomposition | None
    bins: list[Bin]


class CalibrationReport(StrictModel):
    """Calibration before and after recalibration, on records that the maps were not fitted on."""

    method: str
    reason: str | None = Field(description="why there is no recalibration, or why labels use the pooled map")
    raw: CalibrationQuality | None
    recalibrated: CalibrationQuality | None
    bias: Metric | None = Field(default=None, description="mean raw probability minus share of positives")
    improvement: Metric | None = Field(
        default=None, description="Brier score of the raw minus that of the recalibrated probabilities, paired"
    )
    labels_raw: dict[str, CalibrationQuality]
    labels_recalibrated: dict[str, CalibrationQuality] = Field(description="empty if there is no recalibration")


class Outcome(StrictModel):
    """The decisions of one threshold on one split, compared with gold."""

    split: Split
    n: int = Field(description="judged record × label values")
    positives: int
    flagged: int = Field(description="judged values at or above the threshold")
    precision: Metric
    recall: Metric
    f1: Metric
    false_positive_rate: Metric


class Threshold(StrictModel):
    """A threshold for one goal: a record is flagged when its probability >= threshold."""

    goal: str = Field(description="max_f1, 'precision >= 0.9', 'false_positive_rate <= 0.01'")
    threshold: float | None
    source: Literal["label", "global"] = Field(
        description="global: the threshold of all labels, because this label has too few positives"
    )
    reason: str | None = Field(default=None, description="why there is no threshold, or why it is the global one")
    chosen_on: Outcome | None
    judged_on: Outcome | None


class ThresholdReport(StrictModel):
    """All thresholds of one estimator."""

    overall: list[Threshold] = Field(
        description="one threshold for all labels together: max_f1 over record × label values"
    )
    labels: dict[str, list[Threshold]] = Field(description="per label, the verdict `unsafe` included")


class ReviewPoint(StrictModel):
    """Risk and coverage when people review the least certain records and the guard decides the rest."""

    share_reviewed: float
    n_kept: int
    hamming_loss: float | None = Field(description="share of wrong values, of the records that the guard decides")
    subset_error: float | None = Field(description="share of these records with at least one wrong judged label")
    subset_error_overall: float | None = Field(
        description="share of all records that stay wrong if every review is correct"
    )


class SoftLabel(StrictModel):
    """One label's part in SoftMetrics; null if no annotator and no decision names the label."""

    label: str
    brier: float | None = Field(description="(p - soft)²")
    disagreement: float | None = Field(description="soft (1 - soft)")
    expected_f1: float | None = Field(description="F1 of the guard against an annotator drawn at random")
    annotator_f1: float | None = Field(description="F1 of one annotator against another")


class SoftMetrics(StrictModel):
    """The guard against the individual annotators, not only gold. On average over annotators,
    (p - vote)² = (p - soft)² + soft (1 - soft)."""

    n: int = Field(description="records with soft labels")
    splits: list[Split]
    decided_at: str = Field(description="the fixed threshold, or 'own thresholds'")
    brier_against_votes: float
    guard: float = Field(description="mean (p - soft)²: the part that a better guard could remove")
    disagreement: float = Field(description="mean soft (1 - soft): the part due to disagreement among annotators")
    share_disagreement: float | None
    metrics: dict[str, Metric] = Field(
        description="brier, log_loss and entropy (nats), expected_micro_f1, …_precision, …_recall, "
        "expected_hamming_loss: the guard against an annotator drawn at random; annotator_micro_f1, "
        "annotator_hamming_loss: one annotator against another, the noise ceiling; annotator_gold_micro_f1: an "
        "annotator against gold; f1_below_annotators: the ceiling minus the guard, paired"
    )
    labels: list[SoftLabel]


class Curve(StrictModel):
    """Points for a plot, at most a few hundred, over pooled record × label values."""

    x: list[float]
    y: list[float]


class EstimatorEvaluation(StrictModel):
    """Everything about one estimator of one guard."""

    estimator: str
    baseline: bool = Field(description="for comparison only; never recommended")
    splits: list[Split] = Field(
        description="splits that `metrics`, `labels` and `verdict` are computed on; nothing is fitted for these"
    )
    n: int = Field(description="records of these splits in which at least one label was judged")
    threshold: float = Field(description="the fixed threshold of the decisions in `metrics`")
    metrics: dict[str, Metric]
    labels: list[LabelMetrics]
    labels_left_out: dict[str, str] = Field(description="label → why macro averages exclude it")
    verdict: dict[str, Metric] = Field(
        description="binary metrics of 'at least one label'; empty if the guard gives no verdict"
    )
    tuned: dict[str, Metric] = Field(description="decisions on the test split at each label's max-F1 threshold")
    calibration: CalibrationReport
    thresholds: ThresholdReport
    review: list[ReviewPoint]
    soft: SoftMetrics | None = Field(description="on the judged splits, decisions at the fixed threshold")
    soft_tuned: SoftMetrics | None = Field(description="on the test split, decisions at each label's own threshold")
    roc: Curve
    precision_recall: Curve


TESTED = (
    "whether the row belongs to the pre-specified comparison, on the primary metric; the intervals of a list's tested "
    "rows hold simultaneously. Other rows are descriptive, and each of their intervals holds on its own"
)


class Difference(StrictModel):
    """Estimator minus reference, on the same records and the same resamples."""

    estimator: str
    reference: str
    metric: str
    splits: list[Split]
    difference: Metric
    finding: Finding
    tested: bool = Field(default=False, description=TESTED)


class GuardDifference(StrictModel):
    """A guard's recommended estimator minus that of the run's first guard, on the records that both scored."""

    guard: str
    estimator: str
    reference: str = Field(description="the first guard")
    reference_estimator: str
    metric: str = Field(
        description="tuned_…: at each guard's own thresholds, on the test split; verdict_…: of the verdict"
    )
    on: str
    labels: list[str] = Field(description="labels that both guards score")
    difference: Metric
    finding: Finding
    tested: bool = Field(default=False, description=TESTED)


class Slice(StrictModel):
    """Metrics on the records that share one value of an attribute."""

    attribute: str
    value: str
    n: int = Field(description="records in which at least one label was judged")
    metrics: dict[str, Metric]


class Confusion(StrictModel):
    """Records with the label `gold` for which the guard missed it and wrongly gave `predicted` instead."""

    gold: str
    predicted: str
    records: int


class WorstRecord(StrictModel):
    """One of the records with the largest log loss."""

    record_id: str
    split: Split
    gold: list[str]
    predicted: list[str] = Field(description="of the labels that were judged")
    not_judged: list[str] = Field(default=[], description="labels that the guard scores and nobody judged")
    loss: float = Field(description="mean log loss over the judged labels, nats")


class BoundsEffect(StrictModel):
    """The effect on the recommended estimator's metrics of knowing its probabilities only within bounds."""

    widest: float = Field(description="largest upper - lower over judged record × label values")
    mean: float = Field(description="mean upper - lower over judged record × label values")
    beyond: int = Field(
        description="judged records whose bounds are wider than the tolerance that they were scored with"
    )
    wide: list[str] = Field(description="metrics whose range exceeds a third of their sampling interval")
    tolerance: float | None = Field(
        description="estimated score.tolerance at which `wide` would be empty; null if it is empty already or the "
        "scores were computed with a finer tolerance"
    )
    over_passages: bool = Field(
        default=False,
        exclude_if=lambda value: not value,
        description="whether the bounds are confidence intervals over sampled reasoning passages",
    )


class NotJudged(StrictModel):
    """The cells (final record × label) that nobody judged. They are neither positive nor negative, and every number
    leaves them out."""

    records: int = Field(description="records in which at least one of the labels was not judged")
    cells: int = Field(description="cells that were not judged")
    of_cells: int = Field(description="all cells: records × labels")
    verdicts: int = Field(
        description="records of which it is not known whether any label of the taxonomy applies: no judged label does, "
        "and not all were judged"
    )


class AnswerFormat(StrictModel):
    """How far a guard kept its answer format on the judged records, and whether its numbers are withheld for it."""

    records: int = Field(description="judged records: those on evaluate.judged_on")
    off_format: float | None = Field(description="mean probability of answers outside the format")
    greedy_answers: int | None = Field(description="greedy answers that were compared with the format; null if none")
    greedy_outside: int | None = Field(description="records among them whose greedy answer is outside the format")
    at_node_budget: int | None = Field(
        description="records whose search reached its node budget with more mass unexplored than the tolerance; null "
        "in scores of an older version"
    )
    limit: float = Field(description="evaluate.most_off_format, for off_format and for the share at_node_budget")
    reason: str | None = Field(description="what exceeds the limit; null if nothing does")
    withheld: bool = Field(
        description="whether the guard's numbers are not headlined and its thresholds withheld: something exceeds the "
        "limit, and evaluate.allow_off_format is not set"
    )


class OnlyBounds(StrictModel):
    """A label whose probability is known only within bounds. It has no metrics, calibration or thresholds."""

    label: str
    estimator: str = Field(description="the recommended one, or else the first of the scores")
    lower: float | None = Field(description="mean lower bound over the judged records; null without records")
    upper: float | None = Field(description="mean upper bound")


class GuardEvaluation(StrictModel):
    """Everything about one guard."""

    guard: str
    records: int = Field(description="final gold records with scores")
    left_out: dict[str, int] = Field(description="reason → number of final gold records without usable scores")
    not_judged: NotJudged | None = Field(
        default=None, description="among these records and the labels that the guard scores; null in older files"
    )
    labels_not_scored: list[str] = Field(description="labels of the taxonomy for which this guard has no code")
    only_bounds: list[OnlyBounds] = Field(default=[], description="scored labels without a probability")
    coverage: GuardCoverage | None = Field(
        default=None, description="null if the guard's categories are labels of the taxonomy (no `categories`)"
    )
    estimators_left_out: dict[str, str]
    recommended: str | None
    recommended_because: str
    off_language: float | None = Field(description="mean probability of answers outside the guard's format")
    unexplored: float | None = Field(
        description="mean probability of the prefixes not expanded when the search stopped"
    )
    answer_format: AnswerFormat | None = Field(default=None, description="null in files of an older version")
    seconds: float = Field(description="total scoring time of all records")
    forward_passes: int
    estimators: list[EstimatorEvaluation]
    differences: list[Difference]
    against_frequency: Difference | None = Field(
        default=None, description="micro ROC AUC of the recommended estimator minus that of label_frequency"
    )
    bounds: BoundsEffect | None = Field(default=None, description="null if there are no bounds")
    slices: list[Slice]
    confusions: list[Confusion]
    worst: list[WorstRecord]


class GoldCounts(StrictModel):
    """Counts of gold records, and of those that evaluation cannot use."""

    records: int
    final: int
    left_out: dict[str, int] = Field(description="status → number of records without final labels")
    safe: int = Field(description="final records in which all labels were judged and none applies")
    splits: dict[str, int] = Field(description="final records by split")
    positives: dict[str, int] = Field(description="label → number of final records that have it")
    judged: dict[str, int] | None = Field(
        default=None, description="label → number of final records in which it was judged; null in older files"
    )
    not_judged: NotJudged | None = Field(
        default=None, description="among the final records and the labels of the taxonomy; null in older files"
    )
    equal_texts: EqualTexts | None = Field(default=None, description="null in files of an older version")


class Evaluation(StrictModel):
    """The whole of evaluation.json."""

    version: Literal[1] = 1
    simulated: bool = Field(description="the gold comes from simulated annotators")
    taxonomy: str
    confidence: float
    resamples: int
    seed: int
    gold: GoldCounts
    guards: list[GuardEvaluation]
    guard_differences: list[GuardDifference] = Field(default=[], description="empty with fewer than two guards")
