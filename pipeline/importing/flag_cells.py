"""One cell that says whether a label applies: 0 and 1, words, or a number with a threshold."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from marginalia.pipeline.importing.column_mapping import LabelColumn
from marginalia.schemas.errors import InputError
from marginalia.schemas.label_cells import is_blank

WORDS = {"true": ("1", "true", "t", "yes", "y"), "false": ("0", "false", "f", "no", "n")}
NUMBER = "set labels.threshold in the mapping: the label applies from this number on"
WORD = "add the word to labels.true or labels.false in the mapping"


def flag_of(column: LabelColumn, name: str, cell: Any, where: str) -> bool | None:
    """Whether the label applies; None where the cell is blank. `name` is what messages call the cell.

    The mapping's own words take precedence over the threshold, and the threshold over the usual words."""
    if is_blank(cell) or (isinstance(cell, float | Decimal) and math.isnan(cell)):
        return None
    word = _word(cell)
    for applies, further in ((True, column.true), (False, column.false)):
        if word in {item.strip().lower() for item in further}:
            return applies
    number = _number(cell)
    if number is not None and column.threshold is not None:
        return number >= column.threshold
    for applies, known in ((True, WORDS["true"]), (False, WORDS["false"])):
        if word in known:
            return applies
    expected = "expected 0 or 1, or false or true"
    raise InputError(f"{where}: '{name}' is {str(cell)[:80]!r}, {expected}", hint=WORD if number is None else NUMBER)


def _word(cell: Any) -> str:
    """The cell as a lower-case word; 1.0 is 1, as pandas writes the integers of a column with blanks."""
    if isinstance(cell, float | Decimal) and math.isfinite(cell) and cell == int(cell):
        cell = int(cell)
    text = str(cell).strip().lower()
    return text.removesuffix(".0") if text in ("0.0", "1.0") else text


def _number(cell: Any) -> float | None:
    """The cell as a number, which may be written as text; None for other cells."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal | str):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
