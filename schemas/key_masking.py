"""Hides a key in texts from servers: some repeat what they were sent, unchanged or encoded."""

from __future__ import annotations

import base64
import re

_SHORTEST = 12  # characters: a shorter key is often a word, such as EMPTY, that texts may hold


class KeyMask:
    """Replaces `key` in texts by `mask`. A key of 12 characters or more is also found in upper or lower case, with
    characters as HTML entities, URL-encoded or as JSON escapes, and inside base64."""

    def __init__(self, key: str | None, *, mask: str = "***") -> None:
        self._mask = mask
        self._key = key or ""
        self._pattern: re.Pattern[str] | None = None
        if len(self._key) >= _SHORTEST:
            self._lowered = self._key.lower()
            self._encoded = _inside_base64(self._key)
            characters = "".join(map(_written, self._key))
            self._pattern = re.compile("|".join([*map(re.escape, self._encoded), characters]), re.IGNORECASE)

    def __call__(self, text: str, *, limit: int | None = 300) -> str:
        """`text` without the key, and without what is beyond `limit` characters."""
        hidden = text
        if self._pattern is not None:
            if self._may_hold(text):
                hidden = self._pattern.sub(self._mask, text)
        elif self._key:
            hidden = text.replace(self._key, self._mask)
        return hidden if limit is None else hidden[:limit]

    def _may_hold(self, text: str) -> bool:
        # answers are long and hardly ever hold a key: the pattern is much slower than this
        if any(mark in text for mark in "&%") or "\\u" in text or self._lowered in text.lower():
            return True
        return any(encoded in text for encoded in self._encoded)


def _written(character: str) -> str:
    """A pattern of the ways in which a character may be written."""
    code = ord(character)
    ways = [re.escape(character), f"&#0*{code};?", f"&#x0*{code:x};?", f"\\\\u{code:04x}"]
    ways += [f"&{name};" for name, plain in _NAMED.items() if plain == character]
    if code < 128:
        ways.append(f"%{code:02x}")
    return f"(?:{'|'.join(ways)})"


_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "plus": "+", "sol": "/", "equals": "="}


def _inside_base64(key: str) -> list[str]:
    """The key in base64, in both alphabets, for each of its three possible positions in the encoded bytes."""
    data, parts = key.encode(errors="surrogateescape"), []  # variables may hold any bytes
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        # characters that also depend on the bytes before and after the key are left out
        whole = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        parts += [whole, whole.replace("+", "-").replace("/", "_")]
    return list(dict.fromkeys(parts))
