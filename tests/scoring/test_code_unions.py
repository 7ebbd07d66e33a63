"""Labels that consist of several of a guard's categories, against the enumeration of all answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import load_guard
from marginalia.scoring.label_categories import LabelCategories
from marginalia.scoring.language.code_unions import UnionLanguage
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.scoring.enumeration import readings
from tests.scoring.hashed import HashedModel, Vocabulary
from tests.scoring.test_enumeration import CASES, LANGUAGES, VOCABULARIES, made, scored
from tests.scoring.union_enumeration import Union, UnionEnumeration

# languages in which the same text can be read in several ways: there a prefix may seem to allow more than it does
AMBIGUOUS = (
    "a code that holds the separator",
    "a code with a line break",
    "words that run into each other",
    "a separator that is a code",
    "white space that is part of codes",
)


def drawn_meanings(codes: int, seed: int) -> dict[str, dict[str, list[str]]]:
    """Labels with random categories: two unions, one of every category, and two labels with bounds only."""
    draw = np.random.default_rng(seed)
    names = [f"l{number}" for number in range(codes)]

    def some() -> list[str]:
        return [names[number] for number in sorted(draw.choice(codes, draw.integers(1, codes + 1), replace=False))]

    inside = some()
    return {
        "first": {"any_of": some()},
        "second": {"any_of": some()},
        "every": {"any_of": names},
        "part": {"part_of": some()},
        "both": {"any_of": inside, "part_of": [name for name in names if name not in inside] or inside[:0]},
    }


def with_categories(
    folder: Path, name: str, vocabulary: Vocabulary, seed: int, **model: Any
) -> tuple[Scorer, UnionEnumeration, list[tuple[Union, Union]]]:
    """A scorer of the labels, the enumeration of their unions, and the index of each label's lower and upper union."""
    made(folder, name, vocabulary, seed=seed)  # writes the guard file
    codes, answer = LANGUAGES[name]
    meanings = drawn_meanings(len(codes), seed)
    if not meanings["both"]["part_of"]:
        del meanings["both"]
    shown = [{"id": label, "name": label, "definition": "x"} for label in [*meanings, "uncovered"]]
    policy = {"id": "policy", "version": "1", "title": "P", "subject": "texts", "labels": shown}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    guard = load_guard(
        str(folder / "guard.yaml"),
        load_taxonomy(str(folder / "policy.yaml")),
        categories=LabelCategories.model_validate(meanings),
    )
    assert guard.rows == (*meanings, "unsafe")
    every_reading = list(readings(answer, codes))
    model_ = HashedModel(
        vocabulary, seed=seed, favoured=frozenset(b"".join(reading.text for reading in every_reading)), **model
    )
    unions: list[tuple[Union, Union]] = []
    for meaning in meanings.values():
        inside = frozenset(int(category[1:]) for category in meaning.get("any_of", []))
        unions.append((inside, inside | {int(category[1:]) for category in meaning.get("part_of", [])}))
    unions.append((frozenset({len(codes)}), frozenset({len(codes)})))
    flat = [union for pair in unions for union in pair]
    oracle = UnionEnumeration(model_, every_reading, len(codes) + 1, flat)
    return Scorer(model_, guard, Settings(tolerance=0, node_budget=10**6)), oracle, unions


def check(result: Result, estimator: str, truth: np.ndarray, unions: list[tuple[Union, Union]], slack: float) -> None:
    """The bounds hold the enumerated values `truth` (lower and upper union of each label in turn)."""
    bounds = result.estimates[estimator]
    assert (bounds.lower <= truth[0::2] + 1e-9).all(), estimator
    assert (bounds.upper >= truth[1::2] - 1e-9).all(), estimator
    known = np.array([inside == named for inside, named in unions])
    assert (np.isnan(bounds.probability) == ~known).all()
    assert (bounds.lower[known] <= bounds.probability[known]).all()
    assert (bounds.probability[known] <= bounds.upper[known]).all()
    assert (truth[0::2] - bounds.lower <= slack + 1e-9).all() and (bounds.upper - truth[1::2] <= slack + 1e-9).all()


@pytest.mark.parametrize(("name", "vocabulary"), CASES)
def test_unions_are_what_enumeration_finds(tmp_path: Path, name: str, vocabulary: str) -> None:
    scorer, oracle, unions = with_categories(tmp_path, name, VOCABULARIES[vocabulary], seed=len(name))
    truth = oracle.run()
    exact = scored(scorer, tolerance=0, node_budget=10**6)
    for estimator in MARGINALS:
        check(exact, estimator, truth[estimator], unions, slack=1e-7)
    for tolerance in (0.3, 0.01):
        for budget in (1, 2, 5, 10**6):
            bounded = scored(scorer, tolerance=tolerance, node_budget=budget)
            within = bounded.stopped == "tolerance"
            for estimator in MARGINALS:
                check(bounded, estimator, truth[estimator], unions, slack=tolerance if within else 1.0)
    for ending in ("", "_constrained"):
        names = ["conditional", "joint"] if ending else ["greedy", "conditional", "joint"]
        ours = {estimator: exact.estimates[estimator + ending] for estimator in names}
        assert any(
            all(
                np.allclose(ours[estimator].lower, tables[estimator][0::2], atol=1e-6)
                and np.allclose(ours[estimator].upper, tables[estimator][1::2], atol=1e-6)
                for estimator in names
            )
            for tables in oracle.along(constrained=bool(ending))
        ), ending
    over_steps = oracle.over_steps()
    steps = scored(scorer, estimators=("max_over_steps",), tolerance=0, node_budget=10**6).estimates["max_over_steps"]
    assert steps.lower == pytest.approx(over_steps[0::2], abs=1e-6)
    assert steps.upper == pytest.approx(over_steps[1::2], abs=1e-6)


@pytest.mark.parametrize("name", LANGUAGES)
def test_masks_of_every_prefix(tmp_path: Path, name: str) -> None:
    """A union is done, can still be completed, and can still be avoided exactly where the answers say so."""
    scorer, oracle, _ = with_categories(tmp_path, name, VOCABULARIES["bytes"], seed=len(name))
    language = scorer.guard.language
    assert isinstance(language, UnionLanguage)
    bit_of = {mask: bit for bit, mask in enumerate(language.unions)}
    for prefix in sorted(oracle.done):
        state = language.walk(prefix)[-1]
        answers = [final for text, final in oracle.final.items() if text.startswith(prefix)]
        for row, union in enumerate(oracle.unions):
            bit = bit_of[sum(1 << code for code in union)]
            done = row in oracle.done[prefix]
            could = not done and any(row in final for final in answers)
            without = any(row not in final for final in answers)
            seen = (bool(state.done >> bit & 1), bool(state.could >> bit & 1), bool(state.without >> bit & 1))
            if name in AMBIGUOUS:
                assert seen[0] == done and seen[1] >= could and seen[2] >= without, (prefix, union)
            else:
                assert seen == (done, could, without), (prefix, union)


@pytest.mark.parametrize("name", ["codes that start like others", "white space anywhere"])
def test_samples_of_unions(tmp_path: Path, name: str) -> None:
    scorer, oracle, unions = with_categories(tmp_path, name, VOCABULARIES["merges"], seed=3)
    truth = oracle.run()["marginal"]
    estimates = scored(scorer, estimators=("monte_carlo",), samples=4000).estimates["monte_carlo"]
    known = np.array([inside == named for inside, named in unions])
    assert estimates.probability[known] == pytest.approx(truth[0::2][known], abs=0.04)
    assert (np.isnan(estimates.probability) == ~known).all()
    assert (estimates.lower <= truth[0::2] + 0.04).all() and (estimates.upper >= truth[1::2] - 0.04).all()


def test_what_follows_a_verdict_is_certain(tmp_path: Path) -> None:
    """A label that consists of every category has the verdict's probability, although no code is evaluated."""
    scorer, oracle, _ = with_categories(
        tmp_path, "codes that start like others", VOCABULARIES["bytes"], seed=5, spread=1.0
    )
    truth = oracle.run()
    every = scorer.guard.rows.index("every")
    budget = scored(scorer, tolerance=0, node_budget=3)
    for estimator in ("marginal_in_language", "marginal_constrained"):
        bounds = budget.estimates[estimator]
        assert bounds.upper[every] - bounds.lower[every] == pytest.approx(bounds.upper[-1] - bounds.lower[-1])
        assert bounds.lower[every] - 1e-9 <= truth[estimator][2 * every] <= bounds.upper[every] + 1e-9
