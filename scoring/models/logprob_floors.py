"""Finds placeholder log-probabilities (floors) in a server's answer, and distributions that the server truncated.

Many servers return -9999, -100 or -inf for every token outside their top few. Such a floor is not a measurement: the
token's mass is unknown and stays open. A server that applies top-k, top-p or min-p *before* it computes
log-probabilities is worse: its values are divided by the mass of the tokens it kept, so each is too high by an unknown
factor. Such answers are refused."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

# log-probabilities in nats
IMPOSSIBLE = -1000.0  # at or below it a value is always a placeholder
IMPLAUSIBLE = -50.0  # a value this low that several tokens share is a placeholder
LOW = math.log(1e-6)  # a value below it is a placeholder, not a tie of 16-bit logits, if a quarter share it
MANY_EQUAL = 5  # so many equal values, at least half of all, are not a tie
COMPLETE_WITHIN = 1e-4  # masses that add up to 1 within this are the whole distribution: servers round
UNSEEN_MASS = 1e-3  # by how much the missing mass must exceed what unseen tokens can have
LARGEST_EXPONENT = 700.0  # exp of more overflows
CUT_HINT = (
    "turn off top_k, top_p and min_p at the server (vLLM: --logprobs-mode raw_logprobs, --generation-config vllm; "
    "llama.cpp: --top-k 0 --top-p 1 --min-p 0, no post_sampling_probs), or for each request: "
    'extra_body: {"top_k": -1, "top_p": 1, "min_p": 0}'
)


@dataclass(frozen=True)
class Expected:
    """What a complete answer contains. `top`: the number of most probable tokens that were asked for; None if
    particular token ids were asked for. `vocabulary`: number of tokens of the model. `named`: whether the answer
    identifies tokens by id, so that no two tokens share an entry. `floor`: the floor that this server was seen to use,
    if any."""

    top: int | None
    vocabulary: int
    named: bool
    floor: float | None = None


@dataclass(frozen=True)
class AnswerCoverage:
    """What one answer covers. `floor`: values up to it are placeholders (None: there are none). `hides`: whether it has
    placeholders, or fewer tokens than were asked for. `complete`: whether the other values add up to 1 although they
    are not of all tokens. An answer that both hides and is complete comes from a distribution that was truncated."""

    floor: float | None
    hides: bool
    complete: bool


def coverage_of(values: Collection[float], expected: Expected) -> AnswerCoverage:
    """What the log-probabilities `values` (nats, at least one) of one answer cover."""
    floor = _floor(values, expected)
    measured = [value for value in values if floor is None or value > floor]
    placeholders = len(values) - len(measured)
    many = placeholders >= MANY_EQUAL and 2 * placeholders >= len(values)
    hides = floor is not None and (floor <= IMPLAUSIBLE or floor == expected.floor or (floor <= LOW and many))
    if expected.top is not None:
        # tokens with the same text share one entry: such a list may be somewhat shorter than what was asked for
        fewest = min(expected.top, expected.vocabulary)
        hides = hides or len(values) < (fewest if expected.named else fewest / 2)
    complete = abs(1.0 - _mass(measured)) <= COMPLETE_WITHIN and len(measured) < expected.vocabulary
    return AnswerCoverage(floor, hides, complete)


def _floor(values: Collection[float], expected: Expected) -> float | None:
    lowest = min(values)
    if expected.floor is not None and lowest <= expected.floor:
        return expected.floor
    if lowest <= IMPOSSIBLE:
        return max(value for value in values if value <= IMPOSSIBLE)
    shared = sum(value == lowest for value in values)
    if shared > 1 and lowest <= IMPLAUSIBLE:
        return lowest
    if shared > 1 and lowest <= LOW and 4 * shared >= len(values) and expected.top is not None:
        return lowest
    if expected.top is not None and len(values) >= expected.top:
        # if these were the most probable tokens, no other token could be more probable than the last of them
        last = sorted(values)[-expected.top]
        if 1.0 - _mass(values) > expected.vocabulary * math.exp(last) + UNSEEN_MASS:
            return last
    return None


def _mass(values: Collection[float]) -> float:
    return math.fsum(math.exp(min(value, LARGEST_EXPONENT)) for value in values)
