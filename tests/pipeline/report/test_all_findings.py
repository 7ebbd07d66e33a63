"""Every finding, with planted values for each answer that it can give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import get_args

import pytest

from marginalia.pipeline.report import (
    calibration_findings,
    comparison_findings,
    estimator_findings,
    gold_findings,
    label_findings,
)
from marginalia.pipeline.report.finding import Finding
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import (
    BoundsEffect,
    Confusion,
    EstimatorEvaluation,
    GuardDifference,
    GuardEvaluation,
    LabelMetrics,
    Metric,
    NotJudged,
    ReviewPoint,
    Slice,
    SoftMetrics,
)
from marginalia.schemas.evaluation_json import Finding as PairedFinding
from marginalia.scoring.measures.conclusions import FEW_RECORDS, Answer
from tests.pipeline.report.planted_values import (
    BETTER,
    NONE,
    UNCLEAR,
    WORSE,
    calibration,
    difference,
    estimator,
    metric,
    page,
    quality,
)

MODULES = (calibration_findings, comparison_findings, estimator_findings, gold_findings, label_findings)
HIGHER, LOWER, OPEN = metric(0.2, 0.1, 0.3), metric(-0.2, -0.3, -0.1), metric(0.1, -0.1, 0.3)
FEW = HIGHER.model_copy(update={"n": FEW_RECORDS - 1})


def with_labels(*aucs: Metric) -> EstimatorEvaluation:
    rows = [LabelMetrics(label=f"l{at}", n=auc.n, positives=9, metrics={"roc_auc": auc}) for at, auc in enumerate(aucs)]
    return estimator("marginal", BETTER).model_copy(update={"labels": rows})


def labels(*aucs: Metric) -> Finding:
    return label_findings.labels_finding(with_labels(*aucs), {}, 0.95)


def weakest(*aucs: Metric) -> Finding:
    return label_findings.weakest_label_finding(with_labels(*aucs), {}, 0.95)


def slices(*aucs: Metric) -> Finding:
    rows = [
        Slice(attribute="form", value=str(at), n=auc.n, metrics={"micro_roc_auc": auc}) for at, auc in enumerate(aucs)
    ]
    return label_findings.slices_finding(rows, 0.95)


def confusions(*counts: int) -> Finding:
    pairs = [Confusion(gold=f"a{at}", predicted="b", records=count) for at, count in enumerate(counts)]
    return label_findings.confusions_finding(pairs, {})


def review(left: int, n: int = 1000) -> Finding:
    points = [
        ReviewPoint(
            share_reviewed=share, n_kept=kept, hamming_loss=0.1, subset_error=None, subset_error_overall=wrong / n
        )
        for share, kept, wrong in ((0.0, n, int(0.4 * n)), (0.2, n - n // 5, left))
    ]
    return label_findings.review_finding(points)


def frequency(finding: PairedFinding) -> Finding:
    best, baseline = estimator("marginal", BETTER), estimator("label_frequency", metric(0.5), baseline=True)
    return estimator_findings.frequency_finding(page([best, baseline], against_frequency=difference(finding)), best)


def judged(n: int, final: int) -> Finding:
    best = estimator("marginal", BETTER).model_copy(update={"n": n})
    return estimator_findings.judged_finding(page([best], records=n), best, final)


def bounded(wide: list[str] | None) -> GuardEvaluation:
    effect = BoundsEffect(widest=0.1, mean=0.02, beyond=0, wide=wide, tolerance=None) if wide is not None else None
    return page([], bounds=effect)


def guards(finding: PairedFinding, gap: Metric = HIGHER) -> Finding:
    row = GuardDifference(
        guard="b", estimator="marginal", reference="a", reference_estimator="marginal", metric="macro_roc_auc",
        on="judged splits", labels=["x"], difference=gap, finding=finding, tested=True,
    )  # fmt: skip
    return comparison_findings.guards_finding([row])


def not_judged(cells: int, verdicts: int) -> NotJudged:
    return NotJudged(records=cells, cells=cells, of_cells=60, verdicts=verdicts)


def annotators(gap: Metric) -> Finding:
    metrics = {"expected_micro_f1": metric(0.5), "annotator_micro_f1": metric(0.7), "f1_below_annotators": gap}
    return calibration_findings.annotators_finding(SoftMetrics.model_construct(metrics=metrics), "marginal")


def counts(*records_and_judged: tuple[int, int]) -> Finding:
    rows = [gold_findings.LabelCount(f"l{at}", n, seen, None) for at, (n, seen) in enumerate(records_and_judged)]
    return gold_findings.label_counts_finding(rows)


def covered(*accepted: int) -> Finding:
    rows = [gold_findings.CoveredValue("form", str(at), 5, n, n) for at, n in enumerate(accepted)]
    return gold_findings.coverage_finding(rows)


def estimate(value: float, low: float | None, high: float | None, n: int = 40) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n)


alpha = partial(gold_findings.agreement_finding, lowest=None)
anchored = gold_findings.anchoring_finding
runs = partial(comparison_findings.runs_finding, "a", "b", "macro_roc_auc")
estimators = estimator_findings.estimators_finding
# finding → answer → one planted case of it. Where an answer is missing, the function's docstring says why, or the
# question is about counts, which leave nothing open.
CASES: Mapping[str, Mapping[Answer, Finding]] = {
    "chance_finding": {
        "yes": estimator_findings.chance_finding(BETTER),
        "no": estimator_findings.chance_finding(WORSE),
        "cannot tell": estimator_findings.chance_finding(UNCLEAR),
        "not computed": estimator_findings.chance_finding(BETTER.model_copy(update={"n": FEW_RECORDS - 1})),
    },
    "estimators_finding": {
        "yes": estimators(page([estimator("marginal", BETTER), estimator("joint", WORSE)])),
        "no": estimators(page([estimator("marginal", WORSE), estimator("joint", WORSE)])),
        "cannot tell": estimators(page([estimator("marginal", WORSE), estimator("joint", UNCLEAR)])),
        "not computed": estimators(page([estimator("marginal", NONE)])),
    },
    "frequency_finding": {
        "yes": frequency("better"),
        "no": frequency("worse"),
        "cannot tell": frequency("no clear difference"),
        "not computed": frequency("not known"),
    },
    "bounds_finding": {
        "yes": estimator_findings.bounds_finding(bounded(["micro_f1"])),
        "no": estimator_findings.bounds_finding(bounded([])),
        "not computed": estimator_findings.bounds_finding(bounded(None)),
    },
    "judged_finding": {"yes": judged(40, 40), "no": judged(39, 40), "not computed": judged(0, 40)},
    "labels_finding": {
        "yes": labels(BETTER, BETTER),
        "no": labels(BETTER, WORSE),
        "cannot tell": labels(BETTER, UNCLEAR),
        "not computed": labels(NONE, BETTER.model_copy(update={"n": FEW_RECORDS - 1})),
    },
    "weakest_label_finding": {
        "yes": weakest(BETTER, WORSE),
        "cannot tell": weakest(BETTER, UNCLEAR, metric(0.65, 0.5, 0.8)),
        "not computed": weakest(BETTER, WORSE.model_copy(update={"n": FEW_RECORDS - 1})),
    },
    "slices_finding": {
        "yes": slices(WORSE, BETTER),
        "cannot tell": slices(UNCLEAR, UNCLEAR),
        "not computed": slices(WORSE, BETTER.model_copy(update={"n": FEW_RECORDS - 1})),
    },
    "confusions_finding": {
        "yes": confusions(30, 8),
        "cannot tell": confusions(5, 3),
        "not computed": confusions(1, 1),
    },
    "review_finding": {
        "yes": review(220),
        "no": review(380),
        "cannot tell": review(315),
        "not computed": review(2, FEW_RECORDS - 1),
    },
    "calibration_finding": {
        "yes": calibration_findings.calibration_finding(calibration(quality(0.2, 0.1))),
        "no": calibration_findings.calibration_finding(calibration(quality(0.1, 0.2))),
        "cannot tell": calibration_findings.calibration_finding(
            calibration(quality(0.1, 0.2).model_copy(update={"positives": 9}))
        ),
        "not computed": calibration_findings.calibration_finding(calibration(quality(0.2, None))),
    },
    "label_calibration_finding": {
        answer: calibration_findings.label_calibration_finding(calibration(found, labels_raw={"a": found}), {})
        for answer, found in (
            ("yes", quality(0.2, 0.1)),
            ("no", quality(0.1, 0.2)),
            ("cannot tell", quality(0.1, 0.2).model_copy(update={"positives": 9})),
            ("not computed", quality(0.2, 0.1).model_copy(update={"n": FEW_RECORDS - 1})),
        )
    },
    "annotators_finding": {
        "yes": annotators(HIGHER),
        "no": annotators(LOWER),
        "cannot tell": annotators(OPEN),
        "not computed": annotators(FEW),
    },
    "label_counts_finding": {
        "yes": counts((3, 9), (1, 9)),
        "no": counts((3, 9), (0, 9)),
        "cannot tell": counts((3, 9), (0, 0)),
        "not computed": counts((0, 0)),
    },
    "not_judged_finding": {
        "yes": gold_findings.not_judged_finding(not_judged(0, 0)),
        "no": gold_findings.not_judged_finding(not_judged(2, 1)),
        "not computed": gold_findings.not_judged_finding(None),
    },
    "unknown_verdicts_finding": {
        "yes": gold_findings.unknown_verdicts_finding(not_judged(2, 0)),
        "no": gold_findings.unknown_verdicts_finding(not_judged(2, 1)),
        "not computed": gold_findings.unknown_verdicts_finding(None),
    },
    "agreement_finding": {
        "yes": alpha(estimate(0.9, 0.82, 0.95)),
        "no": alpha(estimate(0.5, 0.4, 0.6)),
        "cannot tell": alpha(estimate(0.7, 0.6, 0.8)),
        "not computed": alpha(estimate(0.9, 0.82, 0.95, n=FEW_RECORDS - 1)),
    },
    "coverage_finding": {"yes": covered(5, 5), "no": covered(5, 4), "not computed": covered()},
    "rejections_finding": {
        "yes": gold_findings.rejections_finding([("too_short", 3)]),
        "no": gold_findings.rejections_finding([]),
    },
    "anchoring_finding": {
        "yes": anchored(estimate(0.2, 0.1, 0.3)),
        "no": anchored(estimate(-0.2, -0.3, -0.1)),
        "cannot tell": anchored(estimate(0.1, -0.1, 0.3)),
        "not computed": anchored(estimate(0.2, 0.1, 0.3, n=FEW_RECORDS - 1)),
    },
    "guards_finding": {
        "yes": guards("worse"),
        "cannot tell": guards("no clear difference"),
        "not computed": guards("better", FEW),
    },
    "runs_finding": {
        "yes": runs(HIGHER, "better"),
        "no": runs(LOWER, "worse"),
        "cannot tell": runs(OPEN, "no clear difference"),
        "not computed": runs(FEW, "better"),
    },
}
ONLY_COUNTS = {
    "judged_finding": {"cannot tell"},
    "not_judged_finding": {"cannot tell"},
    "unknown_verdicts_finding": {"cannot tell"},
    "coverage_finding": {"cannot tell"},
    "rejections_finding": {"cannot tell", "not computed"},
    "bounds_finding": {"cannot tell"},
}
NO_PROOF_OF_EQUALITY = {
    name: {"no"} for name in ("slices_finding", "confusions_finding", "guards_finding", "weakest_label_finding")
}
EMPTY = {  # findings of which an answer is not shown
    "weakest_label_finding",
    "bounds_finding",
    "not_judged_finding",
    "unknown_verdicts_finding",
    "coverage_finding",
    "confusions_finding",
}


def test_every_finding_of_the_modules_is_planted_here() -> None:
    found = {
        name
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and function.__annotations__.get("return") == "Finding"
    }
    assert found == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_every_answer_is_reached(name: str) -> None:
    cases = CASES[name]
    assert {answer: finding.answer for answer, finding in cases.items()} == {answer: answer for answer in cases}
    missing = (ONLY_COUNTS | NO_PROOF_OF_EQUALITY).get(name, set())
    assert set(get_args(Answer)) - cases.keys() == missing


@pytest.mark.parametrize("name", CASES)
def test_each_answer_has_words_of_its_own(name: str) -> None:
    sentences = [finding.sentence for finding in CASES[name].values()]
    shown = [sentence for sentence in sentences if sentence]
    assert len(shown) == len(set(shown))
    assert len(shown) == len(sentences) or name in EMPTY
    for finding in CASES[name].values():
        assert not finding.sentence.endswith(".")
        assert finding.title == finding.aria == finding.sentence


def test_a_title_of_its_own_also_names_the_drawing() -> None:
    found = Finding("yes", "A long sentence", title="Short")
    assert (found.title, found.aria, found.sentence) == ("Short", "Short", "A long sentence")
    assert Finding("yes", "A sentence", aria="A plot").title == "A sentence"
