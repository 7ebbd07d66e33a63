"""The page's only script, the content policy that admits it and nothing else, and data for it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from marginalia.schemas.text_checks import displayable

TEMPLATES = Path(__file__).parent / "templates"
# joined into one script; each part is a block of its own, or one function
PARTS = ("page.js", "clopper_pearson.js", "thresholds.js", "records.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page_script() -> Markup:
    """The text of the script element: the same for every run, because data is in separate elements."""
    parts = [(TEMPLATES / part).read_text(encoding="utf-8") for part in PARTS]
    return Markup('"use strict";\n' + "".join(parts))  # safe: contains nothing from the run


def content_policy(script: str) -> str:
    """The Content-Security-Policy under which only this script runs, and the page loads nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{POLICY}; script-src 'sha256-{digest}'"


def json_data(value: Any) -> Markup:
    """`value` as the text of a <script type="application/json"> element. Texts in it cannot end the element."""
    text = json.dumps(_displayable(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # safe: as JSON escapes


def _displayable(value: Any) -> Any:
    if isinstance(value, str):
        return displayable(value)
    if isinstance(value, dict):
        return {_displayable(key): _displayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_displayable(item) for item in value]
    return value
