"""Which labels were judged. A label that was not judged in a record is neither positive nor negative there.

The column `judged` of gold (GoldRecord) and answers (Answer) lists the judged labels; null means all labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

Flags = npt.NDArray[np.bool_]


def judged_cells(judged: pl.Series, labels: Sequence[str]) -> Flags:
    """(rows, labels): whether each label was judged in each row of the column `judged`."""
    flags = np.empty((len(judged), len(labels)), dtype=np.bool_)
    for column, label in enumerate(labels):
        flags[:, column] = judged.list.contains(label).fill_null(True).to_numpy()
    return flags


def verdict_judged(frame: pl.DataFrame, taxonomy_labels: Sequence[str]) -> Flags:
    """(rows,): whether it is known if any category applies, from the columns `labels` and `judged`.

    It is known when a label applies, and when all labels of the taxonomy were judged. A record without labels of which
    only some were judged is not safe: another label may apply."""
    applies = (frame["labels"].list.len() > 0).fill_null(False).to_numpy()
    return applies | judged_cells(frame["judged"], taxonomy_labels).all(axis=1)
