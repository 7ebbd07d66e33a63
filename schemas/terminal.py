"""Text for a terminal whose encoding may lack some characters (ASCII, cp1252, latin-1)."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Any


def replace_unknown_characters() -> None:
    """Makes stdout and stderr write `?` for a character that their encoding lacks, instead of raising
    UnicodeEncodeError. A stream that already escapes such characters, as stderr does by default, is not changed."""
    for stream in (sys.stdout, sys.stderr):
        # surrogateescape (the C locale's handler) only helps with undecodable file names
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def json_for_stdout(data: Any) -> str:
    """`data` as indented JSON. If stdout is not UTF-8, non-ASCII characters are escaped, so that none is lost."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(data, ensure_ascii=codecs.lookup(encoding).name != "utf-8", indent=2)
