"""How far a metric would be off on other records: its variance by the jackknife, over records left out in groups.

The bootstrap's percentiles are too narrow where labels are rare: macro average precision over labels of 2 to 25 % of
300 records covered the truth in 80 % of resampled worlds instead of 95 %. The jackknife's variance, turned into an
interval by `intervals.of_effective_size`, reaches 93 % (benchmarks/coverage.py)."""

from __future__ import annotations

import numpy as np

from marginalia.scoring.measures.intervals import FEWEST_OF_A_CLASS, Array, Flags
from marginalia.scoring.measures.metrics import Bootstrapped, averaged_labels

MACRO = {
    "macro_f1": "f1",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "macro_roc_auc": "roc_auc",
    "macro_average_precision": "average_precision",
}


def pooled_variance(found: Bootstrapped, name: str, truth: Flags) -> float:
    """Of the pooled metric `name` of (n, L) `truth`; NaN where it cannot be known.

    A macro average may hold labels with fewer than FEWEST_OF_A_CLASS positives (or negatives). Their own records do
    not tell their spread, so each has at least the variance per positive that the other labels have on average. NaN
    when there are no others."""
    whole = variance(found, name)
    if name not in MACRO:
        return whole
    kept = averaged_labels(truth, ranking=name in ("macro_roc_auc", "macro_average_precision"))
    own = label_variances(found, MACRO[name])[kept]
    rarer = np.minimum(truth.sum(0), (~truth).sum(0))[kept]
    few = rarer < FEWEST_OF_A_CLASS
    if few.all():
        return np.nan
    usual = float((own[~few] * rarer[~few]).mean())
    lacking = np.maximum(0.0, usual / np.maximum(rarer[few], 1) - np.nan_to_num(own[few]))
    return float(np.nan_to_num(whole) + lacking.sum() / kept.sum() ** 2)


def variance(found: Bootstrapped, name: str) -> float:
    """Of the pooled metric `name`, from the records alone."""
    assert found.left_out is not None, "bootstrap(…, left_out=True)"
    return jackknife_variance(found.left_out.pooled[name])


def label_variances(found: Bootstrapped, name: str) -> Array:
    """(L,) of a metric of each label."""
    assert found.left_out is not None, "bootstrap(…, left_out=True)"
    return np.array([jackknife_variance(column) for column in found.left_out.labels[name].T])


def jackknife_variance(left_out: Array) -> float:
    """From the metric's values with each group of records left out; those that are not defined (NaN) tell nothing."""
    known = left_out[np.isfinite(left_out)]
    if len(known) < 2:
        return np.nan
    return float((len(known) - 1) * known.var())
