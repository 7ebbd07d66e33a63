"""Text for a terminal whose encoding may lack some characters (ASCII, cp1252, latin-1)."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Any


def replace_unknown_characters() -> None:
    """Makes stdout and stderr write `?` for a character that their encoding lacks, where they would raise
    UnicodeEncodeError. A stream that escapes such characters already, as stderr does by default, stays as it is."""
    for stream in (sys.stdout, sys.stderr):
        # surrogateescape (the C locale's handler) helps with undecodable file names only
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def json_for_stdout(data: Any) -> str:
    """`data` as indented JSON. Where stdout is not UTF-8, other characters are escaped: a `?` would lose them."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(data, ensure_ascii=codecs.lookup(encoding).name != "utf-8", indent=2)
