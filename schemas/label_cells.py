"""Cells of a label column: blank, a list of names, or a list written as text."""

from __future__ import annotations

import json
from typing import Any


def is_blank(cell: Any) -> bool:
    """Whether the cell is null or only white space."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def listed(cell: Any) -> list[Any] | None:
    """The list in a cell, which may be text in JSON or Python notation; None if the cell is not a list."""
    if isinstance(cell, list):
        return cell
    if not isinstance(cell, str) or not (cell.strip().startswith("[") and cell.strip().endswith("]")):
        return None
    text = cell
    if '"' not in text and "\\" not in text:
        text = text.replace("'", '"')  # Python's quotes; with both kinds they could be part of a name
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None
