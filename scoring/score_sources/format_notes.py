"""Notes on how much probability is outside a guard's answers, for guards of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from marginalia.scoring.off_format import NOTABLE, off_format_notes
from marginalia.scoring.score_sources.source_guard import AnyGuard, SourceGuard

if TYPE_CHECKING:
    import polars as pl


def format_notes(table: pl.DataFrame, guard: AnyGuard, path: Path) -> list[str]:
    """Notes on the records in `table` (ScoredRecord); empty when hardly any probability is outside.

    `path` is the guard file, whose lines the notes name."""
    if not isinstance(guard, SourceGuard):
        return off_format_notes(table, guard, path)
    mean = table["off_language"].mean()
    if not isinstance(mean, float) or mean < NOTABLE:
        return []
    return [
        f"on average {mean:.1%} of the model's probability is on other words than the answers to the questions (column "
        "off_language): the server's numbers are shares of the rest"
    ]
