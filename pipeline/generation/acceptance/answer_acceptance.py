"""Whether an answer becomes a record, and if not, why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.acceptance import refusal_phrases, reserved_identifiers
from marginalia.pipeline.generation.acceptance.semantic_duplicates import Embed, SemanticDuplicates, Vectored
from marginalia.pipeline.generation.acceptance.text_duplicates import TextDuplicates, holds
from marginalia.pipeline.generation.answer_parsing import parse, without_reasoning
from marginalia.pipeline.generation.endpoint.chat_completion import is_broken_off, is_cut, why_no_text
from marginalia.pipeline.generation.languages import other_language, width
from marginalia.pipeline.generation.response_journal import JournalledAnswer
from marginalia.schemas.storage.temporary_rows import TemporaryRows
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import text_problem
from marginalia.schemas.text_equality import fold

_SENTENCE_END = re.compile(r".*(?:[.!?…।؟۔][\"'”’)]*(?=\s|\Z)|[。！？][」』）”]*)", re.DOTALL)
_AT_ONCE = 32  # answers whose texts are embedded together
_COPIED = 0.8  # share of an example's 5-grams from which a text is a copy of it

# control characters but tab and line ends: they can rule a terminal that shows the text; tags, which nobody sees
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\U000e0000-\U000e007f]")
_MISREAD = re.compile("\ufffd|[ÃÂ][\u0080-\u00bf].*[ÃÂ][\u0080-\u00bf]|â€[\u0080-\u00bf™œ“”]", re.DOTALL)
_RUN = 24  # characters in a row that a text and its prompt seldom share by chance


@dataclass(frozen=True)
class Rejection:
    """`reason` is one of marginalia.schemas.tables.REJECTION_REASONS."""

    reason: str
    detail: str


class _Taken:
    """Texts by their wording and, with embeddings, by their meaning."""

    def __init__(
        self, section: GenerateSection, vectored: Vectored | None, room: int = 64, spill: TemporaryRows | None = None
    ) -> None:
        self._wordings = TextDuplicates(section.near_duplicate, room=room, spill=spill)
        self._meanings = None if vectored is None else SemanticDuplicates(vectored, section.duplicates.similarity)

    def add(self, name: str, text: str) -> None:
        self._wordings.add(name, text)
        if self._meanings is not None:
            self._meanings.add(name, text)

    def prepare(self) -> None:
        if self._meanings is not None:
            self._meanings.prepare()

    def find(self, text: str) -> str | None:
        """The text that says the same, and how similar it is."""
        if wording := self._wordings.find(text):
            return f"{wording[0]}, similarity {wording[1]:.2f}"
        if self._meanings is not None and (meaning := self._meanings.find(text)):
            return f"{meaning[0]}, similarity {meaning[1]:.2f} in meaning (embeddings)"
        return None


class AnswerAcceptance:
    """Judges answers in slot order; it remembers what it accepted, to know later duplicates.

    `embed` finds duplicates by meaning, too; then answers are judged `at_once` by so many, and prepared for it.
    About `room` texts are expected; what need not be in memory lies in `spill`."""

    def __init__(
        self,
        section: GenerateSection,
        taxonomy: Taxonomy,
        *,
        embed: Embed | None = None,
        room: int = 64,
        spill: TemporaryRows | None = None,
    ) -> None:
        self._section = section
        self.at_once = 1 if embed is None else _AT_ONCE
        self._vectored = None if embed is None else Vectored(embed)
        self._accepted = _Taken(section, self._vectored, room, spill)
        self._examples = _Taken(section, self._vectored)
        known = {"the definition of no label": taxonomy.none.definition}
        for label in taxonomy.labels:
            known[f"the definition of {label.id}"] = label.definition
            known |= {f"example {number} of {label.id}": text for number, text in enumerate(label.examples, start=1)}
        if self._vectored is not None:
            self._vectored.prepare(list(known.values()))
        for name, text in known.items():
            self._examples.add(name, text)

    def prepare(self, answers: list[tuple[JournalledAnswer, str]]) -> None:
        """Embeds the texts of (answer, language) pairs that are judged next, where embeddings are asked for."""
        if self._vectored is None:
            return
        texts = [self._text(answer, language) for answer, language in answers]
        self._vectored.prepare([text for text in texts if isinstance(text, str)])
        self._accepted.prepare()
        self._examples.prepare()

    def judge(
        self, slot_id: str, answer: JournalledAnswer, language: str, shown: list[str], prompt: Sequence[str] = ()
    ) -> str | Rejection:
        """The text to keep, or why there is none. `shown` are examples and definitions in the prompt, `prompt` the
        texts of its messages."""
        text = self._text(answer, language)
        if isinstance(text, Rejection):
            return text
        if copy := self._examples.find(text):
            return Rejection("copied", copy)
        if any(holds(text, example, _COPIED) for example in shown):
            return Rejection("copied", "holds a text that stood in the prompt")
        if double := self._accepted.find(text):
            return Rejection("duplicate", f"of {double}")
        if _echoes(text, prompt):
            return Rejection("copied", "repeats the prompt")
        self._accepted.add(slot_id, text)
        return text

    def _text(self, answer: JournalledAnswer, language: str) -> str | Rejection:
        """What can be said of an answer without knowing any other."""
        section = self._section
        if answer.refused:
            return Rejection("refused", answer.refused[:200])
        if is_broken_off(answer.finish_reason):
            return Rejection("invalid", f"the answer broke off: finish_reason '{answer.finish_reason}'")
        cut, why_none = is_cut(answer.finish_reason), why_no_text(answer, section.max_tokens, "generate.max_tokens")
        given = without_reasoning(answer.text or "")
        text = parse(given, cut=cut)
        if given and (words := refusal_phrases.refusal(text or given)):
            return Rejection("refused", words[:200])
        if cut:
            whole = _SENTENCE_END.match(text) if text is not None and section.when_cut == "trim" else None
            if whole is None:
                return Rejection("too_long", str(why_none))
            text = whole[0]
        if text is None:
            return Rejection("invalid", why_none or "no text in the answer's JSON")
        size = width(text)
        if size > section.max_characters:
            return Rejection("too_long", f"{size} characters (generate.max_characters {section.max_characters})")
        if flaw := text_problem(text):
            return Rejection("invalid", f"text: {flaw}")
        if unreadable := _UNREADABLE.search(text):
            return Rejection("invalid", f"text: the control character U+{ord(unreadable[0]):04X}")
        if not text.isascii() and _MISREAD.search(text):
            return Rejection("invalid", "text: letters that were read in a wrong encoding")
        if field := refusal_phrases.form_field(text):
            return Rejection("invalid", f"holds {field[:60]}")
        if words := refusal_phrases.reply(text):
            return Rejection("answered", words)
        if size < section.min_characters:
            return Rejection("too_short", f"{size} characters (generate.min_characters {section.min_characters})")
        if section.check_language and (other := other_language(text, language)):
            return Rejection("language", f"{other} instead of {language}")
        return self._without_private_data(text)

    def _without_private_data(self, text: str) -> str | Rejection:
        cleaned = reserved_identifiers.clean(text)
        if cleaned.refused:
            return Rejection("private_data", cleaned.refused)
        if cleaned.found and self._section.private_data == "reject":
            return Rejection("private_data", ", ".join(cleaned.found))
        return cleaned.text


def _echoes(text: str, prompt: Sequence[str]) -> bool:
    """Whether the text is a part of the prompt, or holds one of its messages. Looked at closely only where a run of
    characters stands in both."""
    whole, middle = "\n".join(prompt), max(0, (len(text) - _RUN) // 2)
    if text[middle : middle + _RUN] in whole and fold(text) in fold(whole):
        return True
    return any(len(each) > 2 * _RUN and each[:_RUN] in text and fold(each) in fold(text) for each in prompt)
