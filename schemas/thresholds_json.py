"""thresholds.json: one threshold per guard, estimator, label and goal, for a moderation service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class ServiceThreshold(StrictModel):
    """The threshold for one goal; null with a reason if the goal cannot be attained."""

    threshold: float | None
    source: Literal["label", "global"]
    reason: str | None


class EstimatorThresholds(StrictModel):
    """The thresholds of one estimator: goal → threshold for all labels together, and label → goal → threshold."""

    overall: dict[str, ServiceThreshold]
    labels: dict[str, dict[str, ServiceThreshold]]


class GuardThresholds(StrictModel):
    """The thresholds of one guard, by estimator."""

    recommended: str | None
    withheld: str | None = Field(
        default=None, description="why all its thresholds are null: the guard did not keep its answer format"
    )
    estimators: dict[str, EstimatorThresholds]


class ThresholdsFile(StrictModel):
    """The whole of thresholds.json."""

    version: Literal[1] = 1
    simulated: bool
    taxonomy: str
    rule: str = "flag a label when its uncalibrated probability (scores/GUARD.parquet) >= threshold"
    confidence: float = Field(description="of each guaranteed precision or false-positive rate on its own")
    chosen_on: str = "calibration"
    guards: dict[str, GuardThresholds]
