"""Config of the stage evaluate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.evaluation_json import Primary, Split

Share = Annotated[float, Field(gt=0, lt=1)]


class EvaluateSection(StrictModel):
    """How guards are compared with gold: metrics, calibration and thresholds."""

    threshold: Share = Field(
        default=0.5,
        description="fixed threshold of the decisions in `metrics`; tuned thresholds are reported in addition",
    )
    judged_on: list[Split] = Field(
        default=["calibration", "test"],
        min_length=1,
        description="splits for numbers that need no fitting (AUC, decisions at the fixed threshold); leave "
        "out `train` if the guard was trained on it",
    )
    where: dict[str, str] = Field(
        default={},
        description="evaluate only records with these attributes, such as {source: included}; the others are counted "
        "as left out",
    )
    resamples: int = Field(default=1000, ge=100, le=100_000, description="bootstrap resamples of the records")
    confidence: Share = Field(
        default=0.95, description="confidence level of all intervals, and of the guarantees of thresholds"
    )
    primary: Primary = Field(
        default="macro_roc_auc",
        description="the metric that decides which guard or estimator is better; choose it before you see results. "
        "Differences in the other metrics are descriptive",
    )
    reference: str = Field(default="marginal", description="estimator that the others are compared with")
    calibration_method: Literal["auto", "identity", "platt", "beta", "isotonic"] = Field(
        default="auto", description="calibration map; auto takes the one with the lowest cross-fitted log loss"
    )
    min_positives: int = Field(
        default=10, ge=1, description="a label with fewer positives (or negatives) gets the pooled map and threshold"
    )
    folds: int = Field(default=5, ge=2, le=20, description="folds of the cross-fitting on the calibration split")
    bins: int = Field(default=10, ge=2, le=100, description="equal-mass bins of ECE and reliability diagrams")
    precision_targets: list[Share] = Field(default=[0.9], description="goals 'precision >= x' for thresholds")
    false_positive_targets: list[Share] = Field(
        default=[0.01, 0.05], description="goals 'false_positive_rate <= y' for thresholds"
    )
    most_off_format: float = Field(
        default=0.2,
        ge=0,
        le=1,
        exclude_if=lambda value: value == 0.2,  # configs without it keep their hash
        description="when more than this share of a guard's probability is outside its answer format, or this share of "
        "records reached score.node_budget, its numbers are not headlined and its thresholds are withheld",
    )
    allow_off_format: bool = Field(
        default=False,
        exclude_if=lambda value: not value,
        description="headline the numbers and give the thresholds of such guards all the same",
    )
    worst_records: int = Field(
        default=12, ge=0, le=200, description="number of records with the highest loss to list in the report"
    )
