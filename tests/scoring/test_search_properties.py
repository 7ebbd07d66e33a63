"""The search, for any small answer language and any model: bounds, masses, order of labels, batch composition."""

from __future__ import annotations

import dataclasses
import tempfile
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from marginalia.schemas.errors import InputError
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.scoring.enumeration import Enumeration, readings
from tests.scoring.hashed import HashedModel, byte_level
from tests.scoring.tiny import save

EVERYTHING = 10**6
HELLO = [{"role": "user", "content": "hello"}]
VOCABULARIES = (
    byte_level(),
    byte_level((("a", "b"), ("n", ":"), (",", "a"), (",", " "), ("1", "0"), ("o", "k"))),
    byte_level((("o", "k"),), ("n:a", "ab,", "b,", "10")),
)
CODES = st.lists(st.text("ab1, ", min_size=1, max_size=3), min_size=1, max_size=3, unique=True)
SEPARATORS = st.sampled_from([[","], [", "], [",", ", "], ["a"], ["\n"], []])
FORMS = st.sampled_from(
    [
        [["ok"], [{"verdict": "n"}, ":", "LABELS"]],
        [["n"], [{"verdict": "no"}, "LABELS", "."]],
        [["k"], [{"verdict": "n"}], [{"verdict": "n"}, ":", "LABELS"]],
        [["n:", "LABELS", ";", {"verdict": "bad"}], ["n:", "LABELS", ";ok"]],
        [
            ["k", {"space": [" "]}],
            [{"space": ["\n"]}, {"verdict": "n"}, {"space": [" "]}, "LABELS", {"space": [" ", "\n"]}],
        ],
    ]
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A small answer language and a random model, which keeps to it more or less."""

    codes: list[str]
    answer: list[list[Any]]
    model: dict[str, Any]
    vocabulary: int

    def guard(self, order: list[int] | None = None) -> Guard:
        """The guard, with its labels in another order if given: label `ln` has the n-th code at any position."""
        ids = [f"l{number}" for number in (order or range(len(self.codes)))]
        file = {
            "guard": "any",
            "title": "T",
            "source": "a test",
            "taxonomy": "taxonomy.yaml",
            "labels": {label: self.codes[int(label[1:])] for label in ids},
            "prompt": {"message": "{{ conversation[0].content }}"},
            "answer": self.answer,
        }
        taxonomy = {"id": "t", "version": "1", "title": "T", "subject": "texts"}
        labels = [{"id": label, "name": label, "definition": "x"} for label in ids]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "taxonomy.yaml").write_text(yaml.safe_dump({**taxonomy, "labels": labels}))
            (Path(folder) / "guard.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
            return load_guard(str(Path(folder) / "guard.yaml"))

    @cached_property
    def hashed(self) -> HashedModel:
        written = b"".join(reading.text for reading in readings(self.answer, self.codes))
        return HashedModel(VOCABULARIES[self.vocabulary], favoured=frozenset(written), **self.model)

    @property
    def enumeration(self) -> Enumeration:
        return Enumeration(self.hashed, list(readings(self.answer, self.codes)), len(self.codes) + 1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    labels = {"labels": draw(SEPARATORS)}
    answer = [[labels if piece == "LABELS" else piece for piece in pieces] for pieces in draw(FORMS)]
    model = {
        "seed": draw(st.integers(0, 10**6)),
        "favour": draw(st.sampled_from([0.0, 3.0, 6.0, 9.0])),
        "spread": draw(st.sampled_from([0.5, 2.0, 4.0])),
    }
    case = Case(draw(CODES), answer, model, draw(st.integers(0, len(VOCABULARIES) - 1)))
    try:
        case.guard()
    except InputError:
        assume(False)  # two readings of one text, which a guard file may not have
    return case


def scored(case: Case, guard: Guard | None = None, **chosen: Any) -> Result:
    (result,) = Scorer(case.hashed, guard or case.guard(), Settings(**chosen)).score_records([("a", HELLO)])
    assert result.error is None
    return result


def examples(share: float) -> settings:
    """That share of the profile's examples, as these tests are slow."""
    return settings(max_examples=max(1, round(settings().max_examples * share)))


@examples(0.5)
@given(case=cases())
def test_the_truth_lies_inside_the_bounds(case: Case) -> None:
    truth, guard = case.enumeration.run(), case.guard()
    for budget in (2, 10, EVERYTHING):
        widths = {}
        for tolerance in (0.5, 0.05, 0.0):
            result = scored(case, guard, tolerance=tolerance, node_budget=budget)
            for name in MARGINALS:
                bounds = result.estimates[name]
                assert (bounds.lower <= truth[name] + 1e-9).all() and (truth[name] <= bounds.upper + 1e-9).all(), name
                assert (bounds.lower >= 0).all() and (bounds.upper <= 1).all(), name
                assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all(), name
                widths[name] = float((bounds.upper - bounds.lower).max())
            assert result.stopped in ("tolerance", "node_budget", "exhausted")
            assert (result.stopped == "tolerance") == (max(widths.values()) <= tolerance + 1e-9)
    for name in MARGINALS:
        assert result.estimates[name].probability == pytest.approx(truth[name], abs=1e-6), name


@examples(0.5)
@given(case=cases(), tolerance=st.sampled_from([0.5, 0.05, 0.0]), budget=st.sampled_from([1, 2, 3, 5, 8, EVERYTHING]))
def test_the_maximum_over_steps_lies_inside_its_bounds(case: Case, tolerance: float, budget: int) -> None:
    truth = case.enumeration.over_steps()
    chosen = {"tolerance": tolerance, "node_budget": budget, "estimators": ("max_over_steps",)}
    bounds = scored(case, **chosen).estimates["max_over_steps"]
    assert (bounds.lower <= truth + 1e-9).all() and (truth <= bounds.upper + 1e-9).all()
    assert (bounds.lower >= 0).all() and (bounds.upper <= 1).all()
    assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all()
    if budget == EVERYTHING:
        assert (bounds.upper - bounds.lower).max() <= tolerance + 1e-9


TOLERANCES = (0.5, 0.2, 0.1, 0.05, 0.01, 1e-3, 0.0)
BUDGETS = (1, 3, 6, 12, 25, 50, 100, EVERYTHING)


STEPS = Case(
    ["1ba", "a1"],
    [
        ["k", {"space": [" "]}],
        [{"space": ["\n"]}, {"verdict": "n"}, {"space": [" "]}, {"labels": [","]}, {"space": [" ", "\n"]}],
    ],
    {"seed": 872150, "favour": 9.0, "spread": 2.0},
    0,
)  # a greedy answer with two label steps, each with several open prefixes


@examples(0.5)
@example(case=STEPS, tolerances=[0.2, 0.0], budgets=[2], names=(*MARGINALS, "max_over_steps"))
@given(
    case=cases(),
    tolerances=st.lists(st.sampled_from(TOLERANCES), min_size=2, max_size=3, unique=True),
    budgets=st.lists(st.sampled_from(BUDGETS), min_size=2, max_size=3, unique=True),
    names=st.sampled_from([(*MARGINALS, "max_over_steps"), *((name,) for name in MARGINALS), ("max_over_steps",)]),
)
def test_a_finer_tolerance_or_a_larger_budget_never_widens_bounds(
    case: Case, tolerances: list[float], budgets: list[int], names: tuple[str, ...]
) -> None:
    """Of any row: a finer tolerance or a larger budget counts all that counted before, and more."""
    guard = case.guard()
    result = {
        (tolerance, budget): scored(case, guard, tolerance=tolerance, node_budget=budget, estimators=names).estimates
        for tolerance in tolerances
        for budget in budgets
    }
    for (tolerance, budget), coarse in result.items():
        for (finer, larger), fine in result.items():
            if finer <= tolerance and larger >= budget:
                for name in names:
                    at = (name, tolerance, budget, finer, larger)
                    assert (fine[name].lower >= coarse[name].lower - 1e-9).all(), at
                    assert (fine[name].upper <= coarse[name].upper + 1e-9).all(), at


@examples(0.5)
@given(case=cases(), budget=st.integers(1, 60))
def test_at_the_budget_the_most_probable_prefixes_count(case: Case, budget: int) -> None:
    """Against a search that evaluates one prefix at a time, the most probable one, over the enumerated answers."""
    enumeration = case.enumeration
    limits = {"tolerance": 0.0, "node_budget": budget, "estimators": ("marginal",), "answer_tokens": 1}
    scorer = Scorer(case.hashed, case.guard(), Settings(**limits))
    search = scorer.search(HELLO)
    in_language = np.exp(case.hashed.log_probabilities(()))[[*enumeration.moves(b"")]].sum()
    assume(in_language < 0.9)  # otherwise prefixes are evaluated together with their forced runs
    lower, upper = one_at_a_time(enumeration, [step.token for step in search.greedy], budget)
    result = search.raw.marginal()
    assert result[0] == pytest.approx(lower, abs=1e-9) and result[1] == pytest.approx(upper, abs=1e-9)


def one_at_a_time(enumeration: Enumeration, greedy: list[int], budget: int) -> tuple[Any, Any]:
    """Bounds of `marginal` when the greedy answer's prefixes are evaluated, and then the most probable ones."""
    always = {tuple(greedy[:length]) for length in range(len(greedy))}
    left = budget - len(always)
    lower, could = np.zeros(enumeration.rows), np.zeros(enumeration.rows)
    waiting: list[tuple[float, tuple[int, ...], bytes]] = [(1.0, (), b"")]
    while waiting:
        waiting.sort(key=lambda prefix: (prefix[1] in always, prefix[0]))
        mass, path, text = waiting.pop()
        done = list(enumeration.done[text])
        if path not in always and left <= 0:
            lower[done] += mass
            could[list(enumeration.possible(text) - enumeration.done[text])] += mass
            continue
        left -= path not in always
        probabilities = np.exp(enumeration.model.log_probabilities(path))
        moves = enumeration.moves(text)
        ends = [float(probabilities[end]) for end in enumeration.model.end_ids] if text in enumeration.final else []
        lower[done] += mass * (1 - sum(float(probabilities[token]) for token in moves) - sum(ends))
        for ended in ends:
            lower[list(enumeration.final[text])] += mass * ended
        waiting += [(mass * float(probabilities[token]), (*path, token), after) for token, after in moves.items()]
    return lower, lower + could


@examples(0.6)
@given(case=cases(), tolerance=st.sampled_from([0.5, 0.1, 0.0]), budget=st.sampled_from([1, 4, 20, EVERYTHING]))
def test_masses_add_up_and_estimators_agree(case: Case, tolerance: float, budget: int) -> None:
    guard = case.guard()
    scorer = Scorer(case.hashed, guard, Settings(tolerance=tolerance, node_budget=budget))
    search = scorer.search(HELLO)
    for masses in (search.raw, search.constrained):
        assert masses.closed + masses.off + masses.open == pytest.approx(1, abs=1e-6)
        assert min(masses.closed, masses.off, masses.open) >= -1e-9
    result = scored(case, guard, tolerance=tolerance, node_budget=budget).estimates
    named = result["greedy"].probability > 0
    assert set(result["greedy"].probability) <= {0.0, 1.0}
    for ending in ("", "_constrained"):
        conditional, joint = result[f"conditional{ending}"].probability, result[f"joint{ending}"].probability
        assert (joint <= conditional + 1e-12).all() and ((joint > 0) <= (conditional > 0)).all()
    assert (result["conditional"].probability[~named] == 0).all()


@examples(0.5)
@given(case=cases(), draw=st.data())
def test_labels_in_another_order_have_the_same_probabilities(case: Case, draw: st.DataObject) -> None:
    order = draw.draw(st.permutations(range(len(case.codes))))
    estimates = scored(case, tolerance=0, node_budget=EVERYTHING).estimates
    reordered = scored(case, case.guard(list(order)), tolerance=0, node_budget=EVERYTHING).estimates
    rows = [*order, len(case.codes)]
    for name, bounds in estimates.items():
        assert reordered[name].probability == pytest.approx(bounds.probability[rows], abs=1e-9), name


@cache
def tiny_scorer(seed: int) -> Scorer:
    case = Case(["S1", "S10", "A"], [["safe"], [{"verdict": "unsafe"}, "\n", {"labels": [","]}]], {}, 0)
    with tempfile.TemporaryDirectory() as folder:
        from marginalia.scoring.models.local_model import load_local

        model = load_local(str(save(Path(folder) / "m", seed, sharpness=2.0)))
    return Scorer(model, case.guard(), Settings(tolerance=0.01))


@examples(0.2)
@given(
    texts=st.lists(st.text("ab 1,", min_size=1, max_size=40), min_size=2, max_size=6),
    seed=st.integers(0, 1),
    together=st.integers(1, 6),
    draw=st.data(),
)
def test_batch_composition_and_order_change_nothing(
    texts: list[str], seed: int, together: int, draw: st.DataObject
) -> None:
    scorer = tiny_scorer(seed)
    records = [(f"r{number}", [{"role": "user", "content": text}]) for number, text in enumerate(texts)]
    scorer.settings = Settings(
        tolerance=0.01, batch_records=together, batch_tokens=draw.draw(st.sampled_from([1, 4096]))
    )
    results = {result.record_id: result for result in scorer.score_records(draw.draw(st.permutations(records)))}
    scorer.settings = Settings(tolerance=0.01, batch_records=1)
    for record_id, messages in records:
        (alone,) = scorer.score_records([(record_id, messages)])
        assert results[record_id].answer == alone.answer
        for name, bounds in alone.estimates.items():
            assert np.abs(results[record_id].estimates[name].probability - bounds.probability).max() < 1e-6, name
