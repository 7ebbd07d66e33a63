"""The headline numbers of a card: what the recommended estimator of each guard reaches on this gold."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.report import as_text
from marginalia.schemas.evaluation_json import EstimatorEvaluation, Evaluation, GuardEvaluation


@dataclass(frozen=True)
class Headline:
    """One guard's row of the card's table; texts ready to be shown, an em dash where there is no number."""

    guard: str
    estimator: str
    records: int
    threshold: str
    macro_roc_auc: str
    micro_f1: str  # at each label's own threshold, on the test split
    false_positive_rate: str
    ece: str
    warning: str | None


def headlines(evaluation: Evaluation) -> list[Headline]:
    """A row for each guard that has a recommended estimator."""
    best = [(page, _recommended(page)) for page in evaluation.guards]
    return [_headline(page, each) for page, each in best if each is not None]


def _recommended(page: GuardEvaluation) -> EstimatorEvaluation | None:
    return next((each for each in page.estimators if each.estimator == page.recommended), None)


def _headline(page: GuardEvaluation, best: EstimatorEvaluation) -> Headline:
    report = best.calibration
    ece = as_text.with_interval(report.raw.ece) if report.raw is not None else "—"
    if report.recalibrated is not None:
        ece += f", {as_text.number(report.recalibrated.ece.value)} after {as_text.method(report.method)} recalibration"
    chance = as_text.against_chance(as_text.deciding(best)[1])
    rate = best.verdict.get("false_positive_rate")
    return Headline(
        guard=page.guard,
        estimator=best.estimator,
        records=best.n,
        threshold=f"{best.threshold:g}",
        macro_roc_auc=as_text.with_interval(best.metrics["macro_roc_auc"]),
        micro_f1=as_text.with_interval(best.tuned["micro_f1"]) if best.tuned else "—",
        false_positive_rate=as_text.with_interval(rate) if rate is not None else "—",
        ece=ece,
        warning=f"{page.guard} judges {chance}" if chance in (as_text.UNCLEAR, "worse than chance") else None,
    )
