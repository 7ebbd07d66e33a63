"""Estimators of scripted models, against numbers computed by hand."""

import pytest

from marginalia.scoring.language.code_unions import UnionLanguage
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import Limits, Search
from marginalia.scoring.marginal.estimators import decisions, estimate
from marginalia.scoring.score_request import ESTIMATOR_NAMES
from tests.scoring.scripted import always, run, token_language

CODES = ["S1", "S2", "S10"]


def values(search: Search, estimator: str) -> list[float]:
    return estimate(search, [estimator])[estimator].probability.round(12).tolist()


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        (b"safe", [0, 0, 0, 0]),
        (b"unsafe\nS1", [1, 0, 0, 1]),
        (b"unsafe\nS10", [0, 0, 1, 1]),
        (b"unsafe\nS10,S1", [1, 0, 1, 1]),
        (b"unsafe\nS2,S1,S10", [1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATOR_NAMES)
def test_a_model_that_always_answers_one_text(answer: bytes, rows: list[int], estimator: str) -> None:
    assert values(run(token_language(CODES), always(answer), Limits()), estimator) == rows


def forked(so_far: bytes) -> dict[bytes | None, float]:
    """unsafe 0.8; then S1 0.7 or S2 0.3; after S1: end 0.5, S10's zero 0.3, a comma 0.2; rest certain."""
    table: dict[bytes, dict[bytes | None, float]] = {
        b"": {b"u": 0.8, b"s": 0.2},
        b"unsafe\nS": {b"1": 0.7, b"2": 0.3},
        b"unsafe\nS1": {None: 0.5, b"0": 0.3, b",": 0.2},
        b"unsafe\nS1,S": {b"2": 1.0},
    }
    if so_far in table:
        return table[so_far]
    for answer in (b"safe", b"unsafe\nS2", b"unsafe\nS10", b"unsafe\nS1,S2"):
        if answer.startswith(so_far):
            return {answer[len(so_far) : len(so_far) + 1] or None: 1.0}
    raise AssertionError(so_far)


def test_marginals_by_hand() -> None:
    search = run(token_language(CODES), forked, Limits(tolerance=0))
    s1, s2, s10 = 0.8 * 0.7 * (0.5 + 0.2), 0.8 * 0.3 + 0.8 * 0.7 * 0.2, 0.8 * 0.7 * 0.3
    for name in ("marginal", "marginal_in_language", "marginal_constrained"):
        assert values(search, name) == pytest.approx([s1, s2, s10, 0.8])
    assert search.raw.open == pytest.approx(0, abs=1e-12)
    assert search.raw.off == pytest.approx(0, abs=1e-12)


def test_of_a_union_the_first_completed_code_by_hand() -> None:
    """S2 belongs to no row, but decides where the next decision begins."""
    table: dict[bytes, dict[bytes | None, float]] = {
        b"": {b"u": 0.8, b"s": 0.2},
        b"unsafe\nS": {b"2": 0.6, b"1": 0.4},
        b"unsafe\nS2": {b",": 0.9, None: 0.1},
        b"unsafe\nS2,S": {b"1": 0.7},
        b"unsafe\nS2,S1": {b"0": 0.75, None: 0.25},
        b"unsafe\nS2,S10": {b",": 0.55, None: 0.45},
    }

    def script(so_far: bytes) -> dict[bytes | None, float]:
        answer = b"unsafe\nS2,S10,S1"
        return table.get(so_far) or {answer[len(so_far) : len(so_far) + 1] or None: 1.0}

    plain = token_language(CODES)
    union = UnionLanguage(plain.language, [0b101, 0b100, 0b1000])  # S1 or S10; S10; the verdict
    search = run(TokenLanguage(union, plain.token_bytes, plain.end_ids), script, Limits(node_budget=0))
    of_s10, joint = 0.9 * 0.7 * 0.75, 0.8 * 0.6 * 0.9 * 0.7 * 0.75
    assert values(search, "conditional") == pytest.approx([of_s10, of_s10, 0.8])
    assert values(search, "joint") == pytest.approx([joint, joint, 0.8])
    assert values(search, "greedy") == [1, 1, 1]


def test_conditional_and_joint_by_hand() -> None:
    # greedy: unsafe (0.8), S1 (0.7), end
    search = run(token_language(CODES), forked, Limits())
    assert values(search, "conditional") == pytest.approx([0.7, 0, 0, 0.8])
    assert values(search, "joint") == pytest.approx([0.56, 0, 0, 0.8])
    assert values(search, "greedy") == [1, 0, 0, 1]


def test_the_delimiter_belongs_to_the_next_decision() -> None:
    def script(so_far: bytes) -> dict[bytes | None, float]:
        answer = b"unsafe\nS1,S2"
        following = answer[len(so_far) : len(so_far) + 1] or None
        odds = {b"unsafe": 0.9, b"unsafe\nS1": 0.6}  # the newline and the comma are uncertain
        value = odds.get(so_far, 1.0)
        return {following: value, b"#": 1 - value} if value < 1 else {following: value}

    search = run(token_language(CODES), script, Limits())
    assert values(search, "conditional") == pytest.approx([0.9, 0.6, 0, 1.0])
    assert values(search, "joint") == pytest.approx([0.9, 0.54, 0, 1.0])


def leaves(so_far: bytes) -> dict[bytes | None, float]:
    """Leaves the language after the first separator with probability 0.4, and with 0.1 at the start."""
    if so_far == b"":
        return {b"u": 0.9, b"#": 0.1}
    if so_far == b"unsafe\nS1,":
        return {b"S": 0.6, b" ": 0.4}
    if so_far in (b"#", b"unsafe\nS1, "):
        return {None: 1.0}
    return always(b"unsafe\nS1,S2")(so_far)


def test_mass_that_leaves_keeps_what_it_completed() -> None:
    search = run(token_language(CODES), leaves, Limits(tolerance=0))
    assert values(search, "marginal") == pytest.approx([0.9, 0.54, 0, 0.9])
    assert values(search, "marginal_in_language") == pytest.approx([1, 1, 0, 1])
    assert values(search, "marginal_constrained") == pytest.approx([1, 1, 0, 1])
    assert search.raw.off == pytest.approx(0.1 + 0.9 * 0.4)


def test_a_greedy_answer_that_leaves_keeps_its_decisions() -> None:
    def script(so_far: bytes) -> dict[bytes | None, float]:
        if so_far == b"unsafe\nS1,":
            return {b" ": 0.7, b"S": 0.3}
        return leaves(so_far)

    search = run(token_language(CODES), script, Limits(answer_tokens=16))
    result = decisions(search.greedy, search.language)
    assert [(decision.row, round(decision.conditional, 6)) for decision in result] == [(3, 0.9), (0, 1.0)]
    assert search.language.text([step.token for step in search.greedy if not step.ends]) == b"unsafe\nS1, "


def test_the_budget_leaves_mass_open_and_is_reported() -> None:
    search = run(token_language(CODES), forked, Limits(node_budget=8))
    assert search.stopped == "node_budget"
    bounds = estimate(search, ["marginal"])["marginal"]
    assert search.raw.open > 0.01
    truth = [0.8 * 0.7 * 0.7, 0.8 * 0.3 + 0.8 * 0.7 * 0.2, 0.8 * 0.7 * 0.3, 0.8]
    assert all(low <= true <= high for low, true, high in zip(bounds.lower, truth, bounds.upper, strict=True))
    total = search.raw.closed + search.raw.off + search.raw.open
    assert total == pytest.approx(1, abs=1e-9)


def test_constrained_masses_survive_underflow() -> None:
    def script(so_far: bytes) -> dict[bytes | None, float]:
        if so_far == b"#":
            return {None: 1.0}
        if so_far != b"":
            return forked(so_far)
        return {b"u": 0.8e-300, b"s": 0.2e-300, b"#": 1.0}

    search = run(token_language(CODES), script, Limits(tolerance=0, node_budget=10_000))
    assert values(search, "marginal_constrained")[3] == pytest.approx(0.8)
    assert search.raw.off == pytest.approx(1)
