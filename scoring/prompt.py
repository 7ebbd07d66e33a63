"""Builds a guard's prompts as token ids. A record's text never becomes a control token of the prompt.

The texts of a record are inserted after the templates have been rendered, so template syntax in them is not run. Where
they contain the text of a control token (`<|eot_id|>`), the prompt is cut inside that token before it is encoded, so
that the model sees plain characters; everything else is encoded in one piece, as in the guard's training. If the
tokenizer still makes a control token of a look-alike (by Unicode normalisation), the text is encoded character by
character."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marginalia.schemas.errors import InputError, ModelError
from marginalia.scoring.guard import Guard
from marginalia.scoring.prompt_rendering import MARK, PromptRenderer

REPEATS = 16  # how often a prompt may contain each text of a record, on average: limits the size of prompts
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """A prompt. `ids`: its token ids; `imitations`: how many control tokens the record's text spelt out."""

    ids: list[int]
    imitations: int


class PromptBuilder:
    """Builds the prompts of one guard for one tokenizer. `notes`: where the two do not fit together."""

    def __init__(self, guard: Guard, tokenizer: Any) -> None:
        self.guard = guard
        self.tokenizer = tokenizer
        self._renderer = PromptRenderer(guard, tokenizer)
        self.notes = self._renderer.notes
        # Gemma's tokenizer has ordinary tokens for white space among its added tokens
        added = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if len(token.content) > 1 and token.content.strip(" \t\r\n\u2581")
        }
        self._controls = frozenset(added)
        alternatives = sorted(set(added.values()), key=lambda content: (-len(content), content))
        self._added = re.compile("|".join(map(re.escape, alternatives))) if alternatives else None
        self._templates: dict[tuple[str, ...], tuple[str, int]] = {}  # roles → (template, its control tokens)
        self._failing: dict[tuple[str, ...], InputError | ModelError] = {}  # roles that the templates refuse

    def build(self, messages: Sequence[dict[str, str]]) -> Prompt:
        """The prompt for one record's messages. Raises InputError for invalid messages or a failing template."""
        check_messages(messages)
        template, controls = self._template(tuple(message["role"] for message in messages))
        text, spans = self._fill(template, [message["content"] for message in messages])
        cuts = self._cuts(text, spans)
        ids = self._encode(text, cuts)
        if self._count(ids) > controls:
            inside = {index for start, stop in spans for index in range(start, stop + 1)} - {0, len(text)}
            return Prompt(self._encode(text, sorted(inside)), max(len(cuts), 1))
        return Prompt(ids, len(cuts))

    def difference_from_tokenizers(self) -> str | None:
        """Where the guard file's prompt differs from the one that the tokenizer's chat template writes; empty if they
        are equal, None where there is nothing to compare (see PromptRenderer.own_and_tokenizers)."""
        pair = self._renderer.own_and_tokenizers()
        if pair is None:
            return None
        own, theirs = pair
        if own == theirs:
            return ""
        if own.split() == theirs.split():
            return "only in white space"
        same = next(
            (n for n, (a, b) in enumerate(zip(own, theirs, strict=False)) if a != b), min(len(own), len(theirs))
        )
        start = max(same - 20, 0)
        return f"from character {same + 1} on: {own[start : same + 30]!r}, there {theirs[start : same + 30]!r}"

    def _encode(self, text: str, cuts: list[int]) -> list[int]:
        ids: list[int] = []
        for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
            ids += self.tokenizer(text[start:stop], add_special_tokens=False)["input_ids"]
        return ids

    def _count(self, ids: list[int]) -> int:
        return sum(token in self._controls for token in ids)

    def shared_start(self) -> list[int]:
        """The token ids that every prompt of one message starts with, found by comparing two different records."""
        first = self.build([{"role": "user", "content": "A"}]).ids
        second = self.build([{"role": "user", "content": "9 zebras"}]).ids
        same = 0
        while same < min(len(first), len(second)) and first[same] == second[same]:
            same += 1
        return first[: max(same - 1, 0)]  # the last one is left out: other texts may merge with it into another token

    def _template(self, roles: tuple[str, ...]) -> tuple[str, int]:
        """The rendered prompt with a mark in the place of each message's text, and its number of control tokens."""
        if roles in self._failing:  # a template may take seconds to fail, which is too long for each record
            raise self._failing[roles]
        if roles not in self._templates:
            try:
                template = self._render(roles)
            except (InputError, ModelError) as error:
                self._failing[roles] = error
                raise
            marks = [int(mark[1]) for mark in MARK.finditer(template)]
            if len(roles) - 1 not in marks:
                raise InputError(
                    f"guard {self.guard.name}: its prompt does not contain the text of the last message",
                    hint=self._hint_for_missing_text(),
                )
            if not set(marks) <= set(range(len(roles))) or len(marks) > REPEATS * len(roles):
                raise InputError(
                    f"guard {self.guard.name}: its prompt repeats the texts of a record more than {REPEATS} times, or "
                    "contains the characters U+E000 and U+E001, which are reserved"
                )
            self._templates[roles] = template, self._count(self._encode(MARK.sub("x", template), []))
        return self._templates[roles]

    def _render(self, roles: tuple[str, ...]) -> str:
        return self._renderer.render(roles)

    def _hint_for_missing_text(self) -> str:
        if self.guard.file.prompt.messages is not None:
            return "put the word conversation, or a message with {{ conversation[-1].content }}, into prompt.messages"
        return "put {{ conversation[-1].content }} into prompt.message, and {{ message }} into prompt.frame"

    def _fill(self, template: str, contents: list[str]) -> tuple[str, list[tuple[int, int]]]:
        """The text with the contents inserted, and their spans (start, stop) in it."""
        parts: list[str] = []
        spans: list[tuple[int, int]] = []
        length = end = 0
        for mark in MARK.finditer(template):
            content = self._as_templates_write(contents[int(mark[1])], mark[2])
            before = template[end : mark.start()]
            parts += [before, content]
            spans.append((length + len(before), length + len(before) + len(content)))
            length, end = spans[-1][1], mark.end()
        return "".join([*parts, template[end:]]), spans

    def _cuts(self, text: str, spans: list[tuple[int, int]]) -> list[int]:
        """Where to cut the text so that no control token consists of, or overlaps, a record's text."""
        cuts: list[int] = []
        if self._added is None:
            return cuts
        position = 0
        while (match := self._added.search(text, position)) is not None:
            if any(match.start() < stop and match.end() > start for start, stop in spans):
                cuts.append(match.start() + 1)
                position = match.start() + 1
            else:
                position = match.end()
        return cuts

    def _as_templates_write(self, content: str, letters: str) -> str:
        """A record's text as the templates would write it. `letters`: of its mark, see scoring/prompt_rendering.py."""
        if self.guard.file.prompt.strip:
            content = content.strip()
        for letter, characters in (("l", None), ("L", "\n")):
            content = content.lstrip(characters) if letter in letters else content
        for letter, characters in (("r", None), ("R", "\n")):
            content = content.rstrip(characters) if letter in letters else content
        return json.dumps(content, ensure_ascii=False)[1:-1] if "j" in letters else content


def check_messages(messages: object) -> None:
    """Checks messages from Python as messages in files are checked when they are read. Raises InputError."""
    if isinstance(messages, str) or not isinstance(messages, Sequence | None):
        raise InputError("the messages of a record must be a list of {role, content}")
    if not messages:
        raise InputError("a record needs at least one message")
    for message in messages:
        if not isinstance(message, Mapping):
            raise InputError(f"a message must be {{role, content}}, saw {str(message)[:80]!a}")
        if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
            raise InputError(f"a message must have a role ({', '.join(ROLES)}) and a content, which is text")
        if (surrogate := re.search("[\ud800-\udfff]", message["content"])) is not None:
            raise InputError(f"a lone surrogate U+{ord(surrogate[0]):04X} at position {surrogate.start()} of a text")
