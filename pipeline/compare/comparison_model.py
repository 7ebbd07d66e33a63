"""The result of `marginalia compare`, as `--json` prints it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.evaluation_json import Finding, Metric


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
