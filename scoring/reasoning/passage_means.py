"""Means over sampled passages, with confidence sequences.

A confidence sequence is a confidence interval that remains valid when the number of samples depends on the samples, so
more passages may be drawn until the interval is narrow enough."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
BETS = np.linspace(0.05, 0.95, 19)  # shares of the capital that are bet, each with an equal part of it
STEPS = 30  # of bisection: the interval's ends are exact to 1e-9


def mean_interval(low: Floats, high: Floats, low_weight: Floats, high_weight: Floats) -> tuple[Floats, Floats, Floats]:
    """The mean of values over passages, with a 95 % confidence sequence for the mean over all possible passages.

    low, high: (passages, rows), the certified bounds of each passage's values, in 0–1. low_weight, high_weight:
    (passages,), the bounds of each passage's weight, in 0–1; the mean is Σ weight·value / Σ weight. With weights 1 it
    is the plain mean. Returns (probability, lower, upper), each (rows,); without any weight [0, 1].

    The sequence is a hedged capital process (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables
    by betting"): for a hypothetical mean r, equal parts of a capital are bet at fixed shares on the passages being
    above r (or below it), and r is outside once the capital has reached 2 / (1 − confidence). By Ville's inequality
    this is valid for passages that are drawn independently, whatever their distribution and whenever drawing stops."""
    middle, weight = (low + high) / 2, (low_weight + high_weight) / 2
    total = weight.sum()
    mean = weight @ middle / total if total > 0 else np.full(low.shape[1], 0.5)
    lower = _lower_end(low, low_weight, high_weight)
    upper = 1.0 - _lower_end(1.0 - high, low_weight, high_weight)
    lower, upper = np.minimum(lower, mean), np.maximum(upper, mean)
    return mean, lower, upper


def _lower_end(values: Floats, low_weight: Floats, high_weight: Floats) -> Floats:
    """(rows,): the largest mean that the passages rule out from below, by bisection."""
    rows = values.shape[1]
    outside, inside = np.zeros(rows), np.ones(rows)
    for _ in range(STEPS):
        tried = (outside + inside) / 2
        rejected = _ever_rejected(values, low_weight, high_weight, tried)
        outside, inside = np.where(rejected, tried, outside), np.where(rejected, inside, tried)
    return outside


def _ever_rejected(values: Floats, low_weight: Floats, high_weight: Floats, mean: Floats) -> npt.NDArray[np.bool_]:
    """(rows,): whether the bets that the mean is larger than `mean` ever multiplied the capital enough."""
    surplus = values - mean
    # the weight that is the least favourable to the bet, so that the bet is fair whatever the weights are
    weight = np.where(surplus > 0, low_weight[:, None], high_weight[:, None])
    gain = weight * surplus / np.maximum(mean, 1e-12)  # at least −1; its mean is at most 0 if the hypothesis is true
    wealth = np.cumsum(np.log1p(BETS[:, None, None] * gain), axis=1)
    capital = np.logaddexp.reduce(wealth, axis=0) - np.log(len(BETS))
    return np.asarray(capital.max(axis=0) >= np.log(2 / (1.0 - CONFIDENCE)))
