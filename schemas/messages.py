"""Reads the messages of a record, in the forms that data sets use, as a list of {role, content} with plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marginalia.schemas.errors import InputError
from marginalia.schemas.text_checks import check_text

ROLES = ("system", "user", "assistant")
NEEDED = "each record needs id, and text or messages; marginalia import reads other columns with a mapping"
UNUSABLE = "fix the row; marginalia import leaves such rows out with unusable: skip in its mapping"
AS_TEXT = "store it as UTF-8 text, in Arrow the type string"
TEXT_PARTS = ("text", "input_text", "output_text")


def messages_of(value: Mapping[str, Any], where: str) -> list[dict[str, str]]:
    """The checked `messages` of a row, or its `text` as one user message.

    Accepts a content that is a list of text parts (joined by newlines), a struct of lists, and further fields of a
    message if they are empty, as `datasets` adds them. Raises InputError, with `where` in front, for anything else."""
    messages = value.get("messages")
    if messages is None:
        if "text" not in value:
            raise InputError(f"{where}: neither 'messages' nor 'text'; it has {', '.join(sorted(value))}", hint=NEEDED)
        return [{"role": "user", "content": _text(value["text"], "user", where)}]
    if isinstance(messages, dict):
        messages = rows_of(messages, where)
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: 'messages' must be a non-empty list of {{role, content}}", hint=NEEDED)
    return [_message(message, where) for message in messages]


def refuse_binary(value: Any, name: str, where: str) -> None:
    """Raises InputError if `value` is bytes, whose encoding is unknown. `name` is what the message calls the value."""
    if isinstance(value, bytes):
        raise InputError(f"{where}: {name} is binary, expected text", hint=AS_TEXT)


def rows_of(columns: dict[str, Any], where: str, name: str = "messages") -> Any:
    """The rows of a struct of lists, the form in which `datasets` stores `Sequence({role, content})`; other structs
    unchanged. Raises InputError, with `where` in front and the `name` of the column, for lists of different lengths."""
    lists = {name: column for name, column in columns.items() if not _is_empty(column)}
    if not all(isinstance(column, list) for column in lists.values()):
        return columns
    lengths = {name: len(column) for name, column in lists.items()}
    if len(set(lengths.values())) > 1:
        seen = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise InputError(f"{where}: '{name}' has lists of different lengths: {seen}", hint=UNUSABLE)
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        raise InputError(f"{where}: a message must be {{role, content}}, saw {str(message)[:80]!r}", hint=NEEDED)
    role = message["role"]
    if role not in ROLES:
        raise InputError(f"{where}: role {role!r}; expected one of {', '.join(ROLES)}", hint=UNUSABLE)
    further = [name for name, value in message.items() if name not in ("role", "content") and not _is_empty(value)]
    if further:
        problem = f"the {role} message has '{further[0]}'; only role and content are read"
        raise InputError(f"{where}: {problem}", hint=UNUSABLE)
    return {"role": role, "content": _text(message["content"], role, where)}


def _text(content: Any, role: str, where: str) -> str:
    refuse_binary(content, f"the {role} message", where)
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        content = "\n".join(_part(part, role, where) for part in content)
    if not isinstance(content, str) or not content.strip():
        raise InputError(f"{where}: the {role} message has no text", hint=UNUSABLE)
    return check_text(content, where, hint=UNUSABLE)


def _part(part: dict[str, Any], role: str, where: str) -> str:
    if part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    problem = f"the {role} message has a part of type {part.get('type')!r}; only text parts are read"
    raise InputError(f"{where}: {problem}", hint=UNUSABLE)


def _is_empty(value: Any) -> bool:
    """Null, or made of nulls only: `datasets` gives each record every field that any record has."""
    if isinstance(value, dict | list):
        return all(_is_empty(item) for item in (value.values() if isinstance(value, dict) else value))
    return value is None or value == ""
