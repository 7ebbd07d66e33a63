"""calibration.json: monotone maps from a guard's probabilities to calibrated ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.label_coverage import LabelCoverage

Source = Literal["label", "pooled", "identity"]


class Identity(StrictModel):
    """No change: too few records, or no other map is better in cross-fitting."""

    method: Literal["identity"] = "identity"


class Platt(StrictModel):
    """sigmoid(slope * logit(p) + intercept), slope >= 0."""

    method: Literal["platt"] = "platt"
    slope: float = Field(ge=0)
    intercept: float


class Beta(StrictModel):
    """sigmoid(a * ln p - b * ln(1 - p) + c), a and b >= 0."""

    method: Literal["beta"] = "beta"
    a: float = Field(ge=0)
    b: float = Field(ge=0)
    c: float


class Isotonic(StrictModel):
    """Linear between the knots (x, y), constant outside them."""

    method: Literal["isotonic"] = "isotonic"
    x: list[float]
    y: list[float]


CalibrationMap = Annotated[Identity | Platt | Beta | Isotonic, Field(discriminator="method")]


class LabelMap(StrictModel):
    """The map of one label."""

    map: CalibrationMap
    source: Source = Field(description="label: fitted on this label; pooled: the map of all labels; identity: neither")
    positives: int = Field(description="records with this label among those that the map was fitted on")


class Calibration(StrictModel):
    """Monotone maps from a guard's probability to a calibrated one, one per label."""

    version: Literal[1] = 1
    simulated: bool
    guard: str = Field(description="the guard's name in the run in which the maps were fitted")
    family: str | None = Field(default=None, description="name of its guard file; null in files of an older version")
    model: str | None = Field(default=None, description="the model that gave the scores, as named in the run's config")
    categories: list[LabelCoverage] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="which of the guard's categories its labels consist of; absent if these are the labels",
    )
    estimator: str
    method: str = Field(
        description="identity, platt, beta or isotonic: the best in cross-fitting, or the one that the config sets"
    )
    records: int = Field(description="records of the calibration split, on which the maps were fitted")
    withheld: str | None = Field(
        default=None, description="why the maps should not be used: the guard did not keep its answer format"
    )
    cross_fitted_log_loss: dict[str, float] = Field(description="method → mean out-of-fold log loss (nats)")
    pooled: CalibrationMap
    labels: dict[str, LabelMap]


class CalibrationFile(StrictModel):
    """The whole of calibration.json: for each guard the recommended estimator's maps first, then the others'."""

    version: Literal[1] = 1
    calibrations: list[Calibration]
