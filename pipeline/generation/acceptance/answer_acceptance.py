"""Decides whether an answer becomes a record, and gives the reason when it does not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.acceptance import refusal_phrases, reserved_identifiers
from marginalia.pipeline.generation.acceptance.semantic_duplicates import Embed, PreparedEmbeddings, SemanticDuplicates
from marginalia.pipeline.generation.acceptance.text_duplicates import TextDuplicates, contains_most_of
from marginalia.pipeline.generation.answer_parsing import parse, without_reasoning
from marginalia.pipeline.generation.endpoint.chat_completion import is_broken_off, is_cut, why_no_text
from marginalia.pipeline.generation.languages import other_language, width
from marginalia.pipeline.generation.response_journal import JournalledAnswer
from marginalia.schemas.storage.temporary_rows import TemporaryRows
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import text_problem
from marginalia.schemas.text_equality import fold

_SENTENCE_END = re.compile(r".*(?:[.!?…।؟۔][\"'”’)]*(?=\s|\Z)|[。！？][」』）”]*)", re.DOTALL)
_BATCH = 32  # answers whose texts are embedded together
_COPIED = 0.8  # a text with at least this share of an example's 5-grams is a copy of it

# control characters except tab and line ends, which can control a terminal that shows the text; invisible tags
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\U000e0000-\U000e007f]")
_MISREAD = re.compile("\ufffd|[ÃÂ][\u0080-\u00bf].*[ÃÂ][\u0080-\u00bf]|â€[\u0080-\u00bf™œ“”]", re.DOTALL)
_RUN = 24  # consecutive characters that a text and its prompt rarely share by chance


@dataclass(frozen=True)
class Rejection:
    """Why an answer is not accepted. `reason` is one of marginalia.schemas.tables.REJECTION_REASONS."""

    reason: str
    detail: str


class _SeenTexts:
    """Texts to compare others with, by their wording and, with embeddings, by their meaning."""

    def __init__(
        self,
        section: GenerateSection,
        embeddings: PreparedEmbeddings | None,
        expected_texts: int = 64,
        temporary_rows: TemporaryRows | None = None,
    ) -> None:
        self._by_wording = TextDuplicates(
            section.near_duplicate, expected_texts=expected_texts, temporary_rows=temporary_rows
        )
        self._by_meaning = None if embeddings is None else SemanticDuplicates(embeddings, section.duplicates.similarity)

    def add(self, name: str, text: str) -> None:
        self._by_wording.add(name, text)
        if self._by_meaning is not None:
            self._by_meaning.add(name, text)

    def prepare(self) -> None:
        if self._by_meaning is not None:
            self._by_meaning.prepare()

    def find(self, text: str) -> str | None:
        """Name and similarity of a text that says the same; None when there is none."""
        if same_wording := self._by_wording.find(text):
            return f"{same_wording[0]}, similarity {same_wording[1]:.2f}"
        if self._by_meaning is not None and (same_meaning := self._by_meaning.find(text)):
            return f"{same_meaning[0]}, similarity {same_meaning[1]:.2f} in meaning (embeddings)"
        return None


class AnswerAcceptance:
    """Judges answers one after the other, and remembers the accepted texts to find later duplicates.

    With `embed`, duplicates by meaning are found, too; then `prepare` must be called with each `batch_size` answers
    before they are judged. `expected_texts` is the approximate number of texts that will be accepted; they are kept in
    `temporary_rows` instead of in memory."""

    def __init__(
        self,
        section: GenerateSection,
        taxonomy: Taxonomy,
        *,
        embed: Embed | None = None,
        expected_texts: int = 64,
        temporary_rows: TemporaryRows | None = None,
    ) -> None:
        self._section = section
        self.batch_size = 1 if embed is None else _BATCH
        self._embeddings = None if embed is None else PreparedEmbeddings(embed)
        self._accepted = _SeenTexts(section, self._embeddings, expected_texts, temporary_rows)
        self._examples = _SeenTexts(section, self._embeddings)
        known = {"the definition of no label": taxonomy.none.definition}
        for label in taxonomy.labels:
            known[f"the definition of {label.id}"] = label.definition
            known |= {f"example {number} of {label.id}": text for number, text in enumerate(label.examples, start=1)}
        if self._embeddings is not None:
            self._embeddings.prepare(list(known.values()))
        for name, text in known.items():
            self._examples.add(name, text)

    def prepare(self, answers: list[tuple[JournalledAnswer, str]]) -> None:
        """Embeds the texts of the (answer, language) pairs that are judged next; does nothing without `embed`."""
        if self._embeddings is None:
            return
        texts = [self._text(answer, language) for answer, language in answers]
        self._embeddings.prepare([text for text in texts if isinstance(text, str)])
        self._accepted.prepare()
        self._examples.prepare()

    def judge(
        self, slot_id: str, answer: JournalledAnswer, language: str, shown: list[str], prompt: Sequence[str] = ()
    ) -> str | Rejection:
        """The text to keep, or why the answer is rejected. `shown` are the examples and definitions in the prompt,
        `prompt` the texts of its messages."""
        text = self._text(answer, language)
        if isinstance(text, Rejection):
            return text
        if copy := self._examples.find(text):
            return Rejection("copied", copy)
        if any(contains_most_of(text, example, _COPIED) for example in shown):
            return Rejection("copied", "contains a text of the prompt")
        if original := self._accepted.find(text):
            return Rejection("duplicate", f"of {original}")
        if _echoes(text, prompt):
            return Rejection("copied", "repeats the prompt")
        self._accepted.add(slot_id, text)
        return text

    def _text(self, answer: JournalledAnswer, language: str) -> str | Rejection:
        """The text of an answer after all checks that need no other text."""
        section = self._section
        if answer.refused:
            return Rejection("refused", answer.refused[:200])
        if is_broken_off(answer.finish_reason):
            return Rejection("invalid", f"incomplete answer: finish_reason '{answer.finish_reason}'")
        cut, why_none = is_cut(answer.finish_reason), why_no_text(answer, section.max_tokens, "generate.max_tokens")
        visible = without_reasoning(answer.text or "")
        text = parse(visible, cut=cut)
        if visible and (words := refusal_phrases.refusal(text or visible)):
            return Rejection("refused", words[:200])
        if cut:
            sentences = _SENTENCE_END.match(text) if text is not None and section.when_cut == "trim" else None
            if sentences is None:
                return Rejection("too_long", str(why_none))
            text = sentences[0]
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
            return Rejection("invalid", "text: decoded with the wrong encoding")
        if field := refusal_phrases.form_field(text):
            return Rejection("invalid", f"contains {field[:60]}")
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
        if cleaned.replaced and self._section.private_data == "reject":
            return Rejection("private_data", ", ".join(cleaned.replaced))
        return cleaned.text


def _echoes(text: str, prompt: Sequence[str]) -> bool:
    """Whether the text is a part of the prompt, or contains one of its messages. The exact comparison is slow, so it is
    made only where some consecutive characters are the same in both."""
    whole, middle = "\n".join(prompt), max(0, (len(text) - _RUN) // 2)
    if text[middle : middle + _RUN] in whole and fold(text) in fold(whole):
        return True
    return any(len(message) > 2 * _RUN and message[:_RUN] in text and fold(message) in fold(text) for message in prompt)
