"""A guard's prompt as token ids. What a record says can never become a control token of the prompt.

The texts of a record are put in after the templates have been rendered, so no template syntax in them is run. Where
they hold the text of a control token (`<|eot_id|>`), the text is cut inside that token before it is encoded, so that
it reaches the model as plain characters; everything else is encoded in one piece, as the guard was trained. Should the
tokenizer make a control token of a look-alike (by Unicode normalisation), the text is encoded letter by letter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from marginalia.schemas.errors import InputError, ModelError
from marginalia.scoring.guard import Guard
from marginalia.scoring.rendering import RENDERER, RenderingError

REPEATS = 16  # how often a prompt may hold each text of a record, on average: bounds what a template can ask for
ROLES = ("system", "user", "assistant")
_MARK = re.compile("\ue000(\\d+)\ue001")  # private-use characters: where the text of message n goes


@dataclass(frozen=True)
class Prompt:
    """`ids`: the prompt's tokens. `imitations`: control tokens that the record's text spelt out."""

    ids: list[int]
    imitations: int


class PromptBuilder:
    """Prompts of one guard for one tokenizer. `notes` tells what does not fit between the two."""

    def __init__(self, guard: Guard, tokenizer: Any) -> None:
        self.guard = guard
        self.tokenizer = tokenizer
        self.notes: list[str] = []
        self._frame = guard.file.prompt.frame
        # runs of white space are ordinary tokens that Gemma's tokenizer adds in this way
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
        self._templates: dict[tuple[str, ...], tuple[str, int]] = {}  # roles → template, its control tokens

    def build(self, messages: Sequence[dict[str, str]]) -> Prompt:
        """The prompt for one record's messages. Raises InputError for messages that are none."""
        _check(messages)
        template, controls = self._template(tuple(message["role"] for message in messages))
        text, spans = self._fill(template, [message["content"] for message in messages])
        cuts = self._cuts(text, spans)
        ids = self._encode(text, cuts)
        if self._count(ids) > controls:
            inside = {place for start, stop in spans for place in range(start, stop + 1)} - {0, len(text)}
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
        """The token ids that every single-message prompt starts with, as two unlike records show."""
        one = self.build([{"role": "user", "content": "A"}]).ids
        other = self.build([{"role": "user", "content": "9 zebras"}]).ids
        same = 0
        while same < min(len(one), len(other)) and one[same] == other[same]:
            same += 1
        return one[: max(same - 1, 0)]  # a longer text may merge into the token at the border

    def _template(self, roles: tuple[str, ...]) -> tuple[str, int]:
        """The text with a mark in the place of each message's, and how many control tokens it holds of its own."""
        if roles not in self._templates:
            template = self._render(roles)
            if f"\ue000{len(roles) - 1}\ue001" not in template:
                raise InputError(
                    f"guard {self.guard.name}: its prompt leaves out the text of the last message",
                    hint="{{ conversation[-1].content }} belongs in prompt.message, {{ message }} in prompt.frame",
                )
            marks = [mark[1] for mark in _MARK.finditer(template)]
            if not set(marks) <= set(map(str, range(len(roles)))) or len(marks) > REPEATS * len(roles):
                raise InputError(
                    f"guard {self.guard.name}: its prompt repeats the texts of a record more than {REPEATS} times, or "
                    "holds the characters U+E000 and U+E001, which mark their places"
                )
            self._templates[roles] = template, self._count(self._encode(_MARK.sub("x", template), []))
        return self._templates[roles]

    def _render(self, roles: tuple[str, ...]) -> str:
        conversation = [{"role": role, "content": f"\ue000{index}\ue001"} for index, role in enumerate(roles)]
        categories = [asdict(category) for category in self.guard.categories]
        known = {"categories": categories, "conversation": conversation, "last_role": roles[-1]}
        try:
            message = RENDERER.render(self.guard.file.prompt.message, known)
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
        """What a tokenizer gives its chat template for one user message."""
        special = self.tokenizer.special_tokens_map
        asked = {"messages": [{"role": "user", "content": message}], "tools": None, "documents": None}
        named = {name: token if isinstance(token, list) else str(token) for name, token in special.items()}
        return {**asked, "add_generation_prompt": True, **named}

    def _fill(self, template: str, contents: list[str]) -> tuple[str, list[tuple[int, int]]]:
        """The text with the contents in place, and the spans (start, stop) that they take in it."""
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
        """Where to cut the text so that no control token arises from, or reaches into, a record's text."""
        cuts: list[int] = []
        if self._added is None:
            return cuts
        at = 0
        while (found := self._added.search(text, at)) is not None:
            if any(found.start() < stop and found.end() > start for start, stop in spans):
                cuts.append(found.start() + 1)
                at = found.start() + 1
            else:
                at = found.end()
        return cuts

    def _check_frame(self, contents: set[str]) -> None:
        if self._frame is not None:
            missing = [token for token in re.findall(r"<\|[^|>\s]+\|>", self._frame) if token not in contents]
            if missing:
                self._frame = None
                self.notes.append(
                    f"the tokenizer has no {missing[0]}, which {self.guard.name} frames its prompt with; "
                    "the tokenizer's own chat template is used instead"
                )
        if self._frame is None and not getattr(self.tokenizer, "chat_template", None):
            self.notes.append("the tokenizer has no chat template: the policy is given as plain text")


def _check(messages: Sequence[dict[str, str]]) -> None:
    """What files of records are checked for when they are read, for callers from Python."""
    if not messages:
        raise InputError("a record needs at least one message")
    for message in messages:
        if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
            raise InputError(f"a message is a role ({', '.join(ROLES)}) and a content, which is text")
        if (found := re.search("[\ud800-\udfff]", message["content"])) is not None:
            raise InputError(f"a lone surrogate U+{ord(found[0]):04X} at position {found.start()} of a text")
