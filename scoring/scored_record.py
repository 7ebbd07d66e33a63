"""The result of scoring one record: estimates, the guard's own answer, and costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

from marginalia.scoring.marginal.estimators import LabelEstimates


class Probability(NamedTuple):
    """A label's probability with its certified bounds; None for a label of which only the bounds are known."""

    probability: float | None
    lower: float
    upper: float


class Level(NamedTuple):
    """The expected level, or the expected integer, of a guard's answers, with its certified bounds."""

    expected: float
    lower: float
    upper: float


class LevelEntry(TypedDict):
    """The same by one estimator, as a row of the column `levels` of scores/GUARD.records.parquet. `name`: of the piece
    in the guard file."""

    name: str
    estimator: str
    expected: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Result:
    """One scored record.

    `estimates`: by estimator, with NaN for the probability of a label with only bounds; empty for a record that could
    not be scored, for which `error` says why, and `is_temporary` whether another attempt may succeed. `answer` is the
    greedy answer and `predicted` the labels it completes; `off_language` and `unexplored` are the masses outside the
    guard's format and not searched (0–1). `nodes` counts evaluated prefixes; `seconds` is the record's share, by
    tokens, of its forward passes; `stopped` says why the search ended; `imitations` counts control tokens that the
    record's text spelt out; `levels`: of guards whose answers have levels or integers, by each marginal that was
    computed."""

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
    levels: list[LevelEntry] | None = None
    error: str | None = None
    is_temporary: bool = False
