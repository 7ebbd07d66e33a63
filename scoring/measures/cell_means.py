"""Means over the judged cells (record × label), written as ratios of sums over records.

The mean over the judged cells of a resample is weights @ `per_record` / weights @ `cells_per_record`. All cells count
equally, so a record with more judged labels counts more."""

from __future__ import annotations

import numpy as np

from marginalia.scoring.measures.intervals import Array, Flags


def judged_or_all(truth: Flags, judged: Flags | None) -> Flags:
    """`judged`, or True for every cell of `truth` when it is None. Same shape as `truth`."""
    return np.ones(truth.shape, dtype=np.bool_) if judged is None else judged


def nothing_judged(judged: Flags) -> Flags:
    """(n,): which records have labels, none of which was judged."""
    return np.asarray(~judged.any(axis=1) & (judged.shape[1] > 0), dtype=np.bool_)


def per_record(values: Array | Flags, judged: Flags) -> Array:
    """(n,): each record's sum of `values` (n, L) over its judged cells, divided by the mean number of judged cells."""
    return np.asarray(np.where(judged, values, 0).sum(1) / _cells_of_a_record(judged), dtype=np.float64)


def cells_per_record(judged: Flags) -> Array:
    """(n,): each record's number of judged cells, divided by its mean. 1 everywhere when all cells were judged."""
    return np.asarray(judged.sum(1) / _cells_of_a_record(judged), dtype=np.float64)


def _cells_of_a_record(judged: Flags) -> float:
    cells = int(judged.sum())
    return cells / len(judged) if cells else 1.0
