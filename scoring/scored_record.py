"""What scoring one record gives: its estimates, the guard's own answer, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from marginalia.scoring.marginal.estimators import LabelEstimates


class Probability(NamedTuple):
    """A label's probability with its certified bounds."""

    probability: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Result:
    """One scored record; `estimates` is empty and `error` says why when it could not be scored, `passing` that it may
    be at another time.

    `seconds` is the record's share, by tokens, of the passes that it took part in."""

    record_id: str
    estimates: dict[str, LabelEstimates] = field(default_factory=dict)
    answer: str | None = None
    predicted: list[str] | None = None
    off_language: float | None = None
    unexplored: float | None = None
    nodes: int = 0
    forward_passes: int = 0
    seconds: float = 0.0
    stopped: str = ""
    imitations: int = 0
    error: str | None = None
    passing: bool = False
