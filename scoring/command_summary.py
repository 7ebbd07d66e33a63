"""What the scoring command prints when it is done."""

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
    how: str = "",
    again: str = "the same command tries them again",
) -> int:
    """Prints what `out` holds. `table` is its table of records; `how` is added to the line. `again` says how records
    that could not be scored are tried again.

    Returns the exit code: 1 when some could not be scored."""
    from marginalia.scoring.score_files import records_path

    failed = table.filter(table["error"].is_not_null())
    print(f"{out}: {table.height - failed.height} records × {len(estimators)} estimators × {labels} labels{how}")
    if not failed.height:
        return 0
    first = failed.row(0, named=True)
    print(
        f"{failed.height} records could not be scored, first '{first['record_id']}': {first['error']}; "
        f"see the column error of {records_path(out)}; {again}",
        file=sys.stderr,
    )
    return 1
