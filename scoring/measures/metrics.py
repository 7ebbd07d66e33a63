"""Multi-label metrics, for one set of records or for many resamples of it at once.

Shapes: `truth`, `predicted` (n records, L labels) booleans; `scores` (n, L) in [0, 1]; `weights` (b resamples, n). A
value that is not defined is NaN, never 0. Checked against scikit-learn.

Conventions. Macro averages run over the labels that have what the metric needs (`averaged_labels`); the others are for
the caller to name. A label that has positives and is never flagged has precision 0 in macro_precision (scikit-learn's
zero_division=0) and none of its own. samples_f1 of a record with no label in gold and none predicted is 1
(zero_division=1); samples_precision leaves out records with nothing predicted, samples_recall records with no label
(zero_division=nan). ranking_loss is 0 for records with no label or all of them; equal scores count as wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from marginalia.scoring.measures.intervals import Array, Flags, left_out_weights, resample_weights
from marginalia.scoring.measures.resampled_ranking import Ordered

LOWER_IS_BETTER = ("hamming_loss", "ranking_loss")


@dataclass(frozen=True)
class Measured:
    """`pooled`: metric → (b,); `labels`: metric → (b, L). b is 1 for the records themselves."""

    pooled: dict[str, Array]
    labels: dict[str, Array]


Measure = Callable[[Array], Measured]


@dataclass(frozen=True)
class Bootstrapped:
    """`replicates` of resamples, for differences; `left_out` without each group of records, for
    `marginalia.scoring.measures.jackknife`."""

    value: Measured
    replicates: Measured
    left_out: Measured | None = None


def bootstrap(measure: Measure, n: int, *, resamples: int, seed: int, left_out: bool = False) -> Bootstrapped:
    """`measure` on the records themselves, on each resample of them and, if asked, with groups of them left out."""
    value = measure(np.ones((1, n)))
    blocks = [measure(weights) for weights in resample_weights(n, resamples, seed)]
    without = join([measure(weights) for weights in left_out_weights(n)]) if left_out and n else value
    return Bootstrapped(value, join(blocks), without if left_out else None)


def join(blocks: list[Measured]) -> Measured:
    first = blocks[0]
    return Measured(
        {name: np.concatenate([block.pooled[name] for block in blocks]) for name in first.pooled},
        {name: np.concatenate([block.labels[name] for block in blocks]) for name in first.labels},
    )


def together(measures: Iterable[Measure]) -> Measure:
    """One measure that holds the metrics of several."""
    parts = list(measures)

    def measure(weights: Array) -> Measured:
        found = [part(weights) for part in parts]
        return Measured(
            {name: values for part in found for name, values in part.pooled.items()},
            {name: values for part in found for name, values in part.labels.items()},
        )

    return measure


def averaged_labels(truth: Flags, *, ranking: bool) -> Flags:
    """Which labels a macro average can hold: those with a positive, for ranking metrics with a negative too."""
    some: Flags = np.asarray(truth.any(axis=0))
    every: Flags = np.asarray(truth.all(axis=0))
    return some & ~every if ranking else some


def decisions(truth: Flags, predicted: Flags) -> Measure:
    """F1, precision, recall (micro, macro, samples, per label), Hamming loss, subset accuracy."""
    right, extra, missed = truth & predicted, ~truth & predicted, truth & ~predicted
    counts = [part.astype(np.float64) for part in (right, extra, missed)]
    kept = averaged_labels(truth, ranking=False)
    n_right, n_wrong = right.sum(1), (extra | missed).sum(1)
    samples_f1 = np.where(n_right + n_wrong > 0, _divide(2 * n_right, 2 * n_right + n_wrong), 1.0)
    samples_precision = _divide(n_right, predicted.sum(1))
    samples_recall = _divide(n_right, truth.sum(1))
    hamming = (truth != predicted).mean(1) if truth.shape[1] else np.full(len(truth), np.nan)
    exact = (truth == predicted).all(1).astype(np.float64)

    def measure(weights: Array) -> Measured:
        tp, fp, fn = (weights @ part for part in counts)
        present = tp + fn > 0  # a resample may lack a label's positives: then it has no F1 and no recall
        f1 = np.where(present, _divide(2 * tp, 2 * tp + fp + fn), np.nan)
        precision, recall = _divide(tp, tp + fp), _divide(tp, tp + fn)
        macro_precision = np.where(present, np.nan_to_num(precision), np.nan)
        all_tp, all_fp, all_fn = tp.sum(1), fp.sum(1), fn.sum(1)
        pooled = {
            "micro_f1": _divide(2 * all_tp, 2 * all_tp + all_fp + all_fn),
            "micro_precision": _divide(all_tp, all_tp + all_fp),
            "micro_recall": _divide(all_tp, all_tp + all_fn),
            "macro_f1": _mean(f1, kept),
            "macro_precision": _mean(macro_precision, kept),
            "macro_recall": _mean(recall, kept),
            "samples_f1": _weighted(weights, samples_f1),
            "samples_precision": _weighted(weights, samples_precision),
            "samples_recall": _weighted(weights, samples_recall),
            "hamming_loss": _weighted(weights, hamming),
            "subset_accuracy": _weighted(weights, exact),
        }
        return Measured(pooled, {"f1": f1, "precision": precision, "recall": recall})

    return measure


def ranking(truth: Flags, scores: Array) -> Measure:
    """ROC AUC and average precision (micro, macro, per label) and ranking loss; equal scores are treated as ties."""
    n, n_labels = truth.shape
    kept = averaged_labels(truth, ranking=True)
    cells = Ordered([(truth.ravel(), scores.ravel())], np.repeat(np.arange(n), n_labels), n)
    columns = Ordered([(truth[:, label], scores[:, label]) for label in range(n_labels)], np.arange(n), n)
    loss = ranking_losses(truth, scores)

    def measure(weights: Array) -> Measured:
        micro_auc, micro_ap = cells.measure(weights)
        auc, ap = columns.measure(weights)
        pooled = {
            "micro_roc_auc": micro_auc[:, 0],
            "macro_roc_auc": _mean(auc, kept),
            "micro_average_precision": micro_ap[:, 0],
            "macro_average_precision": _mean(ap, kept),
            "ranking_loss": _weighted(weights, loss),
        }
        return Measured(pooled, {"roc_auc": auc, "average_precision": ap})

    return measure


def ranking_losses(truth: Flags, scores: Array) -> Array:
    """(n,): the share of (label, non-label) pairs of a record that are not in the right order."""
    wrong = np.zeros(len(truth))
    for label in range(truth.shape[1]):
        not_above = scores[:, label, None] <= scores
        wrong += np.where(truth[:, label], (not_above & ~truth).sum(1), 0)
    pairs = truth.sum(1) * (~truth).sum(1)
    return np.where(pairs > 0, wrong / np.maximum(pairs, 1), 0.0)


def roc_points(truth: Flags, scores: Array) -> tuple[Array, Array]:
    """(false-positive rate, true-positive rate) at every distinct score, from (0, 0) to (1, 1)."""
    flagged, true = _cumulated(truth, scores)
    return _divide(flagged - true, flagged[-1] - true[-1]), _divide(true, true[-1])


def precision_recall_points(truth: Flags, scores: Array) -> tuple[Array, Array]:
    """(recall, precision) at every distinct score, highest first."""
    flagged, true = _cumulated(truth, scores)
    return _divide(true[1:], true[-1]), _divide(true[1:], flagged[1:])


def _cumulated(truth: Flags, scores: Array) -> tuple[Array, Array]:
    order = np.argsort(-scores.ravel(), kind="stable")
    ordered, hits = scores.ravel()[order], truth.ravel()[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) if len(ordered) else np.empty(0, int)
    return np.r_[0.0, ends + 1.0], np.r_[0.0, np.cumsum(hits)[ends].astype(np.float64)]


def _divide(above: np.ndarray, below: np.ndarray | float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(below) > 0, above / np.asarray(below, dtype=np.float64), np.nan)


def _mean(values: Array, kept: Flags) -> Array:
    """Mean over the kept labels; NaN when there are none, or when a resample lacks one of them."""
    return values[:, kept].mean(1) if kept.any() else np.full(len(values), np.nan)


def _weighted(weights: Array, values: Array) -> Array:
    """Mean of a value per record over a resample's records that have one."""
    known = np.isfinite(values)
    return _divide(weights @ np.where(known, values, 0.0), weights @ known.astype(np.float64))
