"""Expectation maximisation that runs until it has converged, for Dawid-Skene and MACE.

Plain EM gains less and less per round, so a rule that stops at a small gain stops too early, with posteriors that are
off by tens of percentage points. SQUAREM (Varadhan & Roland 2008, scheme S3) extrapolates from two rounds, and keeps
the extrapolation only where its objective is at least as high: it ends where EM would, in fewer rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marginalia.annotation.gold.votes import Floats

SMALLEST = 1e-10  # smallest parameter: all are probabilities, and none may make an answer impossible
PLAIN_ROUNDS = 20  # before the first extrapolation, so that it converges to the same maximum as plain EM
TOLERANCE = 1e-7  # a fit has converged when no posterior changes more than this in a round


@dataclass(frozen=True)
class Round:
    """One EM round from given parameters: the posterior (R) and the objective under them, and the next parameters."""

    posterior: Floats
    objective: float
    parameters: Floats


@dataclass(frozen=True)
class Fit:
    """The result for one label: each record's `posterior` probability (R), the `objective` (log-likelihood plus log
    prior, nats), and whether the fit `converged`."""

    posterior: Floats
    objective: float
    converged: bool


def converge(step: Callable[[Floats], Round], start: Floats, rounds: int) -> Fit:
    """Runs `step` from the parameters `start` (each in (0, 1)) until the posteriors no longer change, or `rounds` calls
    were made."""
    current = step(start)
    used = 1
    while used < rounds:
        before, parameters = current, current.parameters
        current = step(parameters)
        used += 1
        if np.abs(current.posterior - before.posterior).max() < TOLERANCE:
            return Fit(current.posterior, current.objective, True)
        if used < PLAIN_ROUNDS or used + 1 >= rounds:
            continue
        after = step(current.parameters)
        jumped = step(_extrapolated(parameters, current.parameters, after.parameters))
        used += 2
        current = jumped if jumped.objective >= after.objective else after
    return Fit(current.posterior, current.objective, False)


def _extrapolated(first: Floats, second: Floats, third: Floats) -> Floats:
    """SQUAREM's next parameters from three successive ones: r, v and alpha in the paper are `change`, `curvature` and
    `-step_length`."""
    change = second - first
    curvature = (third - second) - change
    norm = float(np.linalg.norm(curvature))
    step_length = max(1.0, float(np.linalg.norm(change)) / norm) if norm > 0 else 1.0
    extrapolated = first + 2 * step_length * change + step_length**2 * curvature
    clipped: Floats = np.clip(extrapolated, SMALLEST, 1 - SMALLEST)
    return clipped
