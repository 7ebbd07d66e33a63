"""Multi-label metrics, for one set of records or for many resamples of it at once.

Shapes: `truth`, `predicted` (n records, L labels) booleans; `scores` (n, L) in [0, 1]; `weights` (b resamples, n). A
value that is not defined is NaN, never 0. Tests compare the values with scikit-learn's.

`judged` (n, L): whether the label was judged in the record; None if all were. A cell that was not judged is neither
positive nor negative, and no metric counts it. Micro averages, metrics per label and the Hamming loss run over judged
cells: the Hamming loss is the share of the judged cells that are wrong. The samples averages, the subset accuracy and
the ranking loss compare the judged labels of each record; records in which nothing was judged are left out.

Conventions: Macro averages run over the labels for which the metric is defined (`averaged_labels`); callers report
which labels they leave out. A label that has positives and is never flagged counts with precision 0 in macro_precision
(scikit-learn's zero_division=0); its own precision is not defined. samples_f1 of a record without labels in gold and
prediction is 1 (zero_division=1); samples_precision leaves out records without predicted labels, samples_recall records
without labels (zero_division=nan). ranking_loss is 0 for records with no label or all labels; ties count as wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from marginalia.scoring.measures.cell_means import cells_per_record, judged_or_all, nothing_judged, per_record
from marginalia.scoring.measures.intervals import Array, Flags, left_out_weights, resample_weights
from marginalia.scoring.measures.resampled_ranking import Ordered

LOWER_IS_BETTER = ("hamming_loss", "ranking_loss")
RANKING_LABELS = ("roc_auc", "average_precision")  # metrics per label of `ranking`


@dataclass(frozen=True)
class Measured:
    """Values of metrics on b resamples: `pooled` metric → (b,), `labels` metric → (b, L). b is 1 for the records as
    they are."""

    pooled: dict[str, Array]
    labels: dict[str, Array]


Measure = Callable[[Array], Measured]


@dataclass(frozen=True)
class Bootstrapped:
    """A metric's `value` on the records, its `replicates` on resamples of them, and its values with each group of
    records `left_out` in turn, for `marginalia.scoring.measures.jackknife`."""

    value: Measured
    replicates: Measured
    left_out: Measured | None = None


def bootstrap(measure: Measure, n: int, *, resamples: int, seed: int, left_out: bool = False) -> Bootstrapped:
    """`measure` on `n` records, on each of `resamples` resamples and, if `left_out`, without each group of records."""
    value = measure(np.ones((1, n)))
    blocks = [measure(weights) for weights in resample_weights(n, resamples, seed)]
    without = join([measure(weights) for weights in left_out_weights(n)]) if left_out and n else value
    return Bootstrapped(value, join(blocks), without if left_out else None)


def join(blocks: list[Measured]) -> Measured:
    """The values of consecutive blocks of resamples in one."""
    first = blocks[0]
    return Measured(
        {name: np.concatenate([block.pooled[name] for block in blocks]) for name in first.pooled},
        {name: np.concatenate([block.labels[name] for block in blocks]) for name in first.labels},
    )


def combined(measures: Iterable[Measure]) -> Measure:
    """One measure with the metrics of several."""
    parts = list(measures)

    def measure(weights: Array) -> Measured:
        measured = [part(weights) for part in parts]
        return Measured(
            {name: values for part in measured for name, values in part.pooled.items()},
            {name: values for part in measured for name, values in part.labels.items()},
        )

    return measure


def averaged_labels(truth: Flags, judged: Flags | None = None, *, ranking: bool) -> Flags:
    """(L,): which labels a macro average includes: those with a positive, for ranking metrics also with a negative."""
    judged = judged_or_all(truth, judged)
    with_positive = np.asarray((truth & judged).any(axis=0))
    with_negative = np.asarray((~truth & judged).any(axis=0))
    return with_positive & with_negative if ranking else with_positive


def decisions(truth: Flags, predicted: Flags, judged: Flags | None = None) -> Measure:
    """A measure of F1, precision, recall (micro, macro, samples, per label), Hamming loss and subset accuracy."""
    judged = judged_or_all(truth, judged)
    positive, flagged = truth & judged, predicted & judged
    right, extra, missed = positive & flagged, flagged & ~positive, positive & ~flagged
    counts = [part.astype(np.float64) for part in (right, extra, missed)]
    kept = averaged_labels(truth, judged, ranking=False)
    n_right, n_wrong = right.sum(1), (extra | missed).sum(1)
    unknown = nothing_judged(judged)
    samples_f1 = np.where(n_right + n_wrong > 0, _divide(2 * n_right, 2 * n_right + n_wrong), 1.0)
    samples_f1 = np.where(unknown, np.nan, samples_f1)
    samples_precision = _divide(n_right, flagged.sum(1))
    samples_recall = _divide(n_right, positive.sum(1))
    wrong, cells = per_record(extra | missed, judged), cells_per_record(judged)
    exact = np.where(unknown, np.nan, n_wrong == 0)

    def measure(weights: Array) -> Measured:
        tp, fp, fn = (weights @ part for part in counts)
        present = tp + fn > 0  # in a resample without a label's positives its F1 and recall are not defined
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
            "hamming_loss": _divide(weights @ wrong, weights @ cells),
            "subset_accuracy": _weighted(weights, exact),
        }
        return Measured(pooled, {"f1": f1, "precision": precision, "recall": recall})

    return measure


def ranking(truth: Flags, scores: Array, judged: Flags | None = None) -> Measure:
    """A measure of ROC AUC and average precision (micro, macro, per label), with ties, and of ranking loss."""
    judged = judged_or_all(truth, judged)
    kept = averaged_labels(truth, judged, ranking=True)
    cells = Ordered([(truth[judged], scores[judged], np.nonzero(judged)[0])], len(truth))
    rows_of_label = [np.flatnonzero(column) for column in judged.T]
    columns = Ordered(
        [(truth[rows, label], scores[rows, label], rows) for label, rows in enumerate(rows_of_label)], len(truth)
    )
    loss = ranking_losses(truth, scores, judged)

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


def ranking_losses(truth: Flags, scores: Array, judged: Flags | None = None) -> Array:
    """(n,): of each record, the share of (label, non-label) pairs in which the label's score is not the higher one.

    NaN for records in which nothing was judged."""
    judged = judged_or_all(truth, judged)
    positive, negative = truth & judged, ~truth & judged
    wrong = np.zeros(len(truth))
    for label in range(truth.shape[1]):
        not_above = scores[:, label, None] <= scores
        wrong += np.where(positive[:, label], (not_above & negative).sum(1), 0)
    pairs = positive.sum(1) * negative.sum(1)
    return np.where(nothing_judged(judged), np.nan, np.where(pairs > 0, wrong / np.maximum(pairs, 1), 0.0))


def roc_points(truth: Flags, scores: Array) -> tuple[Array, Array]:
    """(false-positive rates, true-positive rates) at every distinct score, from (0, 0) to (1, 1), all cells pooled."""
    flagged, true = _cumulated(truth, scores)
    return _divide(flagged - true, flagged[-1] - true[-1]), _divide(true, true[-1])


def precision_recall_points(truth: Flags, scores: Array) -> tuple[Array, Array]:
    """(recalls, precisions) at every distinct score, highest first, all cells pooled."""
    flagged, true = _cumulated(truth, scores)
    return _divide(true[1:], true[-1]), _divide(true[1:], flagged[1:])


def _cumulated(truth: Flags, scores: Array) -> tuple[Array, Array]:
    """(cells, positives) with at least each distinct score, highest first, after a first entry of 0."""
    order = np.argsort(-scores.ravel(), kind="stable")
    ordered, hits = scores.ravel()[order], truth.ravel()[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) if len(ordered) else np.empty(0, int)
    return np.r_[0.0, ends + 1.0], np.r_[0.0, np.cumsum(hits)[ends].astype(np.float64)]


def _divide(numerator: np.ndarray, denominator: np.ndarray | float) -> Array:
    """NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(denominator) > 0, numerator / np.asarray(denominator, dtype=np.float64), np.nan)


def _mean(values: Array, kept: Flags) -> Array:
    """(b,): mean over the kept labels; NaN when there are none, or where one of them is NaN in a resample."""
    return values[:, kept].mean(1) if kept.any() else np.full(len(values), np.nan)


def _weighted(weights: Array, values: Array) -> Array:
    """(b,): mean over each resample's records of their `values` (n,); records with NaN are left out."""
    defined = np.isfinite(values)
    return _divide(weights @ np.where(defined, values, 0.0), weights @ defined.astype(np.float64))
