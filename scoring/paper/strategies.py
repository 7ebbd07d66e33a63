"""The seven strategies of [TLM]'s table (Praharaj & Kasundra, arXiv 2511.22312) for records of one guard and model.

The procedures themselves are in scoring/paper/published_procedures.py. Here stands what they need of a guard: the words
they test the answer for, and the text that is forced before the baselines look at the labels' tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import content_hash
from marginalia.scoring.guard import Choice, CodeList, Guard, PieceSpec, VerdictWord, Word
from marginalia.scoring.models.prefix_tree import ATTENTION
from marginalia.scoring.paper import published_procedures
from marginalia.scoring.paper.published_procedures import CachedModel
from marginalia.scoring.scorer import Scorer

SCORES = ("token_probability", "fixed_place", "any_place")
BASELINES: tuple[published_procedures.Uncertainty, ...] = ("probability", "entropy", "LogTokU")
STRATEGIES = ("greedy", *BASELINES, *SCORES)  # in the order of the published table

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Forced:
    """What is written into the model's mouth before the baselines read the labels' logits: `unsafe`, a line break and
    what all codes begin with (`S`). `tokens`: code → its second token."""

    text: str
    tokens: dict[str, int]

    @property
    def shared(self) -> list[list[str]]:
        """Groups of codes with the same second token: the baselines cannot tell them apart."""
        groups: dict[int, list[str]] = {}
        for code, token in self.tokens.items():
            groups.setdefault(token, []).append(code)
        return [codes for codes in groups.values() if len(codes) > 1]


class Strategies:
    """The published procedures over one scorer's model, guard and prompts. `forced` is None, and `why_not` says why,
    where the codes of the guard are not of the form that the baselines need.

    For models on this machine. Raises InputError for guards whose answer is not a verdict and a list of codes."""

    def __init__(self, scorer: Scorer, *, top_p: float, eps: float) -> None:
        self.scorer, self.top_p, self.eps = scorer, top_p, eps
        self.start = answer_start(scorer.guard)
        self.verdict = self.start.verdict
        self.codes = [category.code for category in scorer.guard.categories]
        self.forced: Forced | None = None
        self.why_not: str | None = None
        self._find_forced()

    def run(self, records: Iterable[tuple[str, Messages]]) -> Iterator[dict[str, Any]]:
        """One entry a record, ready for a journal: `greedy` (codes), the scores by code, `logits` of the codes and
        `flagged` (whether the verdict's first token beats the other verdict's; for the baselines), passes, seconds."""
        fingerprint = self.fingerprint
        for record_id, messages in records:
            entry = {"id": record_id, "key": content_hash([fingerprint, list(messages)]), "error": None}
            ids = self.scorer.prompts.build(messages).ids
            if len(ids) + published_procedures.GREEDY_TOKENS > self.scorer.model.context:
                yield {**entry, "error": f"too long: a prompt of {len(ids)} tokens"}
                continue
            started = time.perf_counter()
            with self._plain_attention():
                found = self._one(ids)
            yield {**entry, **found, "seconds": round(time.perf_counter() - started, 4)}

    @property
    def fingerprint(self) -> str:
        """Hash of what the numbers depend on."""
        guard = self.scorer.guard
        return content_hash(
            {
                "model": self.scorer.model.identity,
                "guard": guard.file.model_dump(mode="json"),
                "categories": [vars(category) for category in guard.categories],
                "limits": [self.top_p, self.eps],
            }
        )

    def _one(self, ids: list[int]) -> dict[str, Any]:
        model = self.scorer.model
        cached = Remembered(model.runner.model, model.tokenizer, model.end_ids)  # type: ignore[attr-defined]
        labels = [self.verdict, *self.codes]
        tree = published_procedures.any_place(cached, ids, labels, top_p=self.top_p, eps=self.eps)
        after_tree = cached.forward_passes
        step = published_procedures.token_probability(cached, ids, labels, top_p=self.top_p)
        found: dict[str, Any] = {
            "greedy": [code for code in step if code != self.verdict],
            "token_probability": step,
            "fixed_place": published_procedures.fixed_place(cached, ids, labels, top_p=self.top_p),
            "any_place": tree.scores,
            "passes": len(tree.visited),
            "greedy_passes": cached.forward_passes - after_tree,
        }
        if self.forced is not None:
            logits = cached.next_logits([*ids, *self._encode(self.forced.text)])
            found["logits"] = {code: float(logits[token]) for code, token in self.forced.tokens.items()}
            start = cached.next_logits([*ids, *self._encode(self.start.before)])
            yes, no = (self._encode(word)[0] for word in (self.verdict, self.start.otherwise))
            found["flagged"] = bool(start[yes] > start[no])
        return found

    def _find_forced(self) -> None:
        encoded = {code: self._encode(code) for code in self.codes}
        if short := next((code for code, ids in encoded.items() if len(ids) < 2), None):
            self.why_not = f"the code {short} is one token; the baselines read the second token of each"
        elif len({ids[0] for ids in encoded.values()}) > 1:
            self.why_not = "the codes do not all begin with the same token, which the baselines force"
        else:
            same = self.scorer.model.tokenizer.decode([encoded[self.codes[0]][0]])
            text = self.start.before + self.verdict + self.start.between + same
            self.forced = Forced(text, published_procedures.label_tokens(self._encode, self.codes))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.scorer.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @contextmanager
    def _plain_attention(self) -> Iterator[None]:
        """The model with its own attention in place of the tree search's."""
        network = self.scorer.model.runner.model  # type: ignore[attr-defined]
        network.set_attn_implementation("sdpa")
        try:
            yield
        finally:
            network.set_attn_implementation(ATTENTION)


class Remembered(CachedModel):
    """Answers again without a pass what it was asked before: the procedures share prefixes of one record."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: Sequence[int]) -> None:
        super().__init__(model, tokenizer, end_ids)
        self._known: dict[tuple[int, ...], Tensor] = {}

    def next_probabilities(self, ids: Sequence[int], /) -> Tensor:
        if tuple(ids) not in self._known:
            self._known[tuple(ids)] = super().next_probabilities(ids)
        return self._known[tuple(ids)]


@dataclass(frozen=True)
class AnswerStart:
    """`before` the verdict's word, the `verdict`, what stands `between` it and the first code; and what stands in the
    verdict's place (`otherwise`) when no category applies."""

    before: str
    verdict: str
    between: str
    otherwise: str


def answer_start(guard: Guard) -> AnswerStart:
    """How the guard's answers begin. Raises InputError when they are not a verdict and label codes, for which alone
    the paper's procedures test."""
    texts = [_texts(pieces) for pieces in guard.file.answer]
    otherwise = ["".join(map(_usual, pieces)) for pieces in guard.file.answer if _texts(pieces) is None]
    for before, verdict, between in (found for found in texts if found is not None):
        others = [text.removeprefix(before) for text in otherwise if text.startswith(before) and text != before]
        if others:
            return AnswerStart(before, verdict, between, others[0])
    raise InputError(
        f"guard {guard.name}: the paper's procedures read a verdict and a list of label codes; its answers are others",
        hint="take a guard such as llama-guard-3 or instruct",
    )


def _texts(pieces: Sequence[PieceSpec]) -> tuple[str, str, str] | None:
    """(before the verdict, verdict, between it and the codes) of one alternative as it is usually written."""
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
    """The text of a piece as it is usually written: of several texts the first, and no optional white space."""
    written = piece.any[0] if isinstance(piece, Choice) else piece
    return written if isinstance(written, str) else ""
