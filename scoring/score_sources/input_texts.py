"""The text of a record that a source judges, from a Jinja template or without one.

The texts of a record are inserted after the template has been rendered, so template syntax in them is not run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marginalia.schemas.errors import InputError
from marginalia.scoring.prompt import check_messages
from marginalia.scoring.rendering import RENDERER, RenderingError

REPEATS = 16  # how often an input may contain each text of a record, on average: limits its size
LAST_MESSAGE = "{{ conversation[-1].content }}"
_MARK = re.compile("\ue000(\\d+)\ue001")  # private-use characters, in the place of message n's text


@dataclass(frozen=True)
class InputText:
    """What a source judges. `spans`: where (start, stop) it consists of the record's texts."""

    text: str
    spans: list[tuple[int, int]]


class InputTexts:
    """The inputs of one guard, by the Jinja `template`. Without one, an input is the only message's text, or all
    messages as JSON, so that no text can look like another message. `notes`: none, as of PromptBuilder."""

    def __init__(self, guard: str, template: str | None) -> None:
        self._guard = guard
        self._template = template
        self.notes: list[str] = []
        self._rendered: dict[tuple[str, ...], str] = {}  # roles → the template with a mark for each message

    def of(self, messages: Sequence[dict[str, str]]) -> InputText:
        """The input of one record. Raises InputError for invalid messages, and for a template that fails."""
        check_messages(messages)
        if self._template is None and len(messages) > 1:
            turns = [{"role": message["role"], "content": message["content"]} for message in messages]
            return InputText(json.dumps(turns, ensure_ascii=False), [])
        roles = tuple(message["role"] for message in messages)
        if roles not in self._rendered:
            self._rendered[roles] = self._render(roles)
        return _filled(self._rendered[roles], [message["content"] for message in messages])

    def _render(self, roles: tuple[str, ...]) -> str:
        conversation = [{"role": role, "content": f"\ue000{index}\ue001"} for index, role in enumerate(roles)]
        text = self.rendered(conversation)
        marks = [mark[1] for mark in _MARK.finditer(text)]
        if str(len(roles) - 1) not in marks:
            raise InputError(
                f"guard {self._guard}: its input does not contain the text of the last message",
                hint=f"put {LAST_MESSAGE} into the key input",
            )
        if len(marks) > REPEATS * len(roles) or not set(marks) <= set(map(str, range(len(roles)))):
            raise InputError(f"guard {self._guard}: its input repeats the texts of a record more than {REPEATS} times")
        return text

    def rendered(self, conversation: list[dict[str, str]]) -> str:
        """The template's text for this conversation."""
        variables = {"conversation": conversation, "last_role": conversation[-1]["role"]}
        return rendered(self._guard, "input", self._template or LAST_MESSAGE, variables)


def rendered(guard: str, key: str, template: str, variables: Mapping[str, object]) -> str:
    """The text of the template `key` of a guard file. Raises InputError when it fails."""
    try:
        return RENDERER.render(template, variables)
    except RenderingError as error:
        raise InputError(f"guard {guard}: the template of its key {key} fails: {error}") from error


def _filled(template: str, contents: list[str]) -> InputText:
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = end = 0
    for mark in _MARK.finditer(template):
        content, before = contents[int(mark[1])], template[end : mark.start()]
        parts += [before, content]
        spans.append((length + len(before), length + len(before) + len(content)))
        length, end = spans[-1][1], mark.end()
    return InputText("".join([*parts, template[end:]]), spans)
