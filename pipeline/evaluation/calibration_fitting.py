"""What is fitted on the calibration split and judged on the test split: calibration maps and thresholds."""

from __future__ import annotations

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.schemas.calibration_json import Calibration, Identity, LabelMap
from marginalia.schemas.evaluation_json import UNSAFE, CalibrationReport, Metric, Threshold, ThresholdReport
from marginalia.scoring.measures import calibration, thresholds
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric
from marginalia.scoring.measures.metrics import Measured, bootstrap
from marginalia.scoring.measures.reliability import qualities


def calibrate(
    table: GuardTable, name: str, fit_on: Flags, config: EvaluateSection, seed: int, simulated: bool
) -> Calibration:
    """Maps of one estimator, fitted on the calibration split; the verdict has its own map or none."""
    fitted = calibration.fit(
        table.truth[fit_on],
        table.scores[name][fit_on],
        table.labels,
        guard=table.guard,
        estimator=name,
        method=config.calibration_method,
        min_positives=config.min_positives,
        folds=config.folds,
        seed=seed,
        simulated=simulated,
    )
    truth = table.any_label[fit_on]
    verdict = LabelMap(map=Identity(), source="identity", positives=int(truth.sum()))
    enough = min(int(truth.sum()), int((~truth).sum())) >= config.min_positives
    if name in table.verdicts and enough and fitted.method != "identity":
        own = calibration.METHODS[fitted.method](truth, table.verdicts[name][fit_on])
        verdict = verdict.model_copy(update={"map": own, "source": "label"})
    return fitted.model_copy(update={"labels": {**fitted.labels, UNSAFE: verdict}})


def calibration_report(
    table: GuardTable,
    scores: Array,
    calibrated: Array,
    fitted: Calibration,
    fit_on: Flags,
    test: Flags,
    config: EvaluateSection,
    seed: int,
) -> CalibrationReport:
    """The test split before and after recalibration; says why where there is no after."""
    truth = table.truth[test]
    after = fit_on.any() and fitted.method != "identity"
    both = [scores[test], calibrated[test]] if after else [scores[test]]
    found = qualities(
        [(truth, p) for p in both]
        + [(truth[:, [column]], p[:, [column]]) for p in both for column in range(len(table.labels))],
        splits=["test"],
        bins=config.bins,
        confidence=config.confidence,
        resamples=config.resamples,
        seed=seed,
    )
    pages, each = found[: len(both)], found[len(both) :]
    by_label = [
        {label: page for label, page in zip(table.labels, part, strict=True) if page is not None}
        for part in (each[: len(table.labels)], each[len(table.labels) :] or [None] * len(table.labels))
    ]
    pooled = [label for label in table.labels if fitted.labels[label].source == "pooled"]
    if not fit_on.any():
        reason: str | None = "no records on the calibration split"
    elif not test.any():
        reason = "no records on the test split to judge it on"
    elif fitted.method == "identity":
        reason = "no map had a lower cross-fitted log loss than leaving the probabilities as they are"
        if min(table.truth[fit_on].sum(), (~table.truth[fit_on]).sum()) < config.min_positives:
            reason = f"fewer than {config.min_positives} positives on the calibration split"
    else:
        which = "every label" if len(pooled) == len(table.labels) else ", ".join(pooled)
        reason = f"fewer than {config.min_positives} positives, so the pooled map: {which}" if pooled else None
    return CalibrationReport(
        method=fitted.method,
        reason=reason,
        raw=pages[0],
        recalibrated=pages[1] if after else None,
        **_changes(truth, both, config, seed),
        labels_raw=by_label[0],
        labels_recalibrated=by_label[1],
    )


def _changes(truth: Flags, both: list[Array], config: EvaluateSection, seed: int) -> dict[str, Metric | None]:
    """`bias` of the raw probabilities, and `improvement` of the Brier score by the recalibrated ones."""
    if not truth.size:
        return {"bias": None, "improvement": None}
    columns = {"bias": (both[0] - truth).mean(1)}
    if len(both) > 1:
        columns["improvement"] = ((both[0] - truth) ** 2 - (both[1] - truth) ** 2).mean(1)

    def measure(weights: Array) -> Measured:
        return Measured({name: weights @ values / weights.sum(1) for name, values in columns.items()}, {})

    found = bootstrap(measure, len(truth), resamples=config.resamples, seed=seed)
    return {
        name: bootstrap_metric(
            float(values[0]), found.replicates.pooled[name], len(truth), confidence=config.confidence, undefined=""
        )
        for name, values in found.value.pooled.items()
    }


def choose_thresholds(
    table: GuardTable, name: str, fit_on: Flags, test: Flags, config: EvaluateSection
) -> ThresholdReport:
    """Every goal's threshold, for all labels together, each label and the verdict."""
    scores, truth = table.scores[name], table.truth
    overall = thresholds.best_f1(truth[fit_on].ravel(), scores[fit_on].ravel())
    why = None if overall is not None else "no positives on the calibration split"
    chosen = Threshold(goal="max_f1", threshold=overall, source="global", reason=why, chosen_on=None, judged_on=None)
    columns = {label: (truth[:, column], scores[:, column]) for column, label in enumerate(table.labels)}
    if name in table.verdicts:
        columns[UNSAFE] = (table.any_label, table.verdicts[name])
    return ThresholdReport(
        overall=[
            thresholds.judged(
                chosen, (truth[fit_on], scores[fit_on]), (truth[test], scores[test]), confidence=config.confidence
            )
        ],
        labels={
            label: thresholds.label_thresholds(
                (true[fit_on], p[fit_on]),
                (true[test], p[test]),
                overall=overall if label != UNSAFE else None,
                precision_targets=config.precision_targets,
                false_positive_targets=config.false_positive_targets,
                min_positives=config.min_positives if label != UNSAFE else 1,
                confidence=config.confidence,
            )
            for label, (true, p) in columns.items()
        },
    )


def tuned_predictions(chosen: ThresholdReport, labels: list[str], scores: Array) -> Flags | None:
    """(n, L) decisions at each label's max-F1 threshold; None when there is none at all."""
    at = own_thresholds(chosen, labels)
    return None if at is None else np.asarray(scores >= at, dtype=bool)


def own_thresholds(chosen: ThresholdReport, labels: list[str]) -> Array | None:
    """(L,): each label's max-F1 threshold; None when one is missing."""
    at = [chosen.labels[label][0].threshold for label in labels]
    return None if not at or any(threshold is None for threshold in at) else np.array(at, dtype=np.float64)
