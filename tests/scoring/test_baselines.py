"""The maximum over label steps and Monte Carlo, against numbers computed by hand and against the exact marginal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marginalia.scoring.language.answer_language import AnswerLanguage, Text
from marginalia.scoring.language.token_language import TokenLanguage, vocabulary_bytes
from marginalia.scoring.marginal.answer_search import Limits, Search
from marginalia.scoring.marginal.baselines import Baseline, MaxOverSteps, MonteCarlo, record_rng, wilson
from marginalia.scoring.marginal.estimators import estimate
from marginalia.scoring.models.local_model import LocalBatch, LocalSource, load_local
from tests.scoring.scripted import Script, _answer, always, run, token_language
from tests.scoring.test_estimators import CODES, forked, leaves
from tests.scoring.tiny import save

GREEDY_ONLY = Limits(tolerance=1.0)  # evaluates the greedy answers and nothing else


def drive(search: Search, script: Script, baseline: Baseline) -> list[float]:
    """The finished baseline's probabilities; checks that no prefix is asked for twice."""
    asked: set[int] = set()
    while nodes := baseline.ask():
        assert not asked.intersection(map(id, nodes))
        asked.update(map(id, nodes))
        for node in nodes:
            baseline.tell(node, _answer(search.language, node, script(search.language.text(node.path()))))
    return baseline.estimate().probability.tolist()


def over_steps(
    script: Script, limits: Limits = GREEDY_ONLY, *, tolerance: float = 0.0
) -> tuple[list[float], MaxOverSteps]:
    search = run(token_language(CODES), script, limits)
    baseline = MaxOverSteps(search, tolerance=tolerance)
    return drive(search, script, baseline), baseline


def two_label_steps(so_far: bytes) -> dict[bytes | None, float]:
    """unsafe 0.8; then S1 0.7 or S2 0.3; after S1 a comma 0.6 or the end; then S2 0.9 or S10 0.1, and the end."""
    table: dict[bytes, dict[bytes | None, float]] = {
        b"": {b"u": 0.8, b"s": 0.2},
        b"unsafe\nS": {b"1": 0.7, b"2": 0.3},
        b"unsafe\nS1": {b",": 0.6, None: 0.4},
        b"unsafe\nS1,S": {b"2": 0.9, b"1": 0.1},
    }
    if so_far in table:
        return table[so_far]
    for answer in (b"safe", b"unsafe\nS2", b"unsafe\nS1,S2", b"unsafe\nS1,S10"):
        if answer.startswith(so_far):
            return {answer[len(so_far) : len(so_far) + 1] or None: 1.0}
    raise AssertionError(so_far)


def test_the_largest_of_the_steps() -> None:
    result, baseline = over_steps(two_label_steps)
    assert len(baseline.steps) == 3  # the verdict, the first label, the second; the answer ends after it
    # S1 0.7 and S2 0.3 at the first label, S2 0.9 and S10 0.1 at the second: no product with what came before
    assert result == pytest.approx([0.7, 0.9, 0.1, 0.8])


def test_a_code_counts_in_full_with_what_follows_it() -> None:
    # after S1: its end 0.5, S10's zero 0.3, a comma 0.2
    result, _ = over_steps(forked)
    assert result == pytest.approx([0.7 * (0.5 + 0.2), 0.3, 0.7 * 0.3, 0.8])


def test_mass_that_leaves_the_language_completes_nothing() -> None:
    result, _ = over_steps(leaves)  # 0.1 leaves at the start, 0.4 after S1 and its comma
    assert result == pytest.approx([1.0, 0.6, 0, 0.9])


@pytest.mark.parametrize(("answer", "rows"), [(b"safe", [0, 0, 0, 0]), (b"unsafe\nS10,S1", [1, 0, 1, 1])])
def test_certain_models(answer: bytes, rows: list[int]) -> None:
    script = always(answer)
    search = run(token_language(CODES), script, GREEDY_ONLY)
    assert drive(search, script, MaxOverSteps(search, tolerance=0.0)) == rows
    assert drive(search, script, MonteCarlo(search, samples=20, rng=record_rng(1, "a"))) == rows


def test_prefixes_of_the_search_are_not_evaluated_again() -> None:
    result, baseline = over_steps(forked, Limits(tolerance=0))
    assert baseline.nodes == 0
    assert result == pytest.approx(over_steps(forked)[0])
    search = run(token_language(CODES), forked, Limits(tolerance=0))
    sampled = MonteCarlo(search, samples=50, rng=record_rng(1, "a"))
    assert sampled.ask() == [] and sampled.nodes == 0


def test_bounds_at_a_tolerance_contain_the_truth() -> None:
    exact, full = over_steps(forked)
    _, loose = over_steps(forked, tolerance=0.35)
    bounds = loose.estimate()
    assert loose.nodes < full.nodes
    assert (bounds.upper - bounds.lower).max() <= 0.35 + 1e-9
    assert (bounds.lower <= np.array(exact) + 1e-12).all() and (bounds.upper >= np.array(exact) - 1e-12).all()
    assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all()


def test_the_budget_limits_the_evaluated_prefixes() -> None:
    search = run(token_language(CODES), forked, GREEDY_ONLY)
    baseline = MaxOverSteps(search, tolerance=0.0, node_budget=1)
    drive(search, forked, baseline)
    assert baseline.nodes == 1


def uncertain(so_far: bytes) -> dict[bytes | None, float]:
    """unsafe; then S1 0.7 or S2 0.3; after S1: a comma 0.6, S10's zero 0.3, the end 0.1; then S2 0.55 or S10 0.45."""
    table: dict[bytes, dict[bytes | None, float]] = {
        b"unsafe\nS": {b"1": 0.7, b"2": 0.3},
        b"unsafe\nS1": {b",": 0.6, b"0": 0.3, None: 0.1},
        b"unsafe\nS1,S": {b"2": 0.55, b"1": 0.45},
    }
    if so_far in table:
        return table[so_far]
    for answer in (b"unsafe\nS2", b"unsafe\nS10", b"unsafe\nS1,S2", b"unsafe\nS1,S10"):
        if answer.startswith(so_far):
            return {answer[len(so_far) : len(so_far) + 1] or None: 1.0}
    raise AssertionError(so_far)


@pytest.mark.parametrize("script", [forked, leaves, two_label_steps, uncertain])
def test_a_finer_tolerance_or_a_larger_budget_never_widens_the_bounds_over_steps(script: Script) -> None:
    truth = np.array(over_steps(script)[0])
    result = {}
    for tolerance in (0.5, 0.35, 0.2, 0.1, 0.0):
        for budget in range(9):
            search = run(token_language(CODES), script, GREEDY_ONLY)
            baseline = MaxOverSteps(search, tolerance=tolerance, node_budget=budget)
            drive(search, script, baseline)
            bounds = result[tolerance, budget] = baseline.estimate()
            assert (bounds.lower <= truth + 1e-12).all() and (truth <= bounds.upper + 1e-12).all()
    for (tolerance, budget), coarse in result.items():
        for (finer, larger), fine in result.items():
            if finer <= tolerance and larger >= budget:
                at = (tolerance, budget, finer, larger)
                assert (fine.lower >= coarse.lower - 1e-12).all() and (fine.upper <= coarse.upper + 1e-12).all(), at


def test_baselines_do_not_change_the_search() -> None:
    search = run(token_language(CODES), forked, GREEDY_ONLY)
    before = estimate(search, ["marginal"])["marginal"]
    nodes = search.nodes
    drive(search, forked, MaxOverSteps(search, tolerance=0.0))
    drive(search, forked, MonteCarlo(search, samples=50, rng=record_rng(1, "a")))
    after = estimate(search, ["marginal"])["marginal"]
    assert (search.nodes, after.lower.tolist(), after.upper.tolist()) == (
        nodes,
        before.lower.tolist(),
        before.upper.tolist(),
    )


@pytest.mark.parametrize("script", [forked, leaves, two_label_steps])
def test_samples_approach_the_marginal(script: Script) -> None:
    truth = estimate(run(token_language(CODES), script, Limits(tolerance=0)), ["marginal"])["marginal"].probability
    search = run(token_language(CODES), script, GREEDY_ONLY)
    baseline = MonteCarlo(search, samples=4000, rng=record_rng(7, "a"))
    result = np.array(drive(search, script, baseline))
    assert np.abs(result - truth).max() < 4 * np.sqrt(0.25 / 4000)  # four standard errors
    assert baseline.nodes + search.nodes < 40  # samples share prefixes


def test_samples_depend_on_the_record_and_the_seed_alone() -> None:
    def sampled(seed: int, record: str, limits: Limits) -> list[float]:
        search = run(token_language(CODES), forked, limits)
        return drive(search, forked, MonteCarlo(search, samples=100, rng=record_rng(seed, record)))

    assert sampled(1, "a", GREEDY_ONLY) == sampled(1, "a", Limits(tolerance=0))
    assert sampled(1, "a", GREEDY_ONLY) != sampled(2, "a", GREEDY_ONLY)
    assert sampled(1, "a", GREEDY_ONLY) != sampled(1, "b", GREEDY_ONLY)


def test_wilson_by_hand() -> None:
    lower, upper = wilson(np.array([0.0, 5.0, 10.0]), 10)
    assert lower == pytest.approx([0, 0.23659, 0.72247], abs=1e-5)
    assert upper == pytest.approx([0.27753, 0.76341, 1], abs=1e-5)


def test_on_a_real_model(tmp_path: Path) -> None:
    """Over the KV cache tree: samples approach the exact marginal; with a single row, the first step is its
    marginal."""
    model = load_local(str(save(tmp_path / "model", 2, sharpness=1.0)))
    prompt = model.tokenizer("judge this", add_special_tokens=False)["input_ids"]
    words = [(Text(bytes([byte]), 0 if byte % 2 else None),) for byte in range(256)]  # odd bytes say yes
    tokens = TokenLanguage(AnswerLanguage([], words), vocabulary_bytes(model.tokenizer), model.end_ids)

    def searched(tolerance: float) -> tuple[Search, LocalBatch]:
        search, batch = Search(tokens, Limits(tolerance=tolerance)), LocalSource(model).open(1, len(prompt), tokens)
        batch.join(0, prompt)
        drive_batch(search, batch)
        return search, batch

    def drive_batch(search: Search | MaxOverSteps | MonteCarlo, batch: LocalBatch) -> None:
        while nodes := search.ask():
            answers = batch.next_tokens([(0, node) for node in nodes])
            for node, answer in zip(nodes, answers, strict=True):
                search.tell(node, answer)

    exact = estimate(searched(0.0)[0], ["marginal"])["marginal"].probability
    search, batch = searched(1.0)
    sampled = MonteCarlo(search, samples=2000, rng=record_rng(3, "a"))
    steps = MaxOverSteps(search, tolerance=0.0)
    drive_batch(steps, batch)
    drive_batch(sampled, batch)
    assert 0.1 < exact[0] < 0.9
    assert np.abs(sampled.estimate().probability - exact).max() < 4 * np.sqrt(0.25 / 2000)
    assert steps.estimate().probability == pytest.approx(exact, abs=1e-5)
