from __future__ import annotations

from typing import Any

import krippendorff
import numpy as np
import polars as pl
import pytest

from marginalia.annotation.config import AnnotationSection, ReconcileSection
from marginalia.annotation.gold.reconcile import reconcile
from marginalia.annotation.gold.severity import gold_severity, severity_of
from marginalia.schemas.tables import GoldSeverity, SeverityAnswer
from tests.annotation.answers import answers, records

LEVELS = ["minor", "serious", "extreme"]


def levels(given: dict[str, dict[str, int]], *, label: str = "a", round: str = "annotate") -> pl.DataFrame:
    """`given`: level by record and annotator."""
    rows: list[dict[str, Any]] = [
        {"record_id": record, "annotator": annotator, "round": round, "label": label, "level": level}
        for record, by in given.items()
        for annotator, level in by.items()
    ]
    return SeverityAnswer.frame(rows)


def test_agreement_on_levels_is_the_alpha_computed_by_hand() -> None:
    # Pairs (1, 2) and (3, 3): sizes 1, 1, 2. Distances: 1-2 (2 - 1)^2 = 1, 1-3 (4 - 3/2)^2 = 25/4,
    # 2-3 (3 - 3/2)^2 = 9/4.
    # Observed 2 · 1, times 4 - 1: 6. Expected 2 (1 + 2 · 25/4 + 2 · 9/4) = 36
    given = levels({"r1": {"X": 1, "Y": 2}, "r2": {"X": 3, "Y": 3}, "r3": {"X": 1}})
    by_label = {severity.label: severity for severity in severity_of(given, ["a", "b"], LEVELS, 50, seed="s").per_label}
    assert by_label["a"].alpha.value == pytest.approx(1 - 6 / 36)
    assert (by_label["a"].counts, by_label["a"].alpha.n) == ([2, 1, 2], 2)
    assert (by_label["b"].counts, by_label["b"].alpha.value, by_label["b"].alpha.n) == ([0, 0, 0], None, 0)


def test_agreement_on_levels_is_that_of_the_krippendorff_package() -> None:
    drawn = np.random.default_rng(7).integers(1, 4, size=(40, 4))
    given = levels(
        {f"r{at}": {f"A{annotator}": int(level) for annotator, level in enumerate(row)} for at, row in enumerate(drawn)}
    )
    expected = krippendorff.alpha(reliability_data=drawn.T, level_of_measurement="ordinal")
    (severity,) = severity_of(given, ["a"], LEVELS, 200, seed="s").per_label
    assert severity.alpha.value == pytest.approx(expected)
    assert severity.alpha.low is not None
    assert severity.alpha.high is not None
    assert severity.alpha.low < expected < severity.alpha.high


def test_gold_has_the_median_level_and_experts_win() -> None:
    crowd = answers({"r1": {"X": "a", "Y": "a"}, "r2": {"X": "a", "Y": ""}, "r3": {"X": "a", "Y": "b"}})
    expert = answers({"r2": {"E": "a"}, "r3": {"E": "a"}}, round="adjudicate")
    gold = reconcile(
        records("r1", "r2", "r3"), pl.concat([crowd, expert]), ["a", "b"], ReconcileSection(compare=False), seed=1
    )
    given = pl.concat(
        [
            levels({"r1": {"X": 1, "Y": 2}, "r2": {"X": 1}, "r3": {"X": 2}}),
            levels({"r3": {"Y": 3}}, label="b"),  # a label that did not become gold
            levels({"r2": {"E": 3}}, round="adjudicate"),  # and on r3 the expert gave no level
        ]
    )
    result = gold_severity(gold, given)
    assert result.schema == GoldSeverity.polars_schema()
    assert result.rows() == [("r1", "a", 1.5, 2, False), ("r2", "a", 3.0, 1, True), ("r3", "a", 2.0, 1, False)]
    assert gold_severity(gold, SeverityAnswer.frame([])).rows() == []


@pytest.mark.parametrize("wrong", [["one"], ["a", "A"], ["a", " "]])
def test_levels_with_equal_names_are_refused(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="at least two levels with different names"):
        AnnotationSection(severity=wrong)
