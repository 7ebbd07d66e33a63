"""What one choice of a chat completion holds: its text without the model's reasoning, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from marginalia.pipeline.generation.answer_parsing import without_reasoning
from marginalia.pipeline.generation.response_journal import JournalledAnswer

# what endpoints call their endings: OpenAI, Anthropic, Gemini, Mistral, Cohere, Zhipu, DeepSeek, OpenRouter, vLLM
_CUT = ("length", "max_tokens", "max_output_tokens", "model_length", "error_limit")
_FILTERED = ("content_filter", "refusal", "safety", "recitation", "prohibited_content", "sensitive", "error_toxic")
_BROKEN_OFF = re.compile("error|abort|cancel|interrupt|fail|timeout|insufficient_system_resource")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class Content:
    """`text` is None when there is none. `reasoning`: the model also thought, in a part or a field of its own."""

    text: str | None
    refusal: str | None
    reasoning: bool


def read_message(message: dict[str, Any]) -> Content:
    """The content of an assistant's message, which is a text or a list of parts.

    Raises ValueError when it is neither."""
    content, refusal = message.get("content"), message.get("refusal")
    reasoning = any(message.get(name) for name in _REASONING_KEYS)
    if content is None or isinstance(content, str):
        return Content(content, str(refusal) if refusal else None, reasoning)
    if not isinstance(content, list):
        raise ValueError(f"the answer's content is no text but {type(content).__name__}")
    texts: list[str] = []
    for part in content:
        kind = str(part.get("type", "text")).lower() if isinstance(part, dict) else "text"
        value = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, dict) else part
        if "think" in kind or "reason" in kind:
            reasoning = True
        elif kind == "refusal":
            refusal = refusal or value
        elif isinstance(value, str):
            texts.append(value)
    return Content("".join(texts) if texts else None, str(refusal) if refusal else None, reasoning)


def is_cut(finish_reason: str | None) -> bool:
    """Whether the answer ended because it had reached its limit of tokens."""
    return (finish_reason or "").lower() in _CUT


def is_filtered(finish_reason: str | None) -> bool:
    """Whether the endpoint kept the answer, or the rest of it, back."""
    return (finish_reason or "").lower() in _FILTERED


def is_broken_off(finish_reason: str | None) -> bool:
    """Whether the server ended the answer because of a fault: what there is of it is a part of a text."""
    known = is_cut(finish_reason) or is_filtered(finish_reason)
    return not known and _BROKEN_OFF.search((finish_reason or "").lower()) is not None


def why_broken_off(value: dict[str, Any], choice: dict[str, Any]) -> str | None:
    """The server's words for a fault that it met while it answered with status 200; None when it says of none."""
    finish = choice.get("finish_reason")
    errors = [error for error in (choice.get("error"), value.get("error")) if error]
    if not errors and not is_broken_off(finish if isinstance(finish, str) else None):
        return None
    words = [error.get("message", error) if isinstance(error, dict) else error for error in errors[:1]]
    return ": ".join(["the answer broke off", f"finish_reason '{finish}'", *map(str, words)])


def why_no_text(answer: JournalledAnswer, limit: int, setting: str) -> str | None:
    """Why an answer holds no whole text; None when it does. `setting` is the config key of `limit` (tokens)."""
    given = (answer.text or "").strip()
    text, cut = without_reasoning(given), is_cut(answer.finish_reason)
    reasoning, cut_off = answer.reasoning or text != given, f"cut off at {limit} tokens ({setting})"
    if text:
        return cut_off if cut else None
    if cut and reasoning:
        return f"{cut_off}, all of them spent on reasoning: raise it, or turn the model's reasoning off"
    if cut:
        return f"{cut_off} before any text"
    if reasoning:
        return "only reasoning, and no text"
    return "a tool call, and no text" if answer.finish_reason == "tool_calls" else "an empty answer"


def reasoning_tokens(usage: Any) -> int:
    """Tokens that were spent on reasoning, where the endpoint counts them."""
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return count if isinstance(count, int) else 0
