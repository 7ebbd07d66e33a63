"""Metrics, estimators and evaluations with planted values, for the tests of findings."""

from __future__ import annotations

from typing import Any

from marginalia.schemas.evaluation_json import (
    Bin,
    CalibrationQuality,
    CalibrationReport,
    Curve,
    Difference,
    EstimatorEvaluation,
    Finding,
    GuardEvaluation,
    Metric,
)

EMPTY: Any = {}


def metric(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> Metric:
    return Metric(value=value, low=low, high=high, n=100, **more)


BETTER, WORSE = metric(0.9, 0.88, 0.92), metric(0.3, 0.2, 0.4)
UNCLEAR, NONE = metric(0.6, 0.45, 0.75), metric(0.9)


def estimator(name: str, auc: Metric, *, baseline: bool = False, micro: Metric | None = None) -> EstimatorEvaluation:
    return EstimatorEvaluation.model_construct(
        estimator=name,
        baseline=baseline,
        threshold=0.5,
        n=100,
        splits=["test"],
        metrics={"macro_roc_auc": auc, "micro_roc_auc": micro or auc, "micro_f1": metric(0.5, 0.4, 0.6)},
        tuned=EMPTY,
        verdict=EMPTY,
        labels=[],
        calibration=CalibrationReport.model_construct(raw=None, recalibrated=None, method="identity"),
        roc=Curve(x=[0, 1], y=[0, 1]),
    )


def difference(
    word: Finding, *, of: str = "joint", reference: str = "marginal", name: str = "macro_roc_auc"
) -> Difference:
    return Difference(
        estimator=of,
        reference=reference,
        metric=name,
        splits=["test"],
        difference=metric(-0.1, -0.2, -0.05),
        finding=word,
        tested=True,
    )


def page(estimators: list[EstimatorEvaluation], recommended: str = "marginal", **more: Any) -> GuardEvaluation:
    values = {
        "differences": [],
        "against_frequency": None,
        "bounds": None,
        "left_out": {},
        "labels_not_scored": [],
        "only_bounds": [],
        "coverage": None,
        "records": 100,
        **more,
    }
    return GuardEvaluation.model_construct(guard="g", estimators=estimators, recommended=recommended, **values)


def quality(ece: float | None, limit: float | None, **more: Any) -> CalibrationQuality:
    return CalibrationQuality(
        splits=["test"],
        n=100,
        positives=20,
        ece=metric(ece, **more),
        ece_if_calibrated=limit,
        brier=metric(0.1),
        brier_parts=None,
        log_loss=metric(0.3),
        log_loss_parts=None,
        bins=[Bin(n=100, mean_probability=0.4, share_positive=0.2, low=0.1, high=0.3)],
    )


def calibration(raw: CalibrationQuality, **more: Any) -> CalibrationReport:
    values = {
        "recalibrated": None,
        "labels_raw": {},
        "labels_recalibrated": {},
        "reason": None,
        "method": "platt",
        **more,
    }
    return CalibrationReport(raw=raw, **values)
