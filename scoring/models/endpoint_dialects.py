"""Answers of servers that are not fully OpenAI-compatible, and the setting that fixes each."""

from __future__ import annotations

import re
from dataclasses import dataclass

SHOWN = 200  # characters of an answer in a message
STREAM_HINT = (
    "the server only streams its answers (stream: true), and complete answers are needed: turn streaming off at the "
    "server, or put a gateway in front of it that collects the parts"
)
THINKING_HINT = "set extra_body: {enable_thinking: false}, or the server's name for it"


@dataclass(frozen=True)
class Events:
    """Server-sent events that came instead of one JSON object. `text`: a description with the start of the answer;
    `error`: the same when the events report an error, else None."""

    text: str
    error: str | None


def streamed(text: str) -> Events | None:
    """The server-sent events that an answer consists of; None when it is not server-sent events."""
    if not text.lstrip().startswith(("data:", "event:", ": ", "id:", "retry:")):
        return None
    description = f"server-sent events, not JSON: {text[:SHOWN]!r}"
    return Events(description, description if '"error"' in text or "event: error" in text else None)


def hint(message: str) -> str | None:
    """The setting to change after this error of a server; None when unknown, or when the server names it itself."""
    words = message.lower()
    if "enable_thinking" in words:
        return THINKING_HINT
    if "server-sent events" in words or ("stream" in words and "upstream" not in words):
        return STREAM_HINT
    return None


def is_seed_error(message: str) -> bool:
    """Whether an error is about the request's random seed, which some engines do not accept."""
    return re.search(r"\bseed(s|ed|ing)?\b|\bgenerator\b.*\boffset\b", message, re.IGNORECASE) is not None
