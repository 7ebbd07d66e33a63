"""Prints the scoring command's summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def summary(
    out: Path,
    table: pl.DataFrame,
    estimators: Sequence[str],
    labels: int,
    calibrated_by: str = "",
    again: str = "after a fix, or later, the same command tries them again",
) -> int:
    """Prints how much was written to `out`, and to stderr which records failed.

    `table`: its table of records (ScoredRecord); `labels`: the number of labels; `calibrated_by`: added to the line;
    `again`: how to try failed records again. Returns the exit code: 1 when records could not be scored, else 0."""
    from marginalia.scoring.score_files import records_path

    failed = table.filter(table["error"].is_not_null())
    counts = ((table.height - failed.height, "record"), (len(estimators), "estimator"), (labels, "label"))
    print(f"{out}: {' × '.join(f'{n} {noun}' + 's' * (n != 1) for n, noun in counts)}{calibrated_by}")
    if not failed.height:
        return 0
    first = failed.row(0, named=True)
    number = f"{failed.height} record{'s' * (failed.height != 1)}"
    print(
        f"{number} could not be scored, first '{first['record_id']}': {first['error']}; "
        f"see the column error of {records_path(out)}; {again}",
        file=sys.stderr,
    )
    return 1
