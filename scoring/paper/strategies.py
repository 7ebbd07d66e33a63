"""The seven strategies of the table of Praharaj & Kasundra, arXiv 2511.22312, for records of one guard and model.

The procedures themselves are in scoring/paper/published_procedures.py. This module derives what they need from a guard:
the words that they look for in the answer, and the text that is forced before the baselines read the labels' tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.storage.files import content_hash
from marginalia.scoring.answer_pieces import (
    Choice,
    CodeList,
    Integers,
    Levels,
    Optional,
    PieceSpec,
    SpecialToken,
    VerdictWord,
    Word,
    located_pieces,
)
from marginalia.scoring.guard import Guard
from marginalia.scoring.models.prefix_tree import ATTENTION
from marginalia.scoring.paper import published_procedures
from marginalia.scoring.paper.published_procedures import CachedModel
from marginalia.scoring.record_errors import record_error
from marginalia.scoring.score_files import record_key
from marginalia.scoring.scorer import Scorer

SCORES = ("token_probability", "fixed_place", "any_place")
BASELINES: tuple[published_procedures.Uncertainty, ...] = ("probability", "entropy", "LogTokU")
STRATEGIES = ("greedy", *BASELINES, *SCORES)  # in the order of the published table

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class ForcedPrefix:
    """The text that is forced on the model before the baselines read the labels' logits.

    text: the verdict, a line break and the token that all codes begin with, such as `S`. tokens: code → the id
    of its second token."""

    text: str
    tokens: dict[str, int]

    @property
    def indistinguishable_codes(self) -> list[list[str]]:
        """Groups of codes with the same second token: the baselines cannot tell them apart."""
        groups: dict[int, list[str]] = {}
        for code, token in self.tokens.items():
            groups.setdefault(token, []).append(code)
        return [codes for codes in groups.values() if len(codes) > 1]


class Strategies:
    """The published procedures with one scorer's local model, guard and prompts.

    top_p: the share of the next token's mass that is followed. eps: prefixes less probable than this are not followed.
    `forced` is None, with the reason in `why_not`, if the guard's codes do not have the form that the baselines need.
    Raises InputError for a guard whose answer is not a verdict and a list of codes."""

    def __init__(self, scorer: Scorer, *, top_p: float, eps: float) -> None:
        self.scorer, self.top_p, self.eps = scorer, top_p, eps
        self.start = answer_start(scorer.guard)
        self.verdict = self.start.verdict
        self.codes = [category.code for category in scorer.guard.categories]
        self.forced: ForcedPrefix | None = None
        self.why_not: str | None = None
        self._find_forced()

    def run(self, records: Iterable[tuple[str, Messages]]) -> Iterator[dict[str, Any]]:
        """One journal entry per record: `greedy` (codes), the SCORES by code, `passes` (prefixes of the tree of any
        place), `greedy_passes` (further forward passes) and seconds; for the baselines the codes' `logits`, and
        `flagged`: whether the verdict's first token is more probable than that of the answer without categories. An
        entry with an `error` has none of these."""
        fingerprint = self.fingerprint
        for record_id, messages in records:
            entry = {"id": record_id, "key": record_key(fingerprint, messages), "error": None}
            started = time.perf_counter()
            try:
                result = self._run_record(self._prompt(messages))
            except Exception as error:
                yield {**entry, "error": record_error(error, "the paper's procedures failed").message}
                continue
            yield {**entry, **result, "seconds": round(time.perf_counter() - started, 4)}

    def _prompt(self, messages: Messages) -> list[int]:
        ids = self.scorer.prompts.build(messages).ids
        if len(ids) + published_procedures.GREEDY_TOKENS > self.scorer.model.context:
            raise ModelError(f"too long: a prompt of {len(ids)} tokens")
        return ids

    @property
    def fingerprint(self) -> str:
        """Hash of the model, the guard file, its categories and the limits: all that the numbers depend on."""
        guard = self.scorer.guard
        return content_hash(
            {
                "model": self.scorer.model.identity,
                "guard": guard.file.model_dump(mode="json"),
                "categories": [vars(category) for category in guard.categories],
                "limits": [self.top_p, self.eps],
            }
        )

    def _run_record(self, ids: list[int]) -> dict[str, Any]:
        with self._plain_attention():
            return self._procedures(ids)

    def _procedures(self, ids: list[int]) -> dict[str, Any]:
        model = self.scorer.model
        cached = Remembered(model.runner.model, model.tokenizer, model.end_ids)  # type: ignore[attr-defined]
        labels = [self.verdict, *self.codes]
        tree = published_procedures.any_place(cached, ids, labels, top_p=self.top_p, eps=self.eps)
        after_tree = cached.forward_passes
        step = published_procedures.token_probability(cached, ids, labels, top_p=self.top_p)
        result: dict[str, Any] = {
            "greedy": [code for code in step if code != self.verdict],
            "token_probability": step,
            "fixed_place": published_procedures.fixed_place(cached, ids, labels, top_p=self.top_p),
            "any_place": tree.scores,
            "passes": len(tree.visited),
            "greedy_passes": cached.forward_passes - after_tree,
        }
        if self.forced is not None:
            logits = cached.next_logits([*ids, *self._encode(self.forced.text)])
            result["logits"] = {code: float(logits[token]) for code, token in self.forced.tokens.items()}
            start = cached.next_logits([*ids, *self._encode(self.start.before)])
            yes, no = (self._encode(word)[0] for word in (self.verdict, self.start.safe_word))
            result["flagged"] = bool(start[yes] > start[no])
        return result

    def _find_forced(self) -> None:
        encoded = {code: self._encode(code) for code in self.codes}
        if short := next((code for code, ids in encoded.items() if len(ids) < 2), None):
            self.why_not = f"the code {short} is a single token, but the baselines read the second token of each code"
        elif len({ids[0] for ids in encoded.values()}) > 1:
            self.why_not = "the codes do not all begin with the same token, but the baselines force that token"
        else:
            first_token = self.scorer.model.tokenizer.decode([encoded[self.codes[0]][0]])
            text = self.start.before + self.verdict + self.start.between + first_token
            self.forced = ForcedPrefix(text, published_procedures.label_tokens(self._encode, self.codes))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.scorer.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @contextmanager
    def _plain_attention(self) -> Iterator[None]:
        """Runs the model with its own attention instead of that of the tree search."""
        network = self.scorer.model.runner.model  # type: ignore[attr-defined]
        network.set_attn_implementation("sdpa")
        try:
            yield
        finally:
            network.set_attn_implementation(ATTENTION)


class Remembered(CachedModel):
    """Remembers the probabilities after each prefix of a record: the procedures ask for the same ones repeatedly."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: Sequence[int]) -> None:
        super().__init__(model, tokenizer, end_ids)
        self._known: dict[tuple[int, ...], Tensor] = {}

    def next_probabilities(self, ids: Sequence[int], /) -> Tensor:
        """(vocabulary,): the next token's probabilities, with a forward pass only for new prefixes."""
        if tuple(ids) not in self._known:
            probabilities = super().next_probabilities(ids)
            if probabilities.isnan().any():
                raise ModelError("the model answered NaN", hint="try dtype float32")
            self._known[tuple(ids)] = probabilities
        return self._known[tuple(ids)]


@dataclass(frozen=True)
class AnswerStart:
    """How a guard's answers begin: the text `before` the verdict's word, the `verdict`, the text `between` it and the
    first code; and `safe_word`, the word in place of the verdict when no category applies."""

    before: str
    verdict: str
    between: str
    safe_word: str


def answer_start(guard: Guard) -> AnswerStart:
    """How the guard's answers begin. Raises InputError if they are not a verdict and label codes: the paper's
    procedures recognise nothing else."""
    for at, piece in located_pieces(guard.file.answer):
        if (kind := _beyond_the_paper(piece)) is not None:
            problem = f"its answers contain {{{kind}: …}}, which the paper's procedures cannot read"
            raise guard.refused(problem, "answer", *at, hint="use a guard such as llama-guard-3 or instruct")
    texts = [_texts(pieces) for pieces in guard.file.answer]
    safe_word = ["".join(map(_usual, pieces)) for pieces in guard.file.answer if _texts(pieces) is None]
    for before, verdict, between in (parts for parts in texts if parts is not None):
        others = [text.removeprefix(before) for text in safe_word if text.startswith(before) and text != before]
        if others:
            return AnswerStart(before, verdict, between, others[0])
    raise InputError(
        f"guard {guard.name}: its answers are not a verdict and a list of label codes, as the paper's procedures need",
        hint="use a guard such as llama-guard-3 or instruct",
    )


def _beyond_the_paper(piece: PieceSpec) -> str | None:
    """The key of a piece that is neither text, a verdict nor the one list of codes; None for the others."""
    if isinstance(piece, CodeList):
        return "rows" if piece.rows is not None else "implies" if piece.implies else None
    if isinstance(piece, Choice):
        return "any" if piece.has_sequences else None
    kinds = ((SpecialToken, "token"), (Levels, "levels"), (Integers, "integers"), (Optional, "optional"))
    return next((key for kind, key in kinds if isinstance(piece, kind)), None)


def _texts(pieces: Sequence[PieceSpec]) -> tuple[str, str, str] | None:
    """(text before the verdict, verdict, text between it and the codes) of an alternative in its usual form; None if it
    has no verdict with codes after it."""
    before, verdict, between = "", "", ""
    for piece in pieces:
        written = piece.any[0] if isinstance(piece, Choice) else piece
        if isinstance(written, VerdictWord):
            verdict = written.verdict
        elif isinstance(written, CodeList):
            return (before, verdict, between) if verdict else None
        elif isinstance(written, Word):
            return None
        elif verdict:
            between += _usual(piece)
        else:
            before += _usual(piece)
    return None


def _usual(piece: PieceSpec) -> str:
    """The text of a piece in its usual form: of several texts the first, and no optional white space."""
    written = piece.any[0] if isinstance(piece, Choice) else piece
    return written if isinstance(written, str) else ""
