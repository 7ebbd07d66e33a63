"""The procedures and baselines of Praharaj & Kasundra, arXiv 2511.22312, step by step as published, faults included.

They serve to reproduce the paper's tables and to compare them with the exact marginal (docs/paper.md), and nothing
else. Known faults are marked with `fault:` where they occur. Labels are tested in the given order, "unsafe" first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from scipy.special import digamma, softmax
from torch import Tensor

from marginalia.scoring.language.token_language import Floats

TOP_P, EPS, THRESHOLD = 0.99, 0.01, 0.2  # for guards
INSTRUCT_TOP_P, INSTRUCT_THRESHOLD = 0.9, 0.3  # for the instruct model
GREEDY_TOKENS, TREE_TOKENS = 50, 20  # longest answer in tokens, of the greedy procedures and of `any_place`
SURE_END = 0.7  # after an end token with at least this probability the remaining siblings are skipped

Uncertainty = Literal["probability", "entropy", "LogTokU"]


class NextToken(Protocol):
    """What the procedures need of a model. Token ids always include the prompt."""

    end_ids: Collection[int]

    def next_probabilities(self, ids: Sequence[int], /) -> Any:
        """(vocabulary,): the next token's probabilities."""

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of these tokens, with control tokens written out."""


def token_probability(
    model: NextToken,
    prompt: Sequence[int],
    labels: Sequence[str],
    *,
    max_new_tokens: int = GREEDY_TOKENS,
    top_p: float = TOP_P,
) -> dict[str, float]:
    """Token probability: label → the probability of the step at which the greedy answer so far ends with the label."""
    # fault: a label that occurs twice has the probability of its last occurrence only
    return dict(_greedy_hits(model, prompt, labels, max_new_tokens, top_p))


def fixed_place(
    model: NextToken,
    prompt: Sequence[int],
    labels: Sequence[str],
    *,
    max_new_tokens: int = GREEDY_TOKENS,
    top_p: float = TOP_P,
) -> dict[str, float]:
    """Marginal probability at a fixed place: label → the product of the token probabilities of all hits up to it,
    "unsafe" included."""
    scores: dict[str, float] = {}
    product = 1.0
    for label, probability in _greedy_hits(model, prompt, labels, max_new_tokens, top_p):
        product *= probability  # fault: steps between the hits (the S, a comma) are left out
        scores[label] = product
    return scores


def greedy(
    model: NextToken, prompt: Sequence[int], labels: Sequence[str], *, max_new_tokens: int = GREEDY_TOKENS
) -> list[str]:
    """Greedy generation: the labels that the greedy answer ends with at some step, without "unsafe"."""
    hits = token_probability(model, prompt, labels, max_new_tokens=max_new_tokens)
    return [label for label in hits if label != "unsafe"]


@dataclass
class AnyPlace:
    """Label → score (a sum, which may exceed 1), and the prefixes visited, with one forward pass each."""

    scores: dict[str, float] = field(default_factory=dict)
    visited: list[tuple[int, ...]] = field(default_factory=list)


def any_place(
    model: NextToken,
    prompt: Sequence[int],
    labels: Sequence[str],
    *,
    top_p: float = TOP_P,
    eps: float = EPS,
    max_new_tokens: int = TREE_TOKENS,
) -> AnyPlace:
    """Marginal probability at any place: depth-first search over the nucleus (`top_p`) of each step, from the prompt
    on.

    A prefix of less probability than `eps` is not visited; its answer has at most `max_new_tokens` tokens. A label's
    score is the sum of the probabilities of all visited texts that end with it."""
    result = AnyPlace()

    def visit(answer: tuple[int, ...], mass: float) -> None:
        if mass < eps:  # checked on entering, so the step that led here has been scored
            return
        result.visited.append(answer)
        ids = [*prompt, *answer]
        probabilities = torch.as_tensor(model.next_probabilities(ids))
        kept = nucleus(model, probabilities, top_p)  # fault: the mass outside is lost silently
        ends_here = any(token in model.end_ids for _, token in kept)
        for rank, (probability, token) in enumerate(kept):
            text = model.decode([*ids, token])
            for label in labels:
                # fault: S1 is credited on the way to S10, and a repeated label is credited again
                if text.endswith(label):
                    result.scores[label] = result.scores.get(label, 0.0) + mass * probability
            if token in model.end_ids and probability >= SURE_END:
                break  # fault: the siblings after it lose their mass
            if ends_here and rank == 2:
                break  # fault: where the answer can end, so do those after the third, and the third is not visited
            if len(answer) < max_new_tokens and token not in model.end_ids:
                visit((*answer, token), mass * probability)

    visit((), 1.0)
    return result


def nucleus(model: NextToken, probabilities: Tensor, top_p: float) -> list[tuple[float, int]]:
    """(probability, token) by falling probability, up to and including the first at which the sum exceeds `top_p`."""
    order = torch.argsort(probabilities, descending=True)
    ordered = probabilities[order]
    last = int(torch.searchsorted(torch.cumsum(ordered, dim=-1), top_p, right=True))
    by_text: dict[str, tuple[float, int]] = {}
    for probability, token in zip(ordered[: last + 1].tolist(), order[: last + 1].tolist(), strict=True):
        # fault: ids with the same text (such as parts of a character) collide; the later replaces the first
        by_text[model.decode([token])] = (probability, token)
    return list(by_text.values())


def _greedy_hits(
    model: NextToken, prompt: Sequence[int], labels: Sequence[str], max_new_tokens: int, top_p: float
) -> list[tuple[str, float]]:
    """(label, probability of the step) for each step of the greedy answer after which the text ends with a label; if
    with several, the first of them."""
    hits: list[tuple[str, float]] = []
    generated, decoded = [*prompt], [*prompt]
    for _ in range(max_new_tokens):
        probabilities = torch.as_tensor(model.next_probabilities(generated))
        # fault: if a less probable id of the nucleus has the top one's text, it replaces the top one here
        probability, token = nucleus(model, probabilities, top_p)[0]
        decoded.append(token)
        text = model.decode(decoded)
        if (label := next((label for label in labels if text.endswith(label)), None)) is not None:
            hits.append((label, probability))  # fault: S1 on the way to S10 is a hit
        generated.append(int(probabilities.argmax()))
        if generated[-1] in model.end_ids:
            break
    return hits


def label_tokens(encode: Callable[[str], Sequence[int]], labels: Sequence[str]) -> dict[str, int]:
    """Label → the id of its second token. The baselines read its logit after forcing "unsafe", a line break and "S".

    fault: labels may share it (with SmolLM2, S1 and S10 to S14 do), and then always have equal logits."""
    return {label: encode(label)[1] for label in labels if label != "unsafe"}


def uncertainty(logits: Floats, kind: Uncertainty, *, k: int = 2) -> float:
    """The uncertainty u of one record's label logits (L,): small where the model is sure.

    probability: 1 / (max softmax + 1). entropy: that of the softmax, in nats. LogTokU: with α the `k` largest logits
    and α₀ their sum, [k / (Σ max(α, 0) + k)] / AU, AU = −Σ (α/α₀)(ψ(α + 1) − ψ(α₀ + 1)), ψ the digamma function."""
    if kind == "probability":
        return float(1.0 / (softmax(logits).max() + 1.0))
    if kind == "entropy":
        shares = softmax(logits)
        return float(-(shares * np.log(shares + 1e-10)).sum())  # nats
    top = np.sort(logits)[-k:]
    with np.errstate(all="ignore"):  # fault: logits are used as amounts of evidence, which cannot be negative
        total = top.sum()
        aleatoric = -(top / total * (digamma(top + 1) - digamma(total + 1))).sum()
        return float(k / (np.maximum(top, 0.0).sum() + k) / aleatoric)


def ranked(logits: dict[str, float]) -> list[str]:
    """Labels by falling logit. fault: of equal ones the last by name is first, so S14 before S1 with SmolLM2."""
    names = sorted(logits)
    order = np.argsort([logits[name] for name in names], kind="stable")[::-1]
    return [names[index] for index in order]


def choose_cut(logits: Sequence[dict[str, float]], truth: Sequence[Collection[str]], kind: Uncertainty) -> float:
    """The u up to which two labels are predicted: where the total gain of the second label, by rising u, is highest.

    fault: it is chosen on the records that it is then evaluated on."""
    records = sorted(
        ((_u(values, kind), ranked(values)[:2], gold) for values, gold in zip(logits, truth, strict=True)), key=_first
    )
    gains = [(1 if second in gold else -1) if first in gold else 0 for _, (first, second), gold in records]
    return float(records[int(np.argmax(np.cumsum(gains)))][0])


def cut_labels(logits: Sequence[dict[str, float]], cut: float, kind: Uncertainty) -> list[list[str]]:
    """The baselines' predictions: two labels where u ≤ `cut`, else one. fault: never none, never three."""
    return [ranked(values)[: 1 if _u(values, kind) > cut else 2] for values in logits]


def _u(logits: dict[str, float], kind: Uncertainty) -> float:
    return uncertainty(np.array([logits[name] for name in sorted(logits)]), kind)


def _first(record: tuple[float, list[str], Collection[str]]) -> float:
    return record[0]


class PlainModel:
    """A transformers model without a KV cache: each call is a forward pass over all tokens, as published.

    `forward_passes` counts the calls. Probabilities are a float32 softmax at temperature 1."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: Collection[int]) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.end_ids: Collection[int] = frozenset(end_ids)
        self.forward_passes = 0

    def next_logits(self, ids: Sequence[int]) -> Tensor:
        """(vocabulary,): the next token's logits in float32, on the CPU."""
        self.forward_passes += 1
        with torch.inference_mode():
            return self._logits(list(ids))

    def next_probabilities(self, ids: Sequence[int], /) -> Tensor:
        """(vocabulary,): the next token's probabilities."""
        return self.next_logits(ids).softmax(-1)

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of these tokens, with control tokens written out."""
        return str(self.tokenizer.decode(list(ids)))

    def _logits(self, ids: list[int]) -> Tensor:
        new = torch.tensor([ids], device=self.model.device)
        out = self.model(input_ids=new, use_cache=False, logits_to_keep=1)
        logits: Tensor = out.logits[0, -1].float().cpu()
        return logits


class CachedModel(PlainModel):
    """The same numbers with a KV cache: the tokens that a call shares with the previous call are not run again."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: Collection[int]) -> None:
        super().__init__(model, tokenizer, end_ids)
        self._cache: Any = None
        self._cached_ids: list[int] = []

    def _logits(self, ids: list[int]) -> Tensor:
        from transformers import DynamicCache

        shared = 0
        while shared < min(len(ids) - 1, len(self._cached_ids)) and ids[shared] == self._cached_ids[shared]:
            shared += 1
        if self._cache is None:
            self._cache = DynamicCache()
        else:
            self._cache.crop(shared - len(self._cached_ids))
        new = torch.tensor([ids[shared:]], device=self.model.device)
        out = self.model(input_ids=new, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cached_ids = ids
        logits: Tensor = out.logits[0, -1].float().cpu()
        return logits
