"""Decisions about planted scores: each rule, and bounds around each threshold."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest

from marginalia.schemas.calibration_json import Calibration, Identity, Isotonic, LabelMap, Platt
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.measures.calibration import apply
from marginalia.scoring.moderation_decision import (
    ModerationDecision,
    action_at,
    decide_error,
    decide_label,
    decide_scores,
)
from marginalia.scoring.moderation_profile import LabelRule, ModerationRules
from marginalia.scoring.record_scores import RecordScores
from marginalia.scoring.scored_record import Probability, Result

BOTH, ONLY_BLOCK, ONLY_REVIEW = LabelRule(block=0.8, review=0.4), LabelRule(block=0.8), LabelRule(review=0.4)
RULES = ModerationRules()


def scores(off_language: float = 0.0, **bounds: tuple[float, float, float]) -> RecordScores:
    columns = [np.array(column, dtype=np.float64) for column in zip(*bounds.values(), strict=True)]
    result = Result("r", {"marginal": LabelEstimates(*columns)}, off_language=off_language)
    return RecordScores(result, list(bounds), "marginal")


def rules(**values: Any) -> ModerationRules:
    return ModerationRules.model_validate(values)


@pytest.mark.parametrize(
    ("rule", "probability", "action"),
    [
        (BOTH, 0.8, "block"),
        (BOTH, 0.79, "review"),
        (BOTH, 0.4, "review"),
        (BOTH, 0.39, "pass"),
        (ONLY_BLOCK, 0.79, "pass"),
        (ONLY_REVIEW, 1.0, "review"),
    ],
)
def test_a_threshold_belongs_to_the_action_above_it(rule: LabelRule, probability: float, action: str) -> None:
    decided = decide_label("a", Probability(probability, probability, probability), rule, "review")
    assert (decided.action, decided.straddles, action_at(probability, rule)) == (action, False, action)


@pytest.mark.parametrize(
    ("rule", "lower", "upper", "then", "action"),
    [
        (BOTH, 0.7, 0.9, "review", "review"),
        (BOTH, 0.7, 0.9, "block", "block"),
        (BOTH, 0.7, 0.9, "pass", "review"),  # it certainly calls for a review
        (BOTH, 0.3, 0.5, "block", "review"),  # it certainly does not call for block
        (BOTH, 0.3, 0.5, "pass", "pass"),
        (BOTH, 0.3, 0.9, "review", "review"),
        (ONLY_BLOCK, 0.7, 0.9, "review", "review"),
        (ONLY_REVIEW, 0.3, 0.5, "block", "review"),
    ],
)
def test_straddling_bounds(rule: LabelRule, lower: float, upper: float, then: Any, action: str) -> None:
    decided = decide_label("a", Probability((lower + upper) / 2, lower, upper), rule, then)
    assert (decided.action, decided.straddles) == (action, True)
    assert "straddles a threshold" in decided.reason and decided.reason.endswith(f": {action}")


def test_a_label_with_only_bounds_is_decided_by_them() -> None:
    def decided(lower: float, upper: float) -> str:
        return decide_label("a", Probability(None, lower, upper), BOTH, "review").action

    assert [decided(0.85, 0.95), decided(0.0, 0.3), decided(0.0, 0.95)] == ["block", "pass", "review"]


def test_the_strictest_label_decides_and_ignored_ones_do_not() -> None:
    found = scores(a=(0.9, 0.9, 0.9), b=(0.5, 0.5, 0.5), c=(0.99, 0.99, 0.99))
    labels = {"a": ONLY_REVIEW, "b": BOTH, "c": LabelRule(ignore=True)}
    decided = decide_scores(found, labels, RULES)
    assert (decided.action, list(decided.labels)) == ("review", ["a", "b"])
    assert decided.reasons == [
        "a: probability 0.9 (0.9 to 0.9): review from 0.4",
        "b: probability 0.5 (0.5 to 0.5): review from 0.4",
    ]
    stricter = decide_scores(found, {**labels, "c": ONLY_BLOCK}, RULES)
    assert stricter.action == "block" and stricter.reasons[0].startswith("c: ")
    assert decide_scores(scores(a=(0.1, 0.1, 0.1)), {"a": BOTH}, RULES).reasons == []


@pytest.mark.parametrize(
    ("then", "share", "probability", "action"),
    [
        ("review", 0.2, 0.0, "review"),
        ("block", 0.2, 0.0, "block"),
        ("pass", 0.2, 0.0, "pass"),
        ("pass", 0.2, 0.9, "block"),  # the labels still decide
        ("review", 0.2, 0.9, "block"),
        ("review", 0.21, 0.0, "pass"),
    ],
)
def test_answers_outside_the_format(then: str, share: float, probability: float, action: str) -> None:
    found = scores(0.2, a=(probability,) * 3)
    assert decide_scores(found, {"a": BOTH}, rules(off_format={"share": share, "then": then})).action == action


@pytest.mark.parametrize(("fail", "too_long"), list(product(("closed", "open", "review"), ("block", "review", "pass"))))
def test_a_record_without_scores(fail: str, too_long: str) -> None:
    chosen = rules(fail=fail, too_long=too_long)
    lost = decide_error("r", "the server is down", chosen)
    expected = {"closed": "block", "open": "pass", "review": "review"}[fail]
    assert (lost.action, lost.error) == (expected, "the server is down")
    assert lost.reasons == [f"not scored: the server is down; fail: {fail}"]
    assert decide_error("r", "too long: the prompt has 9 tokens", chosen).action == too_long


def test_by_default_nothing_passes_unjudged() -> None:
    assert decide_error("r", "x", RULES).action == "block"
    assert decide_error("r", "too long: x", RULES).action == "review"


def test_calibrated_bounds_come_from_the_same_map() -> None:
    maps = {
        "a": LabelMap(map=Platt(slope=2.0, intercept=-1.0), source="label", positives=20),
        "b": LabelMap(map=Isotonic(x=[0.1, 0.5], y=[0.2, 0.9]), source="label", positives=20),
    }
    calibration = Calibration(
        simulated=False, guard="g", estimator="marginal", method="platt", records=9, cross_fitted_log_loss={},
        pooled=Identity(), labels=maps,
    )  # fmt: skip
    value = (0.3, 0.2, 0.45)
    found = scores(a=value, b=value, c=value, unsafe=value)
    decided = decide_scores(found, dict.fromkeys(("a", "b", "c", "unsafe"), BOTH), RULES, calibration)
    for label in ("a", "b"):
        expected = [apply(calibration, label, p) for p in value]
        assert decided.labels[label].calibrated == pytest.approx(expected)
        assert decided.labels[label].probability == value
    assert decided.labels["c"].calibrated == decided.labels["unsafe"].calibrated == value
    assert {label.action for label in decided.labels.values()} == {"review"}  # thresholds are of uncalibrated ones


def test_a_decision_as_json() -> None:
    decided = decide_scores(scores(0.25, a=(0.85, 0.85, 0.85)), {"a": BOTH}, RULES)
    values = json.loads(json.dumps(decided.to_dict()))
    assert (values["action"], values["off_language"], values["labels"]["a"]["block"]) == ("block", 0.25, 0.8)
    assert values.keys() == ModerationDecision.__dataclass_fields__.keys()
