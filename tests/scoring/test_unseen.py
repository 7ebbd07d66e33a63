"""Sources that return only the most probable tokens: the other mass stays open, and the truth is within the bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import MARGINALS, Limits, NextTokens, Search
from marginalia.scoring.marginal.estimators import estimate
from marginalia.scoring.models.completions_api import (
    UNKNOWN,
    NoLogprobs,
    RequestFormat,
    TokenAnswer,
    next_tokens,
    read_answer,
)
from tests.scoring.scripted import Script, token_language
from tests.scoring.tiny import END

CODES = ["A", "B"]
ANSWERS = {
    b"": {b"s": 0.6, b"u": 0.3, b"x": 0.1},
    b"safe": {None: 0.9, b"x": 0.1},
    b"unsafe": {b"\n": 0.8, None: 0.2},
    b"unsafe\n": {b"A": 0.5, b"B": 0.4, b"x": 0.1},
    b"unsafe\nA": {None: 0.7, b",": 0.3},
    b"unsafe\nA,": {b"B": 1.0},
    b"unsafe\nA,B": {None: 1.0},
    b"unsafe\nB": {None: 1.0},
}
# rows A, B, unsafe. By hand: P(A) = .3·.8·.5, P(B) = .3·.8·.4 + P(A)·.3; inside the language lies .6·.9 + .3·.8·.9;
# constrained, the root's s : u is 2 : 1 and A : B is 5 : 4
TRUTH = {
    "marginal": [0.12, 0.132, 0.3],
    "marginal_in_language": [0.12 / 0.756, 0.132 / 0.756, 0.216 / 0.756],
    "marginal_constrained": [5 / 27, 5.5 / 27, 1 / 3],
}


def script(so_far: bytes) -> dict[bytes | None, float]:
    if so_far in ANSWERS:
        return ANSWERS[so_far]
    word = b"safe" if b"safe".startswith(so_far) else b"unsafe"
    return {word[len(so_far) : len(so_far) + 1]: 1.0} if word.startswith(so_far) else {b"x": 1.0}


def server_answer(so_far: Script, text: bytes, top: int) -> TokenAnswer:
    """The `top` most probable tokens, as a server returns them."""
    by_id = {END if name is None else name[0]: math.log(value) for name, value in so_far(text).items()}
    return TokenAnswer(dict(sorted(by_id.items(), key=lambda item: -item[1])[:top]), {}, None, None)


def run(top: int, limits: Limits | None = None) -> Search:
    form = RequestFormat("m", top, partial=True)  # the script has no more tokens, and a real server would
    language: TokenLanguage = token_language(CODES, b",")
    search = Search(language, limits or Limits(tolerance=0))
    while nodes := search.ask():
        for node in nodes:
            allowed = language.moves(node.state).ids if node.state is not None else np.empty(0, dtype=np.int64)
            answer = server_answer(script, language.text(node.path()), top)
            search.tell(node, next_tokens(answer, allowed, {}, form))
    return search


def test_with_all_tokens_returned_the_probabilities_are_exact() -> None:
    result = estimate(run(3), MARGINALS)
    for name in MARGINALS:
        assert result[name].probability == pytest.approx(TRUTH[name], abs=1e-12)


@pytest.mark.parametrize("top", [1, 2])
@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("budget", [1, 3, 8, 512])
def test_the_truth_is_inside_the_bounds(top: int, tolerance: float, budget: int) -> None:
    search = run(top, Limits(tolerance=tolerance, node_budget=budget))
    result = estimate(search, MARGINALS)
    for name in MARGINALS:
        assert (result[name].lower <= np.array(TRUTH[name]) + 1e-12).all()
        assert (result[name].upper >= np.array(TRUTH[name]) - 1e-12).all()
    for masses in (search.raw, search.constrained):
        assert masses.closed + masses.off + masses.open == pytest.approx(1, abs=1e-12)


def test_one_token_per_step_by_hand() -> None:
    """At the root s = 0.6 is returned; the other 0.4 may all be u, which is less probable than s by an unknown
    amount."""
    search = run(1)
    result = estimate(search, MARGINALS)
    unsafe = 2
    assert (result["marginal"].lower[unsafe], result["marginal"].upper[unsafe]) == pytest.approx((0, 0.4))
    in_language = result["marginal_in_language"]
    assert (in_language.lower[unsafe], in_language.upper[unsafe]) == pytest.approx((0, 0.4 / 0.94))
    constrained = result["marginal_constrained"]
    assert (constrained.lower[unsafe], constrained.upper[unsafe]) == pytest.approx((0, 0.4))
    assert search.raw.off == pytest.approx(0.06)  # after safe, END was returned and nothing else is allowed
    assert search.stopped == "exhausted"


def test_no_prefix_is_evaluated_unnecessarily() -> None:
    """When only unseen mass keeps the bounds apart, the search ends before it uses up its budget."""
    assert run(1).nodes == 5  # the root and s, a, f, e: the greedy answer; nothing else has been returned
    assert run(1, Limits(tolerance=0.5)).stopped == "tolerance"


def test_a_token_outside_the_top_is_no_more_probable_than_the_last_inside() -> None:
    answer = TokenAnswer({ord("s"): math.log(0.5), ord("x"): math.log(0.1)}, {}, None, None)
    allowed = np.array([ord("s"), ord("u"), ord("n")])
    assert next_tokens(answer, allowed, {}, RequestFormat("m", 2)).unseen == pytest.approx(0.2)  # 2 · 0.1, not 0.4
    assert next_tokens(answer, allowed, {}, RequestFormat("m", 2)).unseen_top == pytest.approx(0.1)
    assert next_tokens(answer, allowed, {}, RequestFormat("m", 3)).unseen == pytest.approx(0.4)  # fewer than requested
    assert next_tokens(answer, allowed[:1], {}, RequestFormat("m", 3)).unseen == 0  # all allowed tokens were returned


def test_texts_of_several_tokens_count_as_unseen() -> None:
    ids_of = {"a": (1,), "b": (2, 3), "c": (4, 5)}
    answer = TokenAnswer({}, {"a": math.log(0.5), "b": math.log(0.3), "c": math.log(0.1)}, None, None)
    result = next_tokens(answer, np.array([1, 2]), ids_of, RequestFormat("m", 3))
    assert np.exp(result.log_probabilities) == pytest.approx([0.5, 0])
    assert result.unseen == pytest.approx(0.4)  # c is neither 1 nor 2, b may be 2
    assert (result.top, result.top_log_probability) == (1, pytest.approx(math.log(0.5)))
    unlike = TokenAnswer({}, {"b": math.log(0.6), "a": math.log(0.3)}, None, None)
    assert next_tokens(unlike, np.array([1, 2]), ids_of, RequestFormat("m", 2)).top == UNKNOWN
    assert next_tokens(unlike, np.array([1]), ids_of, RequestFormat("m", 2)).top == 2  # either id leaves the language


def test_an_unknown_greedy_token_is_an_error() -> None:
    search = Search(token_language(CODES, b","), Limits())
    (root,) = search.ask()
    count = len(search.language.moves(search.language.language.start).ids)
    with pytest.raises(ModelError, match="use a server that returns token ids"):
        search.tell(root, NextTokens(np.full(count, -np.inf), UNKNOWN, -0.1, 1.0, 1.0))


def test_the_constrained_greedy_answer_has_bounds_where_tokens_are_unseen() -> None:
    """s : u is 0.6 : at most 0.4, so P(safe) is at least 0.6; nothing is known of labels after a cut answer."""
    search = run(1)
    assert search.greedy_constrained[0].probability == pytest.approx(0.6)
    assert search.greedy_constrained[0].highest == pytest.approx(1.0)
    result = estimate(search, ["conditional_constrained", "joint_constrained", "greedy"])
    assert result["greedy"].upper.tolist() == [0, 0, 0]
    assert result["conditional_constrained"].upper.tolist() == [0, 0, 0]  # its answer is safe to the end
    cut = Search(token_language(CODES, b","), Limits())
    (root,) = cut.ask()
    allowed = cut.language.moves(cut.language.language.start).ids
    answer = TokenAnswer({ord("x"): math.log(0.9)}, {}, None, None)  # s and u share 0.1; which one is best is unknown
    cut.tell(root, next_tokens(answer, allowed, {}, RequestFormat("m", 1)))
    bounds = estimate(cut, ["joint_constrained"])["joint_constrained"]
    assert (bounds.lower.tolist(), bounds.upper.tolist()) == ([0, 0, 0], [1, 1, 1])


def test_clamped_log_probabilities_do_not_underflow() -> None:
    """vLLM writes −9999 for −inf; if allowed tokens have no mass and others are unseen, everything is open."""
    search = Search(token_language(CODES, b","), Limits())
    (root,) = search.ask()
    allowed = search.language.moves(search.language.language.start).ids
    answer = TokenAnswer({ord("x"): math.log(0.5), ord("s"): -9999.0}, {}, None, None)
    search.tell(root, next_tokens(answer, allowed, {}, RequestFormat("m", 3)))
    assert search.constrained.open == pytest.approx(1)
    assert estimate(search, ["marginal_constrained"])["marginal_constrained"].upper.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [([math.nan, -1.0], "returned NaN"), ([2.0, 1.0], "add up to 10.11 .*--logprobs-mode raw_logprobs")],
)
def test_numbers_that_are_not_log_probabilities(values: list[float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        next_tokens(TokenAnswer(dict(enumerate(values)), {}, None, None), np.array([1]), {}, RequestFormat("m", 2))


def test_answers_of_every_format_are_read() -> None:
    vllm = {"choices": [{"logprobs": {"top_logprobs": [{"token_id:7": -0.5, "token_id:9": -2.0}]}}]}
    text = {"choices": [{"logprobs": {"top_logprobs": [{" a": -0.5}]}}], "usage": {"prompt_tokens": 4}}
    tops = [{"id": 7, "token": "x", "logprob": -0.5}, {"id": 9, "token": "x", "logprob": -2.0}]
    llama = {"choices": [{"logprobs": {"content": [{**tops[0], "top_logprobs": tops}]}}]}
    assert read_answer(vllm).by_id == read_answer(llama).by_id == {7: -0.5, 9: -2.0}
    assert (read_answer(text).by_text, read_answer(text).prompt_tokens) == ({" a": -0.5}, 4)
    for empty in (None, {}, {"top_logprobs": []}, {"top_logprobs": [None]}, {"top_logprobs": [{}]}, {"content": []}):
        with pytest.raises(NoLogprobs):
            read_answer({"choices": [{"logprobs": empty}]})
