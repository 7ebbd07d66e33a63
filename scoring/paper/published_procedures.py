"""The procedures and baselines of [TLM] (Praharaj & Kasundra, arXiv 2511.22312) step for step, faults included.

For reproducing that paper's tables and for comparing with the exact marginal (docs/paper.md); nothing else uses it.
Its known faults are named where they happen, as `fault:`. Labels are tested in the order given, "unsafe" first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from scipy.special import digamma, softmax
from torch import Tensor

from marginalia.scoring.language.token_language import Floats

TOP_P, EPS, THRESHOLD = 0.99, 0.01, 0.2  # of the guards
INSTRUCT_TOP_P, INSTRUCT_THRESHOLD = 0.9, 0.3  # of the instruct model
GREEDY_TOKENS, TREE_TOKENS = 50, 20  # longest answer, of the greedy procedures and of any place
SURE_END = 0.7  # an end of sequence this probable ends its siblings

Uncertainty = Literal["probability", "entropy", "LogTokU"]


class NextToken(Protocol):
    """A model as the procedures see it: token ids in, prompt included."""

    end_ids: Collection[int]

    def next_probabilities(self, ids: Sequence[int], /) -> Any:
        """Probabilities of the next token: 1-D, one for each id of the vocabulary."""

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of these tokens, control tokens spelt out."""


def token_probability(
    model: NextToken,
    prompt: Sequence[int],
    labels: Sequence[str],
    *,
    max_new_tokens: int = GREEDY_TOKENS,
    top_p: float = TOP_P,
) -> dict[str, float]:
    """Token probability: of each label that the greedy answer comes to end with, that step's probability."""
    # fault: a label written twice has the probability of its last time only
    return dict(_greedy_hits(model, prompt, labels, max_new_tokens, top_p))


def fixed_place(
    model: NextToken,
    prompt: Sequence[int],
    labels: Sequence[str],
    *,
    max_new_tokens: int = GREEDY_TOKENS,
    top_p: float = TOP_P,
) -> dict[str, float]:
    """Marginal probability at a fixed place: the running product of the hits' probabilities, "unsafe" included."""
    found: dict[str, float] = {}
    product = 1.0
    for label, probability in _greedy_hits(model, prompt, labels, max_new_tokens, top_p):
        product *= probability  # fault: steps between the hits (the S, a comma) are left out
        found[label] = product
    return found


def greedy(
    model: NextToken, prompt: Sequence[int], labels: Sequence[str], *, max_new_tokens: int = GREEDY_TOKENS
) -> list[str]:
    """Greedy generation: the labels that the greedy answer comes to end with, without "unsafe"."""
    found = token_probability(model, prompt, labels, max_new_tokens=max_new_tokens)
    return [label for label in found if label != "unsafe"]


@dataclass
class AnyPlace:
    """Scores by label (sums, which may exceed 1), and the prefixes that were evaluated, one forward pass each."""

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
    """Marginal probability at any place: depth-first over the nucleus of each step from the prompt on."""
    found = AnyPlace()

    def visit(answer: tuple[int, ...], mass: float) -> None:
        if mass < eps:  # on entering: the step that led here has been scored
            return
        found.visited.append(answer)
        ids = [*prompt, *answer]
        probabilities = torch.as_tensor(model.next_probabilities(ids))
        kept = nucleus(model, probabilities, top_p)  # fault: the mass outside is lost, and nobody is told
        ends_here = any(token in model.end_ids for _, token in kept)
        for rank, (probability, token) in enumerate(kept):
            text = model.decode([*ids, token])
            for label in labels:
                # fault: S1 is credited on the way to S10, and a label once more each time it is repeated
                if text.endswith(label):
                    found.scores[label] = found.scores.get(label, 0.0) + mass * probability
            if token in model.end_ids and probability >= SURE_END:
                break  # fault: the siblings after it lose their mass
            if ends_here and rank == 2:
                break  # fault: so do those after the third where the answer might end; the third is not followed
            if len(answer) < max_new_tokens and token not in model.end_ids:
                visit((*answer, token), mass * probability)

    visit((), 1.0)
    return found


def nucleus(model: NextToken, probabilities: Tensor, top_p: float) -> list[tuple[float, int]]:
    """(probability, token) by falling probability, up to and with the first where the sum exceeds `top_p`."""
    order = torch.argsort(probabilities, descending=True)
    ordered = probabilities[order]
    last = int(torch.searchsorted(torch.cumsum(ordered, dim=-1), top_p, right=True))
    by_text: dict[str, tuple[float, int]] = {}
    for probability, token in zip(ordered[: last + 1].tolist(), order[: last + 1].tolist(), strict=True):
        # fault: ids of the same text (parts of a character, say) collide; the later wins, in the first one's place
        by_text[model.decode([token])] = (probability, token)
    return list(by_text.values())


def _greedy_hits(
    model: NextToken, prompt: Sequence[int], labels: Sequence[str], max_new_tokens: int, top_p: float
) -> list[tuple[str, float]]:
    """(label, probability of the step) each time the text ends with a label; the first that fits only."""
    hits: list[tuple[str, float]] = []
    generated, shown = [*prompt], [*prompt]
    for _ in range(max_new_tokens):
        probabilities = torch.as_tensor(model.next_probabilities(generated))
        # fault: where a less probable id of the nucleus has the top one's text, it stands in for it
        probability, token = nucleus(model, probabilities, top_p)[0]
        shown.append(token)
        text = model.decode(shown)
        if (label := next((label for label in labels if text.endswith(label)), None)) is not None:
            hits.append((label, probability))  # fault: S1 on the way to S10 is a hit, too
        generated.append(int(probabilities.argmax()))
        if generated[-1] in model.end_ids:
            break
    return hits


def label_tokens(encode: Callable[[str], Sequence[int]], labels: Sequence[str]) -> dict[str, int]:
    """Each label's second token, whose logit the baselines read after a forced "unsafe\\nS".

    fault: labels may share it (on SmolLM2, S1 and S10 to S14 do), and then have equal logits always."""
    return {label: encode(label)[1] for label in labels if label != "unsafe"}


def uncertainty(logits: Floats, kind: Uncertainty, *, k: int = 2) -> float:
    """U of one record's label logits: small where the model is sure. `k`: logits that LogTokU looks at."""
    if kind == "probability":
        return float(1.0 / (softmax(logits).max() + 1.0))
    if kind == "entropy":
        shares = softmax(logits)
        return float(-(shares * np.log(shares + 1e-10)).sum())  # nats
    top = np.sort(logits)[-k:]
    with np.errstate(all="ignore"):  # fault: logits stand for counts of evidence, which negative ones cannot be
        total = top.sum()
        aleatoric = -(top / total * (digamma(top + 1) - digamma(total + 1))).sum()
        return float(k / (np.maximum(top, 0.0).sum() + k) / aleatoric)


def ranked(logits: dict[str, float]) -> list[str]:
    """Labels by falling logit. fault: of equal ones the last by name comes first, so S14 before S1 on SmolLM2."""
    names = sorted(logits)
    order = np.argsort([logits[name] for name in names], kind="stable")[::-1]
    return [names[index] for index in order]


def choose_cut(logits: Sequence[dict[str, float]], truth: Sequence[Collection[str]], kind: Uncertainty) -> float:
    """The u up to which two labels are predicted: where the gain of the second one, summed by rising u, first peaks.

    fault: it is chosen on the records that it is then judged on."""
    records = sorted(
        ((_u(one, kind), ranked(one)[:2], right) for one, right in zip(logits, truth, strict=True)), key=_first
    )
    gains = [(1 if second in right else -1) if first in right else 0 for _, (first, second), right in records]
    return float(records[int(np.argmax(np.cumsum(gains)))][0])


def cut_labels(logits: Sequence[dict[str, float]], cut: float, kind: Uncertainty) -> list[list[str]]:
    """The baselines' predictions: two labels where u ≤ `cut`, else one. fault: never none, never three."""
    return [ranked(one)[: 1 if _u(one, kind) > cut else 2] for one in logits]


def _u(logits: dict[str, float], kind: Uncertainty) -> float:
    return uncertainty(np.array([logits[name] for name in sorted(logits)]), kind)


def _first(record: tuple[float, list[str], Collection[str]]) -> float:
    return record[0]


class PlainModel:
    """A transformers model without a cache: each call is a forward pass over all the tokens, as published.

    `forward_passes` counts them. Probabilities are a float32 softmax at temperature 1."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: Collection[int]) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.end_ids: Collection[int] = frozenset(end_ids)
        self.forward_passes = 0

    def next_logits(self, ids: Sequence[int]) -> Tensor:
        self.forward_passes += 1
        with torch.inference_mode():
            return self._logits(list(ids))

    def next_probabilities(self, ids: Sequence[int], /) -> Tensor:
        return self.next_logits(ids).softmax(-1)

    def decode(self, ids: Sequence[int], /) -> str:
        return str(self.tokenizer.decode(list(ids)))

    def _logits(self, ids: list[int]) -> Tensor:
        new = torch.tensor([ids], device=self.model.device)
        out = self.model(input_ids=new, use_cache=False, logits_to_keep=1)
        logits: Tensor = out.logits[0, -1].float().cpu()
        return logits


class CachedModel(PlainModel):
    """The same numbers from one key-value cache: what a call shares with the one before it is not run again."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: Collection[int]) -> None:
        super().__init__(model, tokenizer, end_ids)
        self._cache: Any = None
        self._held: list[int] = []

    def _logits(self, ids: list[int]) -> Tensor:
        from transformers import DynamicCache

        same = 0
        while same < min(len(ids) - 1, len(self._held)) and ids[same] == self._held[same]:
            same += 1
        if self._cache is None:
            self._cache = DynamicCache()
        else:
            self._cache.crop(same - len(self._held))
        new = torch.tensor([ids[same:]], device=self.model.device)
        out = self.model(input_ids=new, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._held = ids
        logits: Tensor = out.logits[0, -1].float().cpu()
        return logits
