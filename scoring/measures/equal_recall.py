"""What it costs to find a given share of the positives: flags and false alarms at equal recall.

The threshold of a recall R is the highest one at which at least the share R of the positives is flagged. It is chosen
on the records that it is measured on, again in each resample, so the costs are optimistic: records that did not choose
the threshold give a lower recall or more false alarms. Tied scores are flagged together, so the recall may be above R.

Flags and false alarms are per PER records in which the label was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marginalia.scoring.measures.cell_means import judged_or_all
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.metrics import Measure, Measured

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PER = 1000  # records
ROUNDING = 1e-9  # of recall · positives: 0.07 · 100 is a little more than 7
COSTS = ("flags", "false_alarms", "precision", "recall")


def costs_at_recall(truth: Flags, p: Array, recall: float, kept: Flags, judged: Flags | None = None) -> Measure:
    """A measure of the COSTS of each of the L labels at its own threshold of this recall, and its `threshold`.

    Pooled COSTS are of the `kept` labels (L,) together: flags and false alarms are sums over the labels, so a record
    with two flags counts twice. NaN for a label without positives, and for the pooled costs where a kept label has
    none."""
    judged = judged_or_all(truth, judged)
    rows_of_label = [np.flatnonzero(column) for column in judged.T]
    labels = [_Label(truth[rows, label], p[rows, label], rows, len(truth)) for label, rows in enumerate(rows_of_label)]

    def measure(weights: Array) -> Measured:
        transposed = np.ascontiguousarray(weights.T)
        counts = np.stack([label.counts(transposed, recall) for label in labels], axis=-1)  # (5, b, L)
        right, wrong, positives, n, threshold = counts
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = [PER * part / n for part in (right, wrong, positives)]
            return Measured(
                _costs(*(share[:, kept].sum(1) for share in shares)) if kept.any() else {},
                {**_costs(*shares), "threshold": threshold},
            )

    return measure


def _costs(right: Array, wrong: Array, positives: Array) -> dict[str, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return dict(zip(COSTS, (right + wrong, wrong, right / (right + wrong), right / positives), strict=True))


class _Label:
    """The `truth` and probabilities `p` (m,) of a label, in groups that a threshold flags together.

    Only the scores of positives can be the threshold of a recall, so there is one group for each of these, the highest
    first, and one for what is below all. `records` (m,): the record, of `n`, that each value belongs to."""

    def __init__(self, truth: Flags, p: Array, records: NDArray[np.int64], n: int) -> None:
        scores = np.unique(p[truth])
        group = len(scores) - np.searchsorted(scores, p, side="right")
        self._thresholds = np.r_[scores[::-1], np.nan]
        self._right, self._wrong = (
            _counter(group[part], records[part], len(scores) + 1, n) for part in (truth, ~truth)
        )

    def counts(self, transposed: Array, recall: float) -> Array:
        """(5, b) for weights (n, b): right flags, false alarms, positives, records, and the threshold; NaN without
        positives."""
        right, wrong = (np.cumsum(counts @ transposed, axis=0) for counts in (self._right, self._wrong))  # (groups, b)
        positives = right[-1]
        group = np.argmax(right >= recall * positives - ROUNDING, axis=0)
        drawn = np.arange(len(group))
        found = np.stack(
            [right[group, drawn], wrong[group, drawn], positives, positives + wrong[-1], self._thresholds[group]]
        )
        return np.where(positives > 0, found, np.nan)


def _counter(rows: NDArray[np.int64], records: NDArray[np.int64], size: int, n: int) -> csr_array:
    """(size, n): how many values of each record are in each group."""
    from scipy.sparse import csr_array  # here: scipy takes a fifth of a second to import

    return csr_array((np.ones(len(rows)), (rows, records)), shape=(size, n))
