"""Values that stand for tokens which a server left out, and distributions that were cut before they were shown.

Many servers write -9999, -100 or -inf for every token outside their top few. Such a floor is no measurement: the token
was not looked at, and its mass stays open. A server that applies top-k, top-p or min-p *before* it computes
log-probabilities is worse: what it shows is divided by the mass of the tokens that were kept, so every value is too
high, by a factor that cannot be known. Its numbers are refused."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

NEVER = -1000.0  # nats: no model gives a token e^-1000
HIDDEN = -50.0  # no model's top few end so low, or in a value that several tokens share
FAINT = math.log(1e-6)  # above it, and in fewer than a quarter of the tokens, equal values may be ties of 16-bit logits
MANY = 5  # tokens, and half of all that are told: so many equal values are no tie
COMPLETE = 1e-4  # what shown masses may lack of 1, and be the whole distribution: servers round
CUT_HINT = (
    "turn off top_k, top_p and min_p at the server (vLLM: --logprobs-mode raw_logprobs, --generation-config vllm; "
    "llama.cpp: --top-k 0 --top-p 1 --min-p 0, no post_sampling_probs), or for each request: "
    'extra_body: {"top_k": -1, "top_p": 1, "min_p": 0}'
)


@dataclass(frozen=True)
class Expected:
    """What a full answer holds. `top`: tokens that were asked for, of a list of the most probable; None when ids were
    asked for by name. `vocabulary`: tokens of the model. `named`: whether the answer gives ids, so that no two tokens
    share an entry. `floor`: the one that the server was seen to use."""

    top: int | None
    vocabulary: int
    named: bool
    floor: float | None = None


@dataclass(frozen=True)
class Shown:
    """`floor`: values up to it are no measurements (None: there are none). `hides`: whether the answer leaves out
    tokens that a server of raw log-probabilities would have told. `complete`: whether what it does tell is a whole
    distribution, and so one that was cut if it `hides`."""

    floor: float | None
    hides: bool
    complete: bool


def shown(values: Collection[float], expected: Expected) -> Shown:
    """What the log-probabilities `values` (nats) of one answer say of the tokens that are not among them."""
    floor = _floor(values, expected)
    told = [value for value in values if floor is None or value > floor]
    low = len(values) - len(told)
    many = low >= MANY and 2 * low >= len(values)
    hides = floor is not None and (floor <= HIDDEN or floor == expected.floor or (floor <= FAINT and many))
    if expected.top is not None:
        # texts that several tokens share are one entry: such a list may be a little shorter than what was asked for
        fewest = min(expected.top, expected.vocabulary)
        hides = hides or len(values) < (fewest if expected.named else fewest / 2)
    return Shown(floor, hides, abs(1.0 - _mass(told)) <= COMPLETE and len(told) < expected.vocabulary)


def _floor(values: Collection[float], expected: Expected) -> float | None:
    lowest = min(values)
    if expected.floor is not None and lowest <= expected.floor:
        return expected.floor
    if lowest <= NEVER:
        return max(value for value in values if value <= NEVER)
    shared = sum(value == lowest for value in values)
    if shared > 1 and lowest <= HIDDEN:
        return lowest
    if shared > 1 and lowest <= FAINT and 4 * shared >= len(values) and expected.top is not None:
        return lowest
    if expected.top is not None and len(values) >= expected.top:
        # were these the most probable tokens, no other could be more probable than the last of them
        last = sorted(values)[-expected.top]
        if 1.0 - _mass(values) > expected.vocabulary * math.exp(last) + 1e-3:
            return last
    return None


def _mass(values: Collection[float]) -> float:
    return math.fsum(math.exp(min(value, 700.0)) for value in values)
