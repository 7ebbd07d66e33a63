"""Findings about calibration and about guards next to annotators, with planted values."""

from __future__ import annotations

import pytest

from marginalia.pipeline.report.calibration_findings import (
    annotators_finding,
    calibration_finding,
    label_calibration_finding,
)
from marginalia.schemas.evaluation_json import (
    CalibrationQuality,
    CalibrationReport,
    Metric,
    SoftMetrics,
)
from tests.pipeline.report.planted_values import calibration, metric, quality


def test_calibration() -> None:
    high, low, even = metric(0.2, 0.1, 0.3), metric(-0.2, -0.3, -0.1), metric(0.2, -0.1, 0.3)

    def sentence(report: CalibrationReport) -> str:
        return calibration_finding(report).sentence

    assert sentence(calibration(quality(0.2, 0.1), bias=high)).startswith(
        "Probabilities are too high: 40 % on average, while 20 % of labels apply"
    )
    assert sentence(calibration(quality(0.2, 0.1), bias=low)).startswith("Probabilities are too low")
    for unclear in (even, None):
        assert sentence(calibration(quality(0.2, 0.1), bias=unclear)).startswith(
            "Probabilities are not calibrated (ECE 0.20)"
        )
    assert sentence(calibration(quality(0.1, 0.1), bias=high)).startswith("No evidence that the guard's")
    assert sentence(calibration(quality(0.2, 0.1, range_low=0.05, range_high=0.3), bias=high)).startswith("No evidence")
    assert "could not be tested" in sentence(calibration(quality(0.2, None)))
    few = quality(0.2, 0.1).model_copy(update={"n": 12})
    assert sentence(calibration(few)) == "The calibration of the guard's probabilities could not be tested (ECE 0.20)"
    assert sentence(calibration(quality(0.2, 0.1))).endswith(
        "; of the labels with the highest probabilities (40 % on average), 20 % (10–30) apply"
    )
    assert "changes the ECE from 0.20 to under 0.01" in sentence(
        calibration(quality(0.2, 0.1), recalibrated=quality(0.001, 0.1))
    )
    assert sentence(calibration(quality(None, None))) == "There are no test records to judge calibration on"
    for gain, end in (
        (high, "clearly lowers the Brier score"),
        (low, "clearly raises the Brier score"),
        (even, "without a clear change of the Brier score"),
        (None, "from 0.20 to 0.05"),
    ):
        title = sentence(calibration(quality(0.2, 0.1), recalibrated=quality(0.05, 0.1), improvement=gain))
        assert title.endswith(end), title


def test_few_records_are_no_evidence_of_calibration() -> None:
    few, enough = [quality(0.03, 0.11).model_copy(update={"n": 30, "positives": positives}) for positives in (9, 10)]
    for value in (few, few.model_copy(update={"positives": 21})):  # few positives, few negatives
        assert calibration_finding(calibration(value)).sentence.startswith(
            "Too few records to say whether the guard's probabilities are calibrated (ECE 0.03; calibrated ones reach "
            "up to 0.11 by chance); of the labels with"
        )
    assert calibration_finding(calibration(enough)).sentence.startswith("No evidence that the guard's")

    def of_labels(**labels: CalibrationQuality) -> str:
        return label_calibration_finding(calibration(enough, labels_raw=labels), {}).sentence

    assert of_labels(a=few, b=few) == "Too few records to say whether the probabilities of 2 labels are calibrated"
    assert of_labels(a=few, b=enough) == "No evidence of miscalibration for 1 label; too few records to tell for 1"
    assert of_labels(a=enough) == "No evidence of miscalibration for any of 1 label"


def test_calibration_of_each_label() -> None:
    def sentence(**labels: CalibrationQuality) -> str:
        return label_calibration_finding(calibration(quality(0.2, 0.1), labels_raw=labels), {"a": "Ant"}).sentence

    off, fine, unknown = quality(0.3, 0.1), quality(0.1, 0.1), quality(0.3, None)
    assert sentence(a=off, b=fine, c=unknown).startswith("For 1 of 2 labels the calibration error is larger")
    assert sentence(a=off, b=fine).endswith("Ant has the largest (ECE 0.30; 20 percentage points too high on average)")
    assert sentence(a=fine) == "No evidence of miscalibration for any of 1 label"
    assert sentence(a=unknown).endswith("could not be tested")


@pytest.mark.parametrize(
    ("gap", "end"),
    [
        (metric(0.2, 0.1, 0.3), ": the guard is clearly below"),
        (metric(-0.2, -0.3, -0.1), ": the guard is clearly above"),
        (metric(0.1, -0.1, 0.3), ": no clear difference"),
        (metric(0.1), "reaches 0.70; too few records to compare them"),
        (metric(0.2, 0.1, 0.3).model_copy(update={"n": 12}), "; too few records to compare them"),
    ],
)
def test_annotators(gap: Metric, end: str) -> None:
    metrics = {"expected_micro_f1": metric(0.5), "annotator_micro_f1": metric(0.7), "f1_below_annotators": gap}
    assert annotators_finding(SoftMetrics.model_construct(metrics=metrics), "marginal").sentence.endswith(end)
