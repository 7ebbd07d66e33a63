"""Servers that write a floor value for what they leave out, or cut the distribution before they tell it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marginalia.schemas.errors import ModelError, ServiceError
from marginalia.scoring.models.completions_api import RequestFormat, TokenAnswer, next_tokens
from marginalia.scoring.score_request import ESTIMATOR_NAMES
from marginalia.scoring.scorer import Result, Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import EXACT, RECORDS, connect

KEEPS = (1, 2, 3, 6)
TRUNCATED = "the distribution was truncated before its log-probabilities were computed"


def check(found: Result, wanted: Result) -> float:
    """Every true value is within the bounds; how far apart these are at most."""
    assert found.error is None
    for name in ESTIMATOR_NAMES:
        truth, bounds = wanted.estimates[name].probability, found.estimates[name]
        assert (bounds.lower <= truth + 1e-5).all() and (bounds.upper >= truth - 1e-5).all(), name
    return float(max((each.upper - each.lower).max() for each in found.estimates.values()))


@pytest.mark.parametrize("floor", [-9999.0, -100.0, None, -3.4028234663852886e38], ids=str)
@pytest.mark.parametrize("form", [{}, {"form": "llama.cpp"}, {"token_ids": False}], ids=str)
def test_a_token_shown_with_a_floor_value_was_not_seen(
    remote: Any, truth: dict[str, Result], floor: float | None, form: dict[str, Any]
) -> None:
    """None of them is taken as impossible, and none that is left as certain."""
    widths = []
    for keeps in KEEPS:
        _, scorer = remote(EXACT, {"keeps": keeps, "floor": floor, **form})
        (found,) = scorer.score_records([RECORDS[0]])
        widths.append(check(found, truth["r0"]))
        assert any("leaves out all but a few of the tokens" in note for note in scorer.model.notes)
    assert widths[0] > 0.01 and widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("floor", [-9999.0, -20.7], ids=str)
def test_tokens_that_are_asked_for_by_their_ids(remote: Any, truth: dict[str, Result], floor: float) -> None:
    _, scorer = remote(EXACT, {"asked_ids": True, "keeps": 4, "floor": floor})
    (found,) = scorer.score_records([RECORDS[0]])
    assert check(found, truth["r0"]) > 1e-4


@pytest.mark.parametrize("floor", [-9999.0, -100.0, -20.7, None, "absent"], ids=str)
@pytest.mark.parametrize("form", [{}, {"form": "llama.cpp"}, {"token_ids": False}, {"asked_ids": True}], ids=str)
def test_a_distribution_that_was_cut_is_refused(folder: Path, network: Any, floor: Any, form: dict[str, Any]) -> None:
    """The kept tokens' values are too high by a factor that nobody knows: the setting is named instead."""
    with (
        LogprobServer(network, tiny.tokenizer(), keeps=3, renormalised=True, floor=floor, **form) as server,
        pytest.raises(
            ServiceError,
            match=rf"{TRUNCATED}: [34] tokens add up to a probability of 1.*turn off top_k, top_p and min_p",
        ),
    ):
        connect(folder, server, EXACT, [])


@pytest.mark.parametrize("floor", [-9999.0, -20.7, "absent"], ids=str)
def test_a_cut_that_shows_only_now_and_then(remote: Any, floor: Any) -> None:
    """Like top-p: the first question had more tokens left than are told, a record's has fewer."""
    server, scorer = remote(EXACT, {})
    server.keeps, server.renormalised, server.floor = 3, True, floor
    (found,) = scorer.score_records([RECORDS[0]])
    assert TRUNCATED in (found.error or "") and not found.estimates


@pytest.mark.parametrize("asked", [{}, {"asked_ids": True}], ids=str)
@pytest.mark.parametrize("shift", [0.5, math.nan, math.inf], ids=str)
def test_numbers_that_are_no_log_probabilities(
    remote: Any, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], shift: float
) -> None:
    server, scorer = remote(EXACT, asked)
    server.shift = shift
    (found,) = scorer.score_records([RECORDS[0]])
    wanted = "returned NaN" if math.isnan(shift) else "probabilities add up to"
    assert wanted in (found.error or "") and not found.estimates


@pytest.mark.parametrize("values", [[-0.1, -2.32], [0.01, -9.0], [0.0015]], ids=str)
def test_masses_of_more_than_one_and_a_thousandth(values: list[float]) -> None:
    with pytest.raises(ModelError, match="probabilities add up to"):
        next_tokens(answer(dict(enumerate(values))), np.array([0]), {}, RequestFormat("m", 2, vocabulary=10))


def test_small_roundings_are_no_reason_to_refuse(remote: Any, truth: dict[str, Result]) -> None:
    server, scorer = remote(EXACT, {"asked_ids": True})
    server.shift = 1e-6
    (found,) = scorer.score_records([RECORDS[0]])
    check(found, truth["r0"])


def answer(values: dict[int, float]) -> TokenAnswer:
    return TokenAnswer(values, {}, None, None)


def test_what_is_a_floor_and_what_a_tie() -> None:
    form = RequestFormat("m", 20, vocabulary=128_000)
    allowed = np.array([1, 2, 500], dtype=np.int64)
    peaked = {1: math.log(0.9), 2: math.log(0.1 - 2e-6)}
    # two of twenty equal values at the end of a list come with 16-bit logits, and the list's end still bounds the rest
    tie = peaked | {100 + n: -14.5 - n / 8 for n in range(16)} | {200: -17.0, 201: -17.0}
    assert next_tokens(answer(tie), allowed, {}, form).unseen <= math.exp(-17.0)
    # fifteen of twenty are a floor, at whatever value: nothing bounds the rest but what is left of the mass
    floor = (
        {1: math.log(0.9), 2: math.log(0.05)}
        | {100 + n: -4.0 - n for n in range(3)}
        | dict.fromkeys(range(200, 215), -20.0)
    )
    left = 1 - sum(math.exp(value) for token, value in floor.items() if token < 200)
    assert next_tokens(answer(floor), allowed, {}, form).unseen == pytest.approx(left)
    # one value that cannot be: were it the twentieth of 128,000, all behind it could not hold the mass that is left
    lone = {1: math.log(0.5)} | {100 + n: -5.0 - n / 10 for n in range(18)} | {200: -25.0}
    left = 1 - sum(math.exp(value) for token, value in lone.items() if token != 200)
    assert next_tokens(answer(lone), allowed, {}, form).unseen == pytest.approx(left)


def test_a_sure_model_is_not_taken_for_a_cut_one() -> None:
    """Twenty tokens hold all but 1e-9 of the mass, as in every trained guard."""
    sure = {1: math.log1p(-1e-7)} | {100 + n: -17.0 - n / 3 for n in range(19)}
    found = next_tokens(answer(sure), np.array([1, 2]), {}, RequestFormat("m", 20, vocabulary=128_000))
    assert found.unseen < 1e-9
    with pytest.raises(ModelError, match=TRUNCATED):
        next_tokens(
            answer({1: math.log1p(-1e-7), 3: -9999.0}), np.array([1, 2]), {}, RequestFormat("m", 2, vocabulary=128_000)
        )


def test_the_first_records_of_the_issue(remote: Any, truth: dict[str, Result]) -> None:
    """A floor on all but the most probable token used to print 1 [1, 1] and 0 [0, 0] for what is neither."""
    _, scorer = remote(Settings(), {"keeps": 1})
    for found in scorer.score_records(RECORDS[:3]):
        check(found, truth[found.record_id])
