"""Servers whose answers to one question differ: the bounds are wider by what that can change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marginalia.schemas.retries import RetryPolicy
from marginalia.scoring.marginal.answer_search import MARGINALS, NextTokens, Node
from marginalia.scoring.models.completions_api import TokenAnswer
from marginalia.scoring.models.repeated_answers import Spread, spread_between
from marginalia.scoring.score_files import origin_of
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.scoring.endpoint.served import RECORDS, by_id
from tests.scoring.hashed import HashedModel
from tests.scoring.test_enumeration import VOCABULARIES, made, scored

FINE = Settings(tolerance=1e-4, node_budget=2000)


@pytest.mark.parametrize(
    "server", [{"jitter": 0.02}, {"jitter": 0.2}, {"noise": -0.05, "latency": 0.002}], ids=lambda server: str(server)
)
@pytest.mark.parametrize("asked", [{"asked_ids": True}, {}], ids=["ids", "top"])
def test_the_true_values_are_within_the_bounds(
    remote: Any, truth: dict[str, Result], server: dict[str, Any], asked: dict[str, Any]
) -> None:
    _, scorer = remote(FINE, {**server, **asked})
    narrow = 0
    for record_id, found in by_id(scorer.score_records(RECORDS)).items():
        assert found.error is None
        for name in MARGINALS:
            wanted, bounds = truth[record_id].estimates[name].probability, found.estimates[name]
            assert (bounds.lower <= wanted + 1e-6).all() and (bounds.upper >= wanted - 1e-6).all(), (record_id, name)
            assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all()
            narrow += int((np.abs(bounds.probability - wanted) > FINE.tolerance).sum())
    assert narrow > 0, "without the spread some would be outside"
    assert scorer.model.spread is not None and scorer.model.spread >= max(server.get("jitter", 0), 0.05) * 0.5


def test_a_server_that_always_says_the_same_costs_no_width(remote: Any) -> None:
    server, scorer = remote(FINE, {"asked_ids": True})
    found = by_id(scorer.score_records(RECORDS))
    assert scorer.model.spread == 0.0
    assert max(
        (each.estimates["marginal"].upper - each.estimates["marginal"].lower).max() for each in found.values()
    ) < (FINE.tolerance + 1e-9)
    asked = [str(body) for body in server.requests]
    assert sum(asked.count(one) == 3 for one in set(asked)) == len(RECORDS)  # each one's first question
    assert len(asked) == len(set(asked)) + 2 * len(RECORDS)


def test_what_was_measured_is_noted(remote: Any) -> None:
    _, scorer = remote(Settings(tolerance=0.1), {"jitter": 0.02, "asked_ids": True})
    assert "the variation was not measured and is not included in the bounds" in origin_of(scorer).notes[0]
    list(scorer.score_records(RECORDS))
    (note,) = [note for note in origin_of(scorer).notes if "vary with its batching" in note]
    assert f"(up to {scorer.model.spread:.2g} nats in 10 repeated questions)" in note
    assert "the bounds include this" in note


def test_a_server_that_varies_more_later(remote: Any) -> None:
    """Questions of the first batch are asked again as the run goes on; later answers get the larger spread."""
    server, scorer = remote(Settings(tolerance=1e-3), {"asked_ids": True})
    assert scorer.score("hello") and scorer.model.spread == 0.0
    server.jitter = 0.05
    scorer.model.repeats._batches = 63
    list(scorer.score_records(RECORDS[:1]))
    assert 0 < scorer.model.spread <= 0.2
    assert "those of the first records only 0 nats per token: later answers varied more" in scorer.model.notes[0]


def test_questions_that_are_asked_again_fail_nothing(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.scoring.models.endpoint_calls.POLICY", RetryPolicy(first_backoff=0.001))
    server, scorer = remote(Settings(tolerance=0.1), {"asked_ids": True}, retries=0, timeout_seconds=30)
    real, asked = server.complete, set()

    def once(body: dict[str, Any]) -> dict[str, Any]:
        if str(body) in asked:
            raise RuntimeError("asked before")
        asked.add(str(body))
        return dict(real(body))

    monkeypatch.setattr(server, "complete", once)
    assert all(found.error is None for found in scorer.score_records(RECORDS))
    assert scorer.model.spread is None and "was not measured" in scorer.model.notes[0]


def test_how_far_two_answers_are_apart() -> None:
    def told(*values: float) -> TokenAnswer:
        return TokenAnswer(dict(enumerate(values)), {}, None, None)

    one = told(math.log(0.6), math.log(0.3), -9999.0, math.log(1e-9))
    other = told(math.log(0.61), math.log(0.29), math.log(0.1), math.log(1e-8))
    found = spread_between(one, other)
    assert found is not None and found.nats == pytest.approx(math.log(0.3 / 0.29))  # no floor, no crumb
    assert found.stray == 0.0
    # what does not add up to 1 cannot be told by a factor
    assert spread_between(told(math.log(0.9)), told(math.log(0.9) - 0.2)) == Spread(
        pytest.approx(0.2), pytest.approx(0.9 * (1 - math.exp(-0.2)) - math.expm1(0.2) * 0.1)
    )
    assert spread_between(told(-1.0), TokenAnswer({}, {"x": -1.0}, None, None)) is None


@dataclass
class Jittered(HashedModel):
    """As `truth`, each logit off by up to `nats`, which its answers admit."""

    truth: HashedModel | None = None
    nats: float = 0.1

    def log_probabilities(self, path: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
        assert self.truth is not None
        values = self.truth.log_probabilities(path)
        draw = np.random.default_rng([*path, 7])
        values = values + self.nats * draw.uniform(-1, 1, len(values))
        return values - np.log(np.exp(values).sum())

    def source(self) -> Any:
        source = super().source()
        real = source.open
        source.open = lambda *arguments: _Admitting(real(*arguments), 2 * self.nats)
        return source


@dataclass
class _Admitting:
    batch: Any
    spread: float

    def join(self, place: int, prompt: list[int], *, continues: bool = False) -> None:
        self.batch.join(place, prompt)

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> list[NextTokens]:
        return [replace(found, spread=self.spread) for found in self.batch.next_tokens(nodes)]


@pytest.mark.parametrize("nats", [1e-3, 0.05])
@pytest.mark.parametrize(
    "name", ["codes that start like others", "words", "an end that may follow or not", "text after the codes"]
)
def test_bounds_hold_for_every_model_within_the_spread(tmp_path: Path, name: str, nats: float) -> None:
    """Against enumeration of the true model, the search having seen another one."""
    exact, enumeration = made(tmp_path, name, VOCABULARIES["merges"], seed=3)
    truth, drawn = enumeration.run(), exact.model
    assert isinstance(drawn, HashedModel)
    seen = Jittered(drawn.vocabulary, drawn.seed, drawn.favoured, truth=drawn, nats=nats)
    scorer = Scorer(seen, exact.guard)
    widest, moved = 0.0, 0.0
    for budget in (1, 3, 10, 10**6):
        found = scored(scorer, tolerance=0, node_budget=budget)
        for estimator in MARGINALS:
            bounds = found.estimates[estimator]
            assert (bounds.lower <= truth[estimator] + 1e-9).all(), (estimator, budget)
            assert (bounds.upper >= truth[estimator] - 1e-9).all(), (estimator, budget)
            assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all()
            if budget == 10**6:
                widest = max(widest, float((bounds.upper - bounds.lower).max()))
                moved = max(moved, float(np.abs(bounds.probability - truth[estimator]).max()))
    assert moved > 0.02 * nats, "the models differ"
    assert widest < 60 * nats, "and the bounds are not the whole range"
