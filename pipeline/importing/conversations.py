"""Conversations in the forms of OpenAI, ShareGPT and Anthropic, as a list of {role, content}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from marginalia.pipeline.importing.row_paths import read_json, value_at
from marginalia.schemas.errors import InputError
from marginalia.schemas.label_cells import is_blank
from marginalia.schemas.messages import rows_of

Form = Literal["openai", "sharegpt", "anthropic"]
SYSTEM = "system"
KEYS = {"openai": ("role", "content"), "sharegpt": ("from", "value"), "anthropic": ("role", "content")}
SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
}


def conversation(row: Mapping[str, Any], path: str, cell: Any, form: Form | None, where: str) -> Any:
    """The conversation in `cell`, which is at `path` of `row`, for `messages_of` to check. It may be a list, a struct
    of lists, or text with JSON. `form`: None recognises it by its keys.

    Anthropic's form has the system prompt next to the list, in `system`. Unless the mapping says openai, it is read
    as the first message if the list has none.

    Raises InputError, which begins with `where`, for another form than the mapping says, and an unknown speaker."""
    messages = read_json(cell) if isinstance(cell, str) else cell
    messages = rows_of(messages, where) if isinstance(messages, dict) else messages
    if not isinstance(messages, list):
        return cell if messages is None else messages
    converted = [_message(message, form, where) for message in messages]
    system = None if form == "openai" else _system_next_to(row, path)
    has_system = any(isinstance(message, dict) and message.get("role") == SYSTEM for message in converted)
    if is_blank(system) or system == [] or has_system:
        return converted
    return [{"role": SYSTEM, "content": system}, *converted]


def _message(message: Any, form: Form | None, where: str) -> Any:
    if not isinstance(message, dict):
        return message
    if form is not None and not {*KEYS[form]} <= message.keys():
        expected = " and ".join(KEYS[form])
        problem = f"a message has the keys {', '.join(map(str, message))}; messages_form: {form} expects {expected}"
        raise InputError(f"{where}: {problem}", hint="fix the row, or leave messages_form out")
    is_sharegpt = form == "sharegpt" or (form is None and "role" not in message and {"from", "value"} <= message.keys())
    if not is_sharegpt:
        return message
    speaker = str(message["from"]).strip().lower()
    if speaker not in SPEAKERS:
        problem = f"a message from {message['from']!r}; expected human, gpt or system"
        raise InputError(f"{where}: {problem}", hint="fix the row")
    rest = {key: value for key, value in message.items() if key not in ("from", "value")}
    return {"role": SPEAKERS[speaker], "content": message["value"], **rest}


def _system_next_to(row: Mapping[str, Any], path: str) -> Any:
    """The cell `system` next to the conversation; None if there is none."""
    before, dot, _ = path.rpartition(".")
    try:
        return value_at(row, f"{before}{dot}{SYSTEM}" if path not in row else SYSTEM)
    except LookupError:
        return None
