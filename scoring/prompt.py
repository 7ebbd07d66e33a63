"""Builds a guard's prompts as token ids. A record's text never becomes a control token of the prompt.

The texts of a record are inserted after the templates have been rendered, so template syntax in them is not run. Where
they contain the text of a control token (`<|eot_id|>`), the prompt is cut inside that token before it is encoded, so
that the model sees plain characters; everything else is encoded in one piece, as in the guard's training. If the
tokenizer still makes a control token of a look-alike (by Unicode normalisation), the text is encoded character by
character."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from marginalia.schemas.errors import InputError, ModelError
from marginalia.scoring.guard import Guard
from marginalia.scoring.rendering import RENDERER, RenderingError

REPEATS = 16  # how often a prompt may contain each text of a record, on average: limits the size of prompts
ROLES = ("system", "user", "assistant")
_MARK = re.compile("\ue000(\\d+)\ue001")  # private-use characters, in the place of message n's text


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
        self.notes: list[str] = []
        self._frame = guard.file.prompt.frame
        # Gemma's tokenizer has ordinary tokens for white space among its added tokens
        added = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if len(token.content) > 1 and token.content.strip(" \t\r\n\u2581")
        }
        contents = set(added.values())
        self._controls = frozenset(added)
        alternatives = sorted(contents, key=lambda content: (-len(content), content))
        self._added = re.compile("|".join(map(re.escape, alternatives))) if alternatives else None
        self._check_frame(contents)
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
            if f"\ue000{len(roles) - 1}\ue001" not in template:
                raise InputError(
                    f"guard {self.guard.name}: its prompt does not contain the text of the last message",
                    hint="put {{ conversation[-1].content }} into prompt.message, and {{ message }} into prompt.frame",
                )
            marks = [mark[1] for mark in _MARK.finditer(template)]
            if not set(marks) <= set(map(str, range(len(roles)))) or len(marks) > REPEATS * len(roles):
                raise InputError(
                    f"guard {self.guard.name}: its prompt repeats the texts of a record more than {REPEATS} times, or "
                    "contains the characters U+E000 and U+E001, which are reserved"
                )
            self._templates[roles] = template, self._count(self._encode(_MARK.sub("x", template), []))
        return self._templates[roles]

    def _render(self, roles: tuple[str, ...]) -> str:
        conversation = [{"role": role, "content": f"\ue000{index}\ue001"} for index, role in enumerate(roles)]
        categories = [asdict(category) for category in self.guard.categories]
        variables = {"categories": categories, "conversation": conversation, "last_role": roles[-1]}
        try:
            message = RENDERER.render(self.guard.file.prompt.message, variables)
            if self._frame is not None:
                return RENDERER.render(self._frame, {"message": message})
        except RenderingError as error:
            raise InputError(f"guard {self.guard.name}: its prompt template fails: {error}") from error
        if not getattr(self.tokenizer, "chat_template", None):
            return (self.tokenizer.bos_token or "") + message + "\n"
        try:
            return RENDERER.render(self.tokenizer.get_chat_template(), self._chat(message), chat=True)
        except (RenderingError, ValueError) as error:  # ValueError: several templates, none of them the default
            raise ModelError(f"the tokenizer's chat template fails: {error}") from error

    def _chat(self, message: str) -> dict[str, Any]:
        """The variables that a tokenizer passes to its chat template for one user message."""
        special_tokens = self.tokenizer.special_tokens_map
        arguments = {"messages": [{"role": "user", "content": message}], "tools": None, "documents": None}
        token_texts = {name: token if isinstance(token, list) else str(token) for name, token in special_tokens.items()}
        return {**arguments, "add_generation_prompt": True, **token_texts}

    def _fill(self, template: str, contents: list[str]) -> tuple[str, list[tuple[int, int]]]:
        """The text with the contents inserted, and their spans (start, stop) in it."""
        parts: list[str] = []
        spans: list[tuple[int, int]] = []
        length = end = 0
        for mark in _MARK.finditer(template):
            content = contents[int(mark[1])]
            content = content.strip() if self.guard.file.prompt.strip else content
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

    def _check_frame(self, contents: set[str]) -> None:
        if self._frame is not None:
            missing = [token for token in re.findall(r"<\|[^|>\s]+\|>", self._frame) if token not in contents]
            if missing:
                self._frame = None
                self.notes.append(
                    f"the tokenizer has no {missing[0]}, which the prompt of {self.guard.name} contains; "
                    "the tokenizer's own chat template is used instead"
                )
        if self._frame is None and not getattr(self.tokenizer, "chat_template", None):
            self.notes.append("the tokenizer has no chat template: the policy is given as plain text")


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
