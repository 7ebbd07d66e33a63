"""What a cell of a label column holds: nothing, a list of names, or a list that was written as text."""

from __future__ import annotations

import json
from typing import Any


def is_blank(cell: Any) -> bool:
    """Whether nobody wrote anything there: null, or text of white space."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def listed(cell: Any) -> list[Any] | None:
    """The list in a cell: itself, or one written as text, in JSON or as Python prints it; None when it is no list."""
    if isinstance(cell, list):
        return cell
    if not isinstance(cell, str) or not (cell.strip().startswith("[") and cell.strip().endswith("]")):
        return None
    text = cell
    if '"' not in text and "\\" not in text:
        text = text.replace("'", '"')  # Python's quotes, where they cannot be part of a name
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None
