"""evaluation.json of partly judged gold, recomputed with other code: random masks and one extreme mask."""

from __future__ import annotations

import math
import runpy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from sklearn import metrics as reference
from sklearn.isotonic import IsotonicRegression

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, Results, evaluate
from marginalia.schemas.calibration_json import Calibration, Isotonic, Platt
from marginalia.schemas.evaluation_json import (
    CalibrationQuality,
    EstimatorEvaluation,
    GuardEvaluation,
    Metric,
    Outcome,
    SoftMetrics,
)
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import GoldRecord, LabelScore
from tests.pipeline.evaluation import recomputed_evaluation as recomputed
from tests.pipeline.evaluation.recomputed_evaluation import Cell, Scored, Values
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

ESTIMATORS = ("marginal", "joint", "greedy")
NOWHERE, NOT_ON_TEST, NOT_SCORED = "invoice", "refund", "return"
NOTHING = "r00010"  # the record of which the extreme mask judges only a label that the guard does not score


@dataclass(frozen=True)
class Case:
    """Partly judged gold, its evaluation and what the evaluation is recomputed from."""

    frames: Frames
    config: EvaluateSection
    results: Results

    @property
    def guard(self) -> GuardEvaluation:
        return self.results.evaluation.guards[0]

    @property
    def labels(self) -> list[str]:
        return [label for label in self.frames.taxonomy.ids if label not in self.guard.labels_not_scored]

    def estimator(self, name: str) -> EstimatorEvaluation:
        return next(row for row in self.guard.estimators if row.estimator == name)

    def records(self, name: str, column: str = "probability") -> list[Scored]:
        return recomputed.scored_records(self.frames.gold, self.frames.scores, name, self.frames.taxonomy.ids, column)

    def calibration(self, name: str) -> Calibration:
        return next(fitted for fitted in self.results.calibrations.calibrations if fitted.estimator == name)

    def own_thresholds(self, name: str) -> dict[str, float]:
        chosen = self.estimator(name).thresholds.labels
        return {label: chosen[label][0].threshold or math.nan for label in self.labels}


def masked(frames: Frames, judged: list[list[str] | None], scores: pl.DataFrame) -> Frames:
    """The frames with these judged labels; a record keeps the labels that were judged."""
    labels = [
        None if own is None else [label for label in own if mask is None or label in mask]
        for own, mask in zip(frames.gold["labels"].to_list(), judged, strict=True)
    ]
    columns = {"labels": labels, "judged": judged}
    gold = frames.gold.with_columns(
        pl.Series(name, values, dtype=pl.List(pl.String)) for name, values in columns.items()
    )
    return Frames(**{**vars(frames), "gold": gold, "scores": scores})


def random_masks(frames: Frames, seed: int) -> Frames:
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.3, 0.95, len(frames.taxonomy.ids))
    judged: list[list[str] | None] = [
        None
        if rng.random() < 0.3
        else [label for label, share in zip(frames.taxonomy.ids, shares, strict=True) if rng.random() < share]
        for _ in range(frames.gold.height)
    ]
    return masked(frames, judged, frames.scores)


def extreme_mask(frames: Frames) -> Frames:
    """One label judged nowhere, one nowhere on the test split, one not scored, and a record in which only that was
    judged."""
    judged: list[list[str] | None] = []
    for record, split in frames.gold.select("id", "split").iter_rows():
        left_out = {NOWHERE, *([NOT_ON_TEST] if split == "test" else [])}
        judged.append([label for label in frames.taxonomy.ids if label not in left_out])
        if record == NOTHING:
            judged[-1] = [NOT_SCORED]
    return masked(frames, judged, frames.scores.filter(pl.col("label") != NOT_SCORED))


def case(frames: Frames, method: str) -> Case:
    config = EvaluateSection.model_validate(
        {"resamples": 150, "min_positives": 5, "calibration_method": method, "bins": 7}
    )
    scores = frames.scores.filter(pl.col("estimator").is_in(ESTIMATORS))
    used = Frames(**{**vars(frames), "scores": scores})
    guards = [GuardScores("smollm2", used.scores, used.records)]
    results = evaluate(used.gold, guards, used.prompts, used.taxonomy, config, seed=5, simulated=True)
    return Case(used, config, results)


@pytest.fixture(
    scope="module", params=[("platt", 1), ("isotonic", 2), ("beta", 3), ("auto", 4), ("platt", 5), ("platt", None)]
)
def partly(request: pytest.FixtureRequest) -> Case:
    method, seed = request.param
    frames = make_frames(Synthetic(n=190, skill=0.6, seed=7 + (seed or 0)))
    return case(extreme_mask(frames) if seed is None else random_masks(frames, seed), method)


def same(metrics: dict[str, Metric], expected: Values) -> None:
    for name, metric in metrics.items():
        value = math.nan if metric.value is None else metric.value
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("name", ESTIMATORS)
def test_pooled_metrics(partly: Case, name: str) -> None:
    evaluated, records = partly.estimator(name), recomputed.on(partly.records(name), ["calibration", "test"])
    fixed = dict.fromkeys(partly.labels, 0.5)
    assert {metric.n for metric in evaluated.metrics.values()} == {evaluated.n} == {len(records)}
    same(evaluated.metrics, recomputed.pooled_metrics(records, fixed))
    on_test, own = recomputed.on(records, ["test"]), partly.own_thresholds(name)
    assert {metric.n for metric in evaluated.tuned.values()} == {len(on_test)}
    same(evaluated.tuned, recomputed.pooled_metrics(on_test, own))


def test_intervals_leave_out_one_record_with_its_mask(partly: Case) -> None:
    records = recomputed.on(partly.records("marginal"), ["calibration", "test"])
    assert len(records) < 200  # with more, groups of records are left out
    fixed = dict.fromkeys(partly.labels, 0.5)
    intervals = recomputed.jackknife_intervals(records, lambda kept: recomputed.decided_metrics(kept, fixed))
    for name, interval in intervals.items():
        if not name.startswith("macro_"):  # labels with few positives widen the intervals of macro averages
            metric = partly.estimator("marginal").metrics[name]
            assert (metric.low, metric.high) == pytest.approx(interval), name


@pytest.mark.parametrize("name", ESTIMATORS)
def test_metrics_of_each_label(partly: Case, name: str) -> None:
    evaluated, records = partly.estimator(name), recomputed.on(partly.records(name), ["calibration", "test"])
    for row in evaluated.labels:
        n, positives, expected = recomputed.label_metrics(records, row.label, 0.5)
        assert (row.n, row.positives) == (n, positives)
        same(row.metrics, expected)
        flagged = sum(cell.p >= 0.5 for cell in recomputed.cells_of(records, row.label))
        for share, total in (("precision", flagged), ("recall", positives)):
            assert row.metrics[share].n == total
            exact(row.metrics[share])
        assert {row.metrics[key].n for key in ("f1", "roc_auc", "average_precision")} == {n}
        assert (row.label in evaluated.labels_left_out) == (positives in (0, n))
    assert [row.label for row in evaluated.labels] == partly.labels


def exact(metric: Metric) -> None:
    """Its interval is Clopper-Pearson's for `n` values."""
    if metric.value is None:
        assert metric.n == 0
    else:
        interval = recomputed.exact_interval(round(metric.value * metric.n), metric.n)
        assert (metric.low, metric.high) == pytest.approx(interval)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_verdict_is_measured_where_it_is_known(partly: Case, name: str) -> None:
    counts, expected = recomputed.verdict_metrics(partly.records(name), 0.5)
    verdict = partly.estimator(name).verdict
    same(verdict, expected)
    assert {key: verdict[key].n for key in counts} == counts
    for share in ("precision", "recall", "false_positive_rate", "accuracy"):
        exact(verdict[share])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_thresholds_are_chosen_and_judged_on_judged_cells(partly: Case, name: str) -> None:
    chosen, records = partly.estimator(name).thresholds, partly.records(name)
    calibration, test = (recomputed.on(records, [split]) for split in ("calibration", "test"))
    cells = recomputed.cells_of(calibration)
    overall = chosen.overall[0]
    assert overall.threshold == pytest.approx(halfway(cells))
    assert overall.chosen_on is not None
    assert overall.judged_on is not None
    same_outcome(overall.chosen_on, cells, overall.threshold)
    same_outcome(overall.judged_on, recomputed.cells_of(test), overall.threshold)
    for label in partly.labels:
        own, own_test = recomputed.cells_of(calibration, label), recomputed.cells_of(test, label)
        by_goal = {row.goal: row for row in chosen.labels[label]}
        best = by_goal["max_f1"]
        enough = sum(cell.true for cell in own) >= partly.config.min_positives
        assert best.source == ("label" if enough else "global")
        assert best.threshold == pytest.approx(halfway(own) if enough else overall.threshold)
        assert by_goal["precision >= 0.9"].threshold == pytest.approx(recomputed.lowest_precise(own, 0.9))
        for target in (0.01, 0.05):
            row = by_goal[f"false_positive_rate <= {target}"]
            assert row.threshold == pytest.approx(recomputed.lowest_harmless(own, target))
        for row in by_goal.values():
            if row.threshold is not None:
                assert row.chosen_on is not None
                assert row.judged_on is not None
                same_outcome(row.chosen_on, own, row.threshold)
                same_outcome(row.judged_on, own_test, row.threshold)
        file_row = partly.results.thresholds.guards["smollm2"].estimators[name].labels[label]["max_f1"]
        assert file_row.threshold == best.threshold


def halfway(cells: list[Cell]) -> float:
    """The threshold of highest F1, halfway to the next lower score."""
    _, at = recomputed.highest_f1(cells)
    return (at + max((cell.p for cell in cells if cell.p < at), default=at)) / 2


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_verdicts_threshold_uses_records_with_a_known_verdict(partly: Case, name: str) -> None:
    for row in partly.estimator(name).thresholds.labels["unsafe"]:
        for outcome, split in ((row.chosen_on, "calibration"), (row.judged_on, "test")):
            if outcome is not None:
                known = [
                    Cell(record.id, "unsafe", bool(record.verdict), record.p["unsafe"])
                    for record in partly.records(name)
                    if record.split == split and record.verdict is not None
                ]
                assert row.threshold is not None
                same_outcome(outcome, known, row.threshold)


def same_outcome(outcome: Outcome, cells: list[Cell], threshold: float) -> None:
    flags = [cell.p >= threshold for cell in cells]
    true = [cell.true for cell in cells]
    expected = recomputed.binary(true, flags)
    assert (outcome.n, outcome.positives, outcome.flagged) == (len(cells), sum(true), sum(flags))
    f1 = recomputed.ratio(2 * sum(t and f for t, f in zip(true, flags, strict=True)), sum(true) + sum(flags))
    same({"f1": outcome.f1}, {"f1": f1})
    counted = {"precision": flags, "recall": true, "false_positive_rate": [not t for t in true]}
    hits = {"precision": true, "recall": flags, "false_positive_rate": flags}
    records = len({cell.record for cell in cells})
    for share in counted:
        metric: Metric = getattr(outcome, share)
        same({share: metric}, expected)
        assert metric.n == sum(counted[share])
        values: dict[str, list[bool]] = {}
        for cell, is_counted, hit in zip(cells, counted[share], hits[share], strict=True):
            if is_counted:
                values.setdefault(cell.record, []).append(hit)
        if values:
            assert (metric.low, metric.high) == pytest.approx(recomputed.clustered_interval(values, records))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_calibration_maps_are_fitted_on_judged_cells(partly: Case, name: str) -> None:
    fitted = partly.calibration(name)
    calibration = recomputed.on(partly.records(name), ["calibration"])
    assert fitted.records == len(calibration)
    known = [record for record in partly.records(name) if record.split == "calibration" and record.verdict is not None]
    verdict_cells = [Cell(record.id, "unsafe", bool(record.verdict), record.p["unsafe"]) for record in known]
    maps = {label: (fitted.labels[label], recomputed.cells_of(calibration, label)) for label in partly.labels}
    maps["unsafe"] = fitted.labels["unsafe"], verdict_cells
    for own, cells in maps.values():
        positives = sum(cell.true for cell in cells)
        assert own.positives == positives
        enough = min(positives, len(cells) - positives) >= partly.config.min_positives
        assert (own.source == "label") == (enough and fitted.method != "identity")
        if own.source == "label":
            best_map(own.map, cells)
    best_map(fitted.pooled, recomputed.cells_of(calibration))


def best_map(mapping: object, cells: list[Cell]) -> None:
    """A Platt map has the lowest loss on these cells; an isotonic one is scikit-learn's with Laplace's rule."""
    if isinstance(mapping, Platt):
        found = minimize(lambda weights: recomputed.platt_loss(cells, *weights), [1.0, 0.0], method="BFGS")
        slope, intercept = found.x if found.x[0] >= 0 else (0.0, 0.0)
        if slope > 0:
            assert (mapping.slope, mapping.intercept) == pytest.approx((slope, intercept), rel=1e-3, abs=1e-3)
    if isinstance(mapping, Isotonic):
        p = np.clip([cell.p for cell in cells], 1e-6, 1 - 1e-6)
        true = np.array([cell.true for cell in cells])
        steps = IsotonicRegression().fit(p, true).predict(p)
        sizes = {step: int((steps == step).sum()) for step in np.unique(steps)}
        smoothed = np.array([(sizes[step] * step + 1) / (sizes[step] + 2) for step in steps])
        weights = np.array([(sizes[step] + 2) / sizes[step] for step in steps])
        expected = IsotonicRegression().fit(p, smoothed, sample_weight=weights).predict(p)
        assert [recomputed.mapped(mapping, value) for value in p] == pytest.approx(expected.tolist())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_calibration_quality(partly: Case, name: str) -> None:
    report, fitted = partly.estimator(name).calibration, partly.calibration(name)
    cells = recomputed.cells_of(recomputed.on(partly.records(name), ["test"]))
    maps = {label: fitted.labels[label].map for label in partly.labels}
    after = [Cell(cell.record, cell.label, cell.true, recomputed.mapped(maps[cell.label], cell.p)) for cell in cells]
    qualities = [(report.raw, report.labels_raw, cells)]
    assert (report.recalibrated is None) == (fitted.method == "identity")
    if report.recalibrated is not None:
        qualities.append((report.recalibrated, report.labels_recalibrated, after))
        gain = recomputed.mean(
            (raw.p - raw.true) ** 2 - (new.p - new.true) ** 2 for raw, new in zip(cells, after, strict=True)
        )
        assert report.improvement is not None
        assert report.improvement.value == pytest.approx(gain)
    assert report.bias is not None
    assert report.bias.value == pytest.approx(recomputed.mean(cell.p - cell.true for cell in cells))
    for pooled, by_label, own in qualities:
        assert pooled is not None
        same_quality(pooled, own, partly.config.bins)
        for label in partly.labels:
            of_label = [cell for cell in own if cell.label == label]
            assert (label in by_label) == bool(of_label)
            if of_label:
                same_quality(by_label[label], of_label, partly.config.bins)


def same_quality(quality: CalibrationQuality, cells: list[Cell], bins: int) -> None:
    records = len({cell.record for cell in cells})
    assert (quality.n, quality.positives) == (len(cells), sum(cell.true for cell in cells))
    assert {quality.ece.n, quality.brier.n, quality.log_loss.n} == {records}
    brier = recomputed.mean((cell.p - cell.true) ** 2 for cell in cells)
    assert quality.brier.value == pytest.approx(brier)
    assert quality.log_loss.value == pytest.approx(recomputed.mean(recomputed.log_loss(c.true, c.p) for c in cells))
    binned = recomputed.equal_mass(cells, bins)
    gaps = [abs(sum(cell.p - cell.true for cell in members)) for members in binned]
    assert quality.ece_plug_in == pytest.approx(sum(gaps) / len(cells), abs=1e-12)
    for shown, members in zip(quality.bins, binned, strict=True):
        assert shown.n == len(members)
        assert shown.mean_probability == pytest.approx(recomputed.mean(cell.p for cell in members))
        assert shown.share_positive == pytest.approx(recomputed.mean(cell.true for cell in members))
        values: dict[str, list[bool]] = {}
        for cell in members:
            values.setdefault(cell.record, []).append(cell.true)
        interval = recomputed.clustered_interval(values, records)
        assert (shown.low, shown.high) == pytest.approx(interval)
    assert quality.brier_parts is not None
    parts = recomputed.decomposition(cells, lambda true, p: (p - true) ** 2)
    shown_parts = quality.brier_parts
    assert (shown_parts.miscalibration, shown_parts.discrimination, shown_parts.uncertainty) == pytest.approx(
        parts, abs=1e-7
    )
    assert parts[0] - parts[1] + parts[2] == pytest.approx(brier)


@pytest.mark.parametrize("name", ["marginal", "greedy"])
def test_soft_labels_of_judged_cells(partly: Case, name: str) -> None:
    evaluated, records, own = partly.estimator(name), partly.records(name), partly.own_thresholds(name)
    cases: list[tuple[SoftMetrics | None, list[str], dict[str, float]]] = [
        (evaluated.soft, ["calibration", "test"], dict.fromkeys(partly.labels, 0.5)),
        (evaluated.soft_tuned, ["test"], own),
    ]
    for soft, splits, thresholds in cases:
        assert soft is not None
        kept = recomputed.on(records, splits)

        def flagged(record: Scored, label: str, at: dict[str, float] = thresholds) -> bool:
            return record.p[label] >= at[label]

        assert soft.n == len(kept)
        expected = recomputed.soft_metrics(kept, flagged)
        same({key: metric for key, metric in soft.metrics.items() if key in expected}, expected)
        assert soft.brier_against_votes == pytest.approx(expected["brier"] + expected["disagreement"])
        for row in soft.labels:
            of_label = recomputed.soft_metrics([restricted(record, row.label) for record in kept], flagged)
            for shown, value in ((row.brier, of_label["brier"]), (row.annotator_f1, of_label["annotator_micro_f1"])):
                assert (math.nan if shown is None else shown) == pytest.approx(value, nan_ok=True)


def restricted(record: Scored, label: str) -> Scored:
    votes = {key: vote for key, vote in record.votes.items() if key == label}
    soft = {key: value for key, value in record.soft.items() if key == label}
    return Scored(record.id, record.split, {}, None, record.p, soft, votes)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_review_counts_errors_among_judged_cells(partly: Case, name: str) -> None:
    fitted, own = partly.calibration(name), partly.own_thresholds(name)
    test = recomputed.on(partly.records(name), ["test"])

    def doubt(record: Scored) -> float:
        q = [recomputed.mapped(fitted.labels[label].map, record.p[label]) for label in partly.labels]
        return sum(min(value, 1 - value) for value in q)

    ordered = sorted(test, key=lambda record: round(-doubt(record), 12))
    for point in partly.estimator(name).review:
        kept = ordered[len(test) - point.n_kept :]
        wrong = [[(cell.p >= own[cell.label]) != cell.true for cell in record.cells()] for record in kept]
        assert point.share_reviewed == pytest.approx(1 - point.n_kept / len(test))
        assert point.hamming_loss == pytest.approx(sum(map(sum, wrong)) / sum(map(len, wrong)))
        assert point.subset_error == pytest.approx(sum(map(any, wrong)) / len(kept))
        assert point.subset_error_overall == pytest.approx(sum(map(any, wrong)) / len(test))


def test_slices(partly: Case) -> None:
    recommended = partly.guard.recommended or ""
    records = recomputed.on(partly.records(recommended), ["calibration", "test"])
    values = {
        row["id"]: {pair["name"]: pair["value"] for pair in row["attributes"]}
        for row in partly.frames.prompts.iter_rows(named=True)
    }
    fixed = dict.fromkeys(partly.labels, 0.5)
    assert len(partly.guard.slices) == 5
    for row in partly.guard.slices:
        own = [record for record in records if values[record.id][row.attribute] == row.value]
        assert row.n == len(own)
        same(row.metrics, recomputed.pooled_metrics(own, fixed))


def test_confusions_and_worst_records(partly: Case) -> None:
    recommended = partly.guard.recommended or ""
    own, records = partly.own_thresholds(recommended), partly.records(recommended)
    pairs: dict[tuple[str, str], int] = {}
    for record in recomputed.on(records, ["test"]):
        missed = [cell.label for cell in record.cells() if cell.true and cell.p < own[cell.label]]
        extra = [cell.label for cell in record.cells() if not cell.true and cell.p >= own[cell.label]]
        for pair in ((gold, predicted) for gold in missed for predicted in extra):
            pairs[pair] = pairs.get(pair, 0) + 1
    assert {(row.gold, row.predicted): row.records for row in partly.guard.confusions} == pairs
    losses = {
        record.id: recomputed.mean(recomputed.log_loss(cell.true, cell.p) for cell in record.cells())
        for record in recomputed.on(records, ["calibration", "test"])
    }
    worst = sorted(losses, key=lambda record: -losses[record])[: partly.config.worst_records]
    assert [row.record_id for row in partly.guard.worst] == worst
    by_id = {record.id: record for record in records}
    for row in partly.guard.worst:
        record = by_id[row.record_id]
        assert row.loss == pytest.approx(losses[row.record_id])
        assert row.gold == [label for label, true in record.known.items() if true]
        assert row.predicted == [label for label in record.known if record.p[label] >= own[label]]
        assert row.not_judged == [label for label in partly.labels if label not in record.known]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_curves(partly: Case, name: str) -> None:
    cells = recomputed.cells_of(recomputed.on(partly.records(name), ["calibration", "test"]))
    true, p = [cell.true for cell in cells], [cell.p for cell in cells]
    fpr, tpr, _ = reference.roc_curve(true, p, drop_intermediate=False)
    points = set(zip(fpr.round(6).tolist(), tpr.round(6).tolist(), strict=True))
    roc = partly.estimator(name).roc
    assert set(zip(roc.x, roc.y, strict=True)) <= points
    assert (roc.x[-1], roc.y[-1]) == (1.0, 1.0)
    precision, recall, _ = reference.precision_recall_curve(true, p)
    points = set(zip(recall.round(6).tolist(), precision.round(6).tolist(), strict=True))
    curve = partly.estimator(name).precision_recall
    assert set(zip(curve.x, curve.y, strict=True)) <= points


def test_ranges_come_from_the_bounds_of_judged_cells(partly: Case) -> None:
    evaluated = partly.estimator("marginal")
    ends = [recomputed.on(partly.records("marginal", column), ["calibration", "test"]) for column in ("lower", "upper")]
    corners = []
    for for_positives, for_negatives in ((0, 1), (1, 0)):  # worst, best
        corner = []
        for low, high in zip(*ends, strict=True):
            p = {
                label: (low.p, high.p)[for_positives if low.known.get(label) else for_negatives][label]
                for label in low.p
            }
            corner.append(Scored(low.id, low.split, low.known, low.verdict, p, low.soft, low.votes))
        corners.append(recomputed.pooled_metrics(corner, dict.fromkeys(partly.labels, 0.5)))
    for name in ("micro_f1", "macro_recall", "subset_accuracy", "samples_f1", "micro_roc_auc", "macro_roc_auc"):
        metric = evaluated.metrics[name]
        assert (metric.range_low, metric.range_high) == pytest.approx((corners[0][name], corners[1][name])), name
    for name in ("hamming_loss", "ranking_loss"):
        metric = evaluated.metrics[name]
        assert (metric.range_low, metric.range_high) == pytest.approx((corners[1][name], corners[0][name])), name
    widths = [high.p[label] - low.p[label] for low, high in zip(*ends, strict=True) for label in low.known]
    if partly.guard.recommended == "marginal":
        assert partly.guard.bounds is not None
        assert partly.guard.bounds.widest == pytest.approx(max(widths))
        assert partly.guard.bounds.mean == pytest.approx(recomputed.mean(widths))


def test_differences_are_those_of_the_metrics(partly: Case) -> None:
    assert partly.guard.differences
    for row in partly.guard.differences:
        tuned = row.metric.startswith("tuned_")
        key = row.metric.removeprefix("tuned_")
        pair = [partly.estimator(name) for name in (row.estimator, row.reference)]
        first, second = ((one.tuned if tuned else one.metrics)[key].value for one in pair)
        if first is None or second is None:
            assert row.difference.value is None
        else:
            assert row.difference.value == pytest.approx(first - second)


def test_the_frequency_baseline_is_each_labels_share_of_its_judged_records(partly: Case) -> None:
    records = [record for record in partly.records("marginal") if record.known or record.verdict is not None]
    frequency = partly.estimator("label_frequency")
    cells = recomputed.cells_of([record for record in records if record.known])
    shares = {
        label: recomputed.ratio(
            sum(cell.true for cell in cells if cell.label == label), sum(cell.label == label for cell in cells)
        )
        for label in partly.labels
    }
    judged = [(cell.true, shares[cell.label]) for cell in cells]
    expected = reference.roc_auc_score([true for true, _ in judged], [share for _, share in judged])
    assert frequency.metrics["micro_roc_auc"].value == pytest.approx(expected)


def test_counts_of_gold(partly: Case) -> None:
    counts, taxonomy = partly.results.evaluation.gold, partly.frames.taxonomy.ids
    final = [row for row in partly.frames.gold.iter_rows(named=True) if row["status"] == "final"]
    judged = [taxonomy if row["judged"] is None else row["judged"] for row in final]
    assert counts.judged == {label: sum(label in own for own in judged) for label in taxonomy}
    assert counts.positives == {label: sum(label in row["labels"] for row in final) for label in taxonomy}
    complete = [set(own) == set(taxonomy) for own in judged]
    without = [not row["labels"] for row in final]
    assert counts.safe == sum(all_judged and none for all_judged, none in zip(complete, without, strict=True))
    assert counts.not_judged is not None
    assert counts.not_judged.records == complete.count(False) > 0
    assert counts.not_judged.cells == sum(len(taxonomy) - len(own) for own in judged)
    assert counts.not_judged.of_cells == len(taxonomy) * len(final)
    unknown = sum(not all_judged and none for all_judged, none in zip(complete, without, strict=True))
    assert counts.not_judged.verdicts == unknown > 0
    scored = partly.records("marginal")
    own_cells = partly.guard.not_judged
    assert own_cells is not None
    assert own_cells.of_cells - own_cells.cells == sum(len(record.known) for record in scored)
    assert own_cells.verdicts == sum(record.verdict is None for record in scored)


def test_the_extreme_mask_gives_reasons_instead_of_numbers() -> None:
    extreme = case(extreme_mask(make_frames(Synthetic(n=190, skill=0.6))), "platt")
    evaluated = extreme.estimator("marginal")
    rows = {row.label: row for row in evaluated.labels}
    assert (rows[NOWHERE].n, rows[NOWHERE].metrics["roc_auc"].value) == (0, None)
    assert rows[NOWHERE].metrics["f1"].reason == "not judged in any record of these splits"
    assert evaluated.labels_left_out[NOWHERE].startswith("not judged in any record of these splits")
    assert NOT_ON_TEST in evaluated.calibration.labels_raw.keys() ^ set(extreme.labels)
    outcome = evaluated.thresholds.labels[NOT_ON_TEST][0].judged_on
    assert outcome is not None
    assert (outcome.n, outcome.recall.value, outcome.recall.reason) == (0, None, "no positives")
    assert extreme.guard.records == len(extreme.records("marginal"))
    assert evaluated.n == extreme.guard.records - 1  # without the record in which only an unscored label was judged
    assert evaluated.verdict["false_positive_rate"].reason == "no safe records in gold"


@pytest.mark.parametrize("seed", [1, None])
def test_scores_and_votes_of_cells_that_were_not_judged_change_nothing(seed: int | None) -> None:
    """Only the order of review uses them. This covers every interval, difference and finding, too."""
    frames = make_frames(Synthetic(n=120, skill=0.6))
    frames = extreme_mask(frames) if seed is None else random_masks(frames, seed)
    judged = dict(frames.gold.select("id", "judged").iter_rows())
    rng = np.random.default_rng(3)

    def changed_scores(scores: pl.DataFrame) -> pl.DataFrame:
        kept = [
            label == "unsafe" or judged[record] is None or label in judged[record]
            for record, label in scores.select("record_id", "label").iter_rows()
        ]
        p = rng.random(scores.height)
        width = np.where(scores["upper"] > scores["lower"], 0.3, 0.0)  # exact probabilities stay exact
        new = {"lower": p * (1 - width), "probability": p, "upper": p + (1 - p) * width}
        return scores.with_columns(
            pl.when(pl.Series(kept)).then(pl.col(name)).otherwise(pl.Series(values)).alias(name)
            for name, values in new.items()
        )

    def changed_votes(gold: pl.DataFrame) -> pl.DataFrame:
        votes, soft = [], []
        for mask, own_votes, own_soft in gold.select("judged", "votes", "soft_labels").iter_rows():
            for rows, result, changes in ((own_votes, votes, {"yes": 3}), (own_soft, soft, {"probability": 1.0})):
                result.append([row if mask is None or row["label"] in mask else {**row, **changes} for row in rows])
        columns = {"votes": votes, "soft_labels": soft}
        return gold.with_columns(pl.Series(name, rows, dtype=gold.schema[name]) for name, rows in columns.items())

    def numbers(gold: pl.DataFrame, scores: pl.DataFrame) -> dict[str, object]:
        one = scores.filter(pl.col("estimator").is_in(["marginal", "joint"]))
        other = scores.filter(pl.col("estimator") == "marginal_constrained")
        guards = [GuardScores("one", one, frames.records), GuardScores("other", other, frames.records)]
        config = EvaluateSection(resamples=100, min_positives=5)
        results = evaluate(gold, guards, frames.prompts, frames.taxonomy, config, seed=5, simulated=True)
        evaluation = results.evaluation.model_dump()
        for guard in evaluation["guards"]:
            for row in guard["estimators"]:
                row["review"] = None
        return {
            "evaluation": evaluation,
            "thresholds": results.thresholds.model_dump(),
            "calibrations": results.calibrations.model_dump(),
        }

    assert numbers(frames.gold, frames.scores) == numbers(changed_votes(frames.gold), changed_scores(frames.scores))


@pytest.mark.parametrize("judged", [[], [NOT_SCORED], [NOWHERE]])
def test_gold_in_which_hardly_anything_was_judged_is_evaluated(judged: list[str]) -> None:
    frames = make_frames(Synthetic(n=60, skill=0.6))
    mask: list[list[str] | None] = [judged] * frames.gold.height
    scores = frames.scores.filter(pl.col("label") != NOT_SCORED)
    hardly = case(masked(frames, mask, scores), "auto")
    evaluated = hardly.estimator("marginal")
    assert evaluated.n == (56 if judged == [NOWHERE] else 0)
    assert [row.n for row in evaluated.labels if row.label != NOWHERE] == [0] * 10
    assert evaluated.verdict["false_positive_rate"].value is None
    assert evaluated.verdict["recall"].n == sum(bool(record.verdict) for record in hardly.records("marginal"))


def test_the_example_that_picks_a_threshold_leaves_out_what_nobody_judged(
    partly: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_frame(tmp_path / "gold.parquet", partly.frames.gold, GoldRecord)
    write_frame(tmp_path / "scores/smollm2.parquet", partly.frames.scores, LabelScore)
    monkeypatch.setattr("sys.argv", ["pick_threshold.py", str(tmp_path), "smollm2"])
    runpy.run_path("examples/pick_threshold.py")
    expected = partly.estimator("marginal").thresholds.overall[0]
    assert expected.judged_on is not None
    first, *shares = capsys.readouterr().out.splitlines()
    assert first.startswith(f"threshold {expected.threshold:.2f}, ")
    for line, metric in zip(
        shares,
        (expected.judged_on.precision, expected.judged_on.recall, expected.judged_on.false_positive_rate),
        strict=True,
    ):
        assert f" {metric.value:.2f}  (" in line
