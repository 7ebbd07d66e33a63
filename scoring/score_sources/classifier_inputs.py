"""The token ids that a classifier gets for a record. A record's text never becomes a control token.

Where it contains the text of one (`[SEP]`), the input is cut inside that token before it is encoded, as in
scoring/prompt.py. All other inputs have exactly the ids that the tokenizer gives for the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from marginalia.schemas.errors import ModelError
from marginalia.scoring.rendering import RENDERER, RenderingError
from marginalia.scoring.score_sources.input_texts import LAST_MESSAGE, InputTexts
from marginalia.scoring.score_sources.source_file import CHAT_TEMPLATE

_PROBE = "A"


@dataclass(frozen=True)
class TokenIds:
    """An input. `content`: the positions (start, stop) of its tokens without those that the tokenizer adds;
    `imitations`: how many control tokens the record's text spelt out."""

    ids: list[int]
    content: tuple[int, int]
    imitations: int


class ClassifierInputs(InputTexts):
    """The inputs of one guard for one tokenizer. `template`: as in ClassifierFile.input; None: the last message."""

    def __init__(self, guard: str, template: str | None, tokenizer: Any) -> None:
        super().__init__(guard, template or LAST_MESSAGE)
        self._tokenizer = tokenizer
        self._is_chat = template == CHAT_TEMPLATE
        # Gemma's tokenizer has ordinary tokens for white space among its added tokens
        added = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if len(token.content) > 1 and token.content.strip(" \t\r\n\u2581")
        }
        self._controls = frozenset(added)
        longest_first = sorted(set(added.values()), key=lambda content: (-len(content), content))
        self._added = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._before, self._after = ([], []) if self._is_chat else self._surroundings()

    def tokens(self, messages: Sequence[dict[str, str]]) -> TokenIds:
        """The input of one record. Raises InputError and ModelError as InputTexts and the chat template do."""
        found = self.of(messages)
        cuts = self._cuts(found.text, found.spans)
        ids, imitations = self._encode(found.text, cuts), len(cuts)
        inside = {index for start, stop in found.spans for index in range(start, stop + 1)} - {0, len(found.text)}
        template = "x".join(found.text[start:stop] for start, stop in _outside(found.spans, len(found.text)))
        # a look-alike that Unicode normalisation makes a control token
        if self._count(ids) > self._count(self._encode(template, [])):
            ids, imitations = self._encode(found.text, sorted(inside)), max(len(cuts), 1)
        start = len(self._before)
        return TokenIds([*self._before, *ids, *self._after], (start, start + len(ids)), imitations)

    def rendered(self, conversation: list[dict[str, str]]) -> str:
        """The text for this conversation, whose texts are marks."""
        if not self._is_chat:
            return super().rendered(conversation)
        tokens = self._tokenizer.special_tokens_map
        texts = {name: token if isinstance(token, list) else str(token) for name, token in tokens.items()}
        variables = {
            "messages": conversation,
            "tools": None,
            "documents": None,
            "add_generation_prompt": False,
            **texts,
        }
        try:
            return RENDERER.render(self._tokenizer.get_chat_template(), variables, chat=True)
        except (RenderingError, ValueError) as error:  # ValueError: it has none, or several
            raise ModelError(f"the tokenizer's chat template fails: {error}") from error

    def _surroundings(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after each text, such as [CLS] and [SEP]."""
        plain = self._tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        full = self._tokenizer(_PROBE)["input_ids"]
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return full[:start], full[start + len(plain) :]
        raise ModelError("the tokenizer does not only put tokens around a text, so the model cannot be used")

    def _encode(self, text: str, cuts: Sequence[int]) -> list[int]:
        ids: list[int] = []
        for start, stop in pairwise([0, *cuts, len(text)]):
            ids += self._tokenizer(text[start:stop], add_special_tokens=False)["input_ids"]
        return ids

    def _count(self, ids: Sequence[int]) -> int:
        return sum(token in self._controls for token in ids)

    def _cuts(self, text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Where to cut the text so that no control token consists of, or overlaps, a record's text."""
        cuts: list[int] = []
        position = 0
        while self._added is not None and (match := self._added.search(text, position)) is not None:
            position = match.end()
            if any(match.start() < stop and match.end() > start for start, stop in spans):
                position = match.start() + 1
                cuts.append(position)
        return cuts


def _outside(spans: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The parts (start, stop) of a text that are in none of the spans."""
    edges = [0, *(edge for span in spans for edge in span), length]
    return list(zip(edges[::2], edges[1::2], strict=True))
