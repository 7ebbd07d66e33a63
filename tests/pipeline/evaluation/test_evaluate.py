"""evaluation.json compared with scikit-learn on the same files, and its counts of what was left out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as reference

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, Results, evaluate
from marginalia.pipeline.evaluation.review_curve import review_points
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.calibration_json import CalibrationFile
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.evaluation_json import EstimatorEvaluation, Evaluation, GuardEvaluation
from marginalia.schemas.thresholds_json import ThresholdsFile
from marginalia.scoring.measures import calibration
from marginalia.scoring.measures.intervals import clopper_pearson
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

CONFIG = EvaluateSection(resamples=150)


def results_of(frames: Frames, config: EvaluateSection = CONFIG, prompts: bool = True) -> Results:
    return evaluate(
        frames.gold,
        [GuardScores("smollm2", frames.scores, frames.records)],
        frames.prompts if prompts else None,
        frames.taxonomy,
        config,
        seed=5,
        simulated=True,
    )


@pytest.fixture(scope="module")
def frames() -> Frames:
    return make_frames(Synthetic(n=240, skill=0.6))


@pytest.fixture(scope="module")
def results(frames: Frames) -> Results:
    return results_of(frames)


def page_of(results: Results) -> GuardEvaluation:
    return results.evaluation.guards[0]


def estimator(results: Results, name: str) -> EstimatorEvaluation:
    return next(evaluated for evaluated in page_of(results).estimators if evaluated.estimator == name)


def by_hand(frames: Frames, name: str, splits: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(gold, probabilities) of an estimator, read from the frames with plain loops."""
    labels = frames.taxonomy.ids
    rows_of_estimator = frames.scores.filter(pl.col("estimator") == name)
    probabilities = {
        (row["record_id"], row["label"]): row["probability"] for row in rows_of_estimator.iter_rows(named=True)
    }
    truth, scores = [], []
    for row in frames.gold.iter_rows(named=True):
        if row["status"] == "final" and row["split"] in splits and (row["id"], labels[0]) in probabilities:
            truth.append([label in row["labels"] for label in labels])
            scores.append([probabilities[row["id"], label] for label in labels])
    return np.array(truth), np.array(scores)


@pytest.mark.parametrize("name", ["marginal", "joint", "greedy"])
def test_numbers_are_scikit_learns_on_the_same_records(frames: Frames, results: Results, name: str) -> None:
    truth, scores = by_hand(frames, name, ["calibration", "test"])
    evaluated = estimator(results, name)
    expected = {
        "micro_f1": reference.f1_score(truth, scores >= 0.5, average="micro"),
        "macro_f1": reference.f1_score(truth, scores >= 0.5, average="macro"),
        "micro_roc_auc": reference.roc_auc_score(truth, scores, average="micro"),
        "macro_roc_auc": reference.roc_auc_score(truth, scores, average="macro"),
        "micro_average_precision": reference.average_precision_score(truth, scores, average="micro"),
        "hamming_loss": reference.hamming_loss(truth, scores >= 0.5),
        "subset_accuracy": reference.accuracy_score(truth, scores >= 0.5),
        "ranking_loss": reference.label_ranking_loss(truth, scores),
    }
    assert evaluated.n == len(truth)
    for metric, value in expected.items():
        metric_shown = evaluated.metrics[metric]
        assert metric_shown.value == pytest.approx(value), metric
        assert metric_shown.low is not None
        assert metric_shown.high is not None
        assert metric_shown.low <= metric_shown.value <= metric_shown.high, metric


def test_the_verdict_is_judged_separately_with_its_false_positive_rate(frames: Frames, results: Results) -> None:
    rows = frames.scores.filter((pl.col("estimator") == "marginal") & (pl.col("label") == "unsafe"))
    probability = dict(zip(rows["record_id"], rows["probability"], strict=True))
    safe = [
        row["id"]
        for row in frames.gold.iter_rows(named=True)
        if row["status"] == "final" and row["labels"] == [] and row["id"] in probability
    ]
    flagged = sum(probability[record] >= 0.5 for record in safe)
    rate = estimator(results, "marginal").verdict["false_positive_rate"]
    assert rate.n == len(safe)
    assert rate.value == pytest.approx(flagged / len(safe))
    assert "unsafe" not in {row.label for row in estimator(results, "marginal").labels}


def test_left_out_records_add_up(frames: Frames, results: Results) -> None:
    gold, page = results.evaluation.gold, page_of(results)
    assert gold.left_out == {"needs_adjudication": 3}
    assert page.left_out == {"scoring failed": 1}
    assert gold.records == gold.final + 3 == frames.gold.height
    assert page.records == gold.final - 1


def test_thresholds_are_chosen_on_one_split_and_judged_on_the_other(frames: Frames, results: Results) -> None:
    chosen = estimator(results, "marginal").thresholds
    best = chosen.overall[0]
    truth, scores = by_hand(frames, "marginal", ["calibration"])
    precision, recall, _ = reference.precision_recall_curve(truth.ravel(), scores.ravel())
    top = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert best.threshold is not None
    assert reference.f1_score(truth.ravel(), scores.ravel() >= best.threshold) == pytest.approx(top)
    truth, scores = by_hand(frames, "marginal", ["test"])
    assert best.judged_on is not None
    assert best.judged_on.n == truth.size
    assert best.judged_on.f1.value == pytest.approx(reference.f1_score(truth.ravel(), scores.ravel() >= best.threshold))
    tuned = estimator(results, "marginal").tuned["micro_f1"]
    own = np.array([chosen.labels[label][0].threshold for label in frames.taxonomy.ids])
    assert tuned.value == pytest.approx(reference.f1_score(truth, scores >= own, average="micro"))


def test_thresholds_file_holds_the_same_thresholds(results: Results) -> None:
    thresholds_file = ThresholdsFile.model_validate_json(results.thresholds.model_dump_json())
    marginal = thresholds_file.guards["smollm2"].estimators["marginal"]
    for label, rows in estimator(results, "marginal").thresholds.labels.items():
        assert {row.goal: row.threshold for row in rows} == {
            goal: kept.threshold for goal, kept in marginal.labels[label].items()
        }
    assert thresholds_file.simulated
    assert "label_frequency" not in thresholds_file.guards["smollm2"].estimators


def test_recalibration_helps_on_the_test_split_and_the_file_reproduces_it(frames: Frames, results: Results) -> None:
    report = estimator(results, "marginal").calibration
    assert report.raw is not None
    assert report.recalibrated is not None
    assert report.recalibrated.log_loss.value is not None
    assert report.raw.log_loss.value is not None
    assert report.recalibrated.log_loss.value < report.raw.log_loss.value
    calibration_file = CalibrationFile.model_validate_json(results.calibrations.model_dump_json())
    fitted = calibration_file.calibrations[0]
    assert (fitted.guard, fitted.estimator) == ("smollm2", page_of(results).recommended)
    truth, scores = by_hand(frames, fitted.estimator, ["test"])
    mapped = np.column_stack(
        [calibration.apply(fitted, label, scores[:, i]) for i, label in enumerate(frames.taxonomy.ids)]
    )
    recalibrated = estimator(results, fitted.estimator).calibration.recalibrated
    assert recalibrated is not None
    assert recalibrated.log_loss.value == pytest.approx(reference.log_loss(truth.ravel(), mapped.ravel()))
    assert recalibrated.brier.value == pytest.approx(np.mean((mapped - truth) ** 2))


def test_differences_are_paired(frames: Frames, results: Results) -> None:
    row = next(row for row in page_of(results).differences if (row.estimator, row.metric) == ("joint", "micro_roc_auc"))
    joint, marginal = (estimator(results, name).metrics["micro_roc_auc"] for name in ("joint", "marginal"))
    assert row.difference.value == pytest.approx((joint.value or 0) - (marginal.value or 0))
    low, high = row.difference.low, row.difference.high
    assert low is not None
    assert high is not None
    assert marginal.high is not None
    assert marginal.low is not None
    assert high - low < marginal.high - marginal.low  # the shared records cancel out


def test_the_same_input_gives_the_same_evaluation_in_any_row_order(frames: Frames, results: Results) -> None:
    shuffled = Frames(
        **{
            **vars(frames),
            "scores": frames.scores.reverse(),
            "records": frames.records.sample(fraction=1, shuffle=True, seed=1),
        }
    )
    again = results_of(shuffled)
    assert {evaluated.estimator: evaluated for evaluated in page_of(again).estimators} == {
        evaluated.estimator: evaluated for evaluated in page_of(results).estimators
    }


def test_attributes_confusions_and_worst_records(frames: Frames, results: Results) -> None:
    page = page_of(results)
    forms = [row for row in page.slices if row.attribute == "form"]
    assert {row.value for row in forms} == {"e-mail", "chat", "phone note"}
    assert sum(row.n for row in forms) == estimator(results, "marginal").n
    losses = [record.loss for record in page.worst]
    assert losses == sorted(losses, reverse=True)
    assert all(pair.gold != pair.predicted for pair in page.confusions)


def test_disagreement_of_annotators_by_hand(frames: Frames, results: Results) -> None:
    soft_metrics = estimator(results, "marginal").soft
    assert soft_metrics is not None
    _, scores = by_hand(frames, "marginal", ["calibration", "test"])
    scored = set(frames.scores["record_id"])
    soft = np.array(
        [
            [pair["probability"] for pair in row["soft_labels"]]
            for row in frames.gold.iter_rows(named=True)
            if row["status"] == "final" and row["id"] in scored
        ]
    )
    assert soft_metrics.disagreement == pytest.approx(np.mean(soft * (1 - soft)))
    assert soft_metrics.brier_against_votes == pytest.approx(np.mean((scores - soft) ** 2 + soft * (1 - soft)))


def test_a_handful_of_records_gives_reasons_instead_of_numbers() -> None:
    tiny = make_frames(Synthetic(n=7, skill=0.5, unresolved=2, failed=1))
    tiny_results = results_of(tiny, prompts=False)
    assert Evaluation.model_validate_json(tiny_results.evaluation.model_dump_json()) == tiny_results.evaluation
    marginal = estimator(tiny_results, "marginal")
    for row in marginal.labels:
        if row.positives < 5:
            assert row.metrics["roc_auc"].low is None
            assert row.metrics["roc_auc"].reason
    assert marginal.labels_left_out
    promises = [row for rows in marginal.thresholds.labels.values() for row in rows if row.goal != "max_f1"]
    assert promises
    assert all(row.threshold is None and "not attainable" in (row.reason or "") for row in promises)


def test_gold_without_final_records_is_evaluated() -> None:
    frames = make_frames(Synthetic(n=5, unresolved=5, failed=0))
    page = page_of(results_of(frames))
    assert page.records == 0
    assert page.recommended is None or estimator(results_of(frames), "marginal").metrics["micro_f1"].value is None


def test_one_split_only_gives_no_recalibration(frames: Frames) -> None:
    only_test = Frames(**{**vars(frames), "gold": frames.gold.with_columns(split=pl.lit("test"))})
    marginal = estimator(results_of(only_test), "marginal")
    assert marginal.calibration.reason == "no records on the calibration split"
    assert marginal.calibration.recalibrated is None
    assert marginal.tuned == {}
    assert marginal.thresholds.overall[0].reason == "no positives on the calibration split"


@pytest.mark.parametrize("split", ["calibration", "train"])
def test_gold_without_test_records_is_evaluated(frames: Frames, split: str) -> None:
    gold = frames.gold.with_columns(split=pl.lit(split))
    marginal = estimator(results_of(Frames(**{**vars(frames), "gold": gold})), "marginal")
    assert marginal.n == (236 if split == "calibration" else 0)
    assert marginal.calibration.raw is None
    overall = marginal.thresholds.overall[0]
    if split == "calibration":
        assert overall.chosen_on is not None
        assert overall.judged_on is not None
        assert (overall.chosen_on.n, overall.judged_on.n) == (236 * 12, 0)


def test_labels_that_the_guard_does_not_score_are_listed(frames: Frames) -> None:
    without = Frames(**{**vars(frames), "scores": frames.scores.filter(pl.col("label") != "return")})
    page = page_of(results_of(without))
    assert page.labels_not_scored == ["return"]
    assert "return" not in {row.label for row in page.estimators[0].labels}


def test_records_that_lack_scores_are_counted(frames: Frames) -> None:
    incomplete = set(frames.scores["record_id"].unique().sort()[:5])
    without_some = frames.scores.filter(~pl.col("record_id").is_in(list(incomplete)) | (pl.col("label") == "refund"))
    without_half_of_joint = without_some.filter(~((pl.col("estimator") == "joint") & (pl.col("record_id") > "r00050")))
    page = page_of(results_of(Frames(**{**vars(frames), "scores": without_half_of_joint})))
    assert page.left_out == {"scoring failed": 1, "scores incomplete": 5}
    assert page.estimators_left_out == {"joint": "covers 42 of 231 records"}


def test_an_impossible_probability_is_refused_with_its_record(frames: Frames) -> None:
    for wrong in (float("nan"), 1.2):
        wrong_scores = frames.scores.with_columns(
            probability=pl.when(pl.int_range(pl.len()) == 7).then(wrong).otherwise(pl.col("probability"))
        )
        with pytest.raises(ArtifactError, match=r"scores/smollm2.parquet: record 'r00004', estimator 'marginal'"):
            results_of(Frames(**{**vars(frames), "scores": wrong_scores}))


def test_scores_of_a_reserved_estimator_are_refused(frames: Frames) -> None:
    renamed = frames.scores.with_columns(pl.col("estimator").replace("joint", "label_frequency"))
    with pytest.raises(ArtifactError, match="'label_frequency' is a baseline of evaluate, not an estimator"):
        results_of(Frames(**{**vars(frames), "scores": renamed}))


def test_headline_says_simulated_and_chance_level() -> None:
    lines = headline(results_of(make_frames(Synthetic(n=48, skill=0.0))).evaluation)
    assert "SIMULATED" in lines[0]
    assert "45 final records of 48" in lines[0]
    assert any("no better than chance" in line for line in lines)


def test_the_guard_is_compared_with_the_agreement_of_annotators(results: Results) -> None:
    soft_metrics = estimator(results, "marginal").soft_tuned
    assert soft_metrics is not None
    assert soft_metrics.decided_at == "own thresholds"
    guard, annotators, gap = (
        soft_metrics.metrics[name] for name in ("expected_micro_f1", "annotator_micro_f1", "f1_below_annotators")
    )
    assert gap.value == pytest.approx((annotators.value or 0) - (guard.value or 0))
    assert gap.low is not None
    assert guard.value is not None
    assert 0 < guard.value < 1
    assert [row.label for row in soft_metrics.labels] == [row.label for row in estimator(results, "marginal").labels]


def test_reviewing_the_least_certain_finds_the_errors_that_calibrated_probabilities_predict() -> None:
    rng = np.random.default_rng(2)
    p = rng.beta(0.4, 0.4, size=(6000, 1))
    truth = rng.random(p.shape) < p
    points = review_points(truth, p >= 0.5, p)
    error_rates = np.sort(np.minimum(p, 1 - p).ravel())  # a calibrated forecast is wrong with this probability
    for point in points:
        kept = error_rates[: point.n_kept]
        assert point.subset_error == pytest.approx(kept.mean(), abs=0.02)
        assert point.subset_error_overall == pytest.approx(kept.sum() / len(p), abs=0.02)
    left = [point.subset_error_overall or 0.0 for point in points]
    assert left == sorted(left, reverse=True)


def test_guards_are_compared_on_the_records_that_both_judged(frames: Frames) -> None:
    worse = make_frames(Synthetic(n=240, skill=0.1))
    assert worse.gold.equals(frames.gold)
    known = worse.scores.filter(pl.col("label") != "return")
    evaluation = evaluate(
        frames.gold,
        [GuardScores("first", frames.scores, frames.records), GuardScores("second", known, worse.records)],
        None,
        frames.taxonomy,
        CONFIG,
        seed=5,
        simulated=False,
    ).evaluation
    rows = {row.metric: row for row in evaluation.guard_differences}
    auc = rows["macro_roc_auc"]
    assert (auc.guard, auc.reference, auc.finding) == ("second", "first", "worse")
    assert "return" not in auc.labels
    columns = [column for column, label in enumerate(frames.taxonomy.ids) if label != "return"]
    first, second = (
        by_hand(frames_of_guard, page.recommended or "", ["calibration", "test"])
        for frames_of_guard, page in zip((frames, worse), evaluation.guards, strict=True)
    )
    expected = [reference.roc_auc_score(truth[:, columns], p[:, columns]) for truth, p in (first, second)]
    assert auc.difference.value == pytest.approx(expected[1] - expected[0])
    assert evaluate_one(frames).guard_differences == []


def evaluate_one(frames: Frames) -> Evaluation:
    return results_of(frames).evaluation


def test_a_labels_precision_and_recall_have_exact_intervals(results: Results) -> None:
    for page in page_of(results).estimators[0].labels:
        for name in ("precision", "recall"):
            metric = page.metrics[name]
            if metric.value is not None:
                exact = clopper_pearson(round(metric.value * metric.n), metric.n, confidence=0.95)
                assert (metric.low, metric.high) == pytest.approx(exact)
        assert page.metrics["recall"].n == page.positives
