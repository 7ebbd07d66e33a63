"""What OpenAI-compatible servers say that are not quite so, and which setting helps."""

from __future__ import annotations

import re
from dataclasses import dataclass

SHOWN = 200  # characters of an answer in a message
STREAM_HINT = (
    "it answers in pieces (stream: true) only, and whole answers are needed here: turn streaming off at the server, or "
    "put a gateway before it that collects the pieces"
)
THINKING_HINT = "set extra_body: {enable_thinking: false}, or what the server calls it"


@dataclass(frozen=True)
class Events:
    """Server-sent events that came in place of one JSON object. `error`: what they say went wrong."""

    said: str
    error: str | None


def streamed(text: str) -> Events | None:
    """The events that an answer consists of; None when it has another form."""
    if not text.lstrip().startswith(("data:", "event:", ": ", "id:", "retry:")):
        return None
    said = f"server-sent events, not JSON: {text[:SHOWN]!r}"
    return Events(said, said if '"error"' in text or "event: error" in text else None)


def hint(said: str) -> str | None:
    """The setting that mends what a server said, where that is known and the server does not name it."""
    words = said.lower()
    if "enable_thinking" in words:
        return THINKING_HINT
    if "server-sent events" in words or ("stream" in words and "upstream" not in words):
        return STREAM_HINT
    return None


def is_of_seed(said: str) -> bool:
    """Whether an error speaks of the random generator: some engines fail on a request's own seed."""
    return re.search(r"\bseed(s|ed|ing)?\b|\bgenerator\b.*\boffset\b", said, re.IGNORECASE) is not None
