"""Expectation maximisation that runs until it has converged, for Dawid-Skene and MACE.

Plain EM gains less and less per round, so a rule that stops at a small gain stops early: posteriors were off by tens
of percent. SQUAREM (Varadhan & Roland 2008, scheme S3) extrapolates from two rounds to where they lead, and takes the
extrapolation only where it fits the answers at least as well, so that it ends where EM would, in fewer rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marginalia.annotation.gold.answer_arrays import Floats

SMALLEST = 1e-10  # of a parameter: all are probabilities, and none may rule out an answer
PLAIN = 20  # rounds before the first extrapolation, so that it starts in the valley that plain EM descends
STILL = 1e-7  # largest change of a posterior in one round at which a fit has converged


@dataclass(frozen=True)
class Round:
    """One EM round from given parameters: the posterior (R) and the objective under them, and the next parameters."""

    posterior: Floats
    objective: float
    parameters: Floats


@dataclass(frozen=True)
class Fit:
    posterior: Floats
    objective: float
    converged: bool


def converge(step: Callable[[Floats], Round], start: Floats, rounds: int) -> Fit:
    """Rounds from the parameters `start` (each in (0, 1)) until the posteriors stand still, or `rounds` are used up."""
    here = step(start)
    used = 1
    while used < rounds:
        before, parameters = here, here.parameters
        here = step(parameters)
        used += 1
        if np.abs(here.posterior - before.posterior).max() < STILL:
            return Fit(here.posterior, here.objective, True)
        if used < PLAIN or used + 1 >= rounds:
            continue
        after = step(here.parameters)
        jumped = step(_extrapolated(parameters, here.parameters, after.parameters))
        used += 2
        here = jumped if jumped.objective >= after.objective else after
    return Fit(here.posterior, here.objective, False)


def _extrapolated(first: Floats, second: Floats, third: Floats) -> Floats:
    change = second - first
    bend = (third - second) - change
    length = float(np.linalg.norm(bend))
    stride = max(1.0, float(np.linalg.norm(change)) / length) if length > 0 else 1.0
    found: Floats = np.clip(first + 2 * stride * change + stride**2 * bend, SMALLEST, 1 - SMALLEST)
    return found
