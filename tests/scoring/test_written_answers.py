"""Guard files of every kind of piece, against the sums over all answers as they are written out from the YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import AddedToken

from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.label_categories import LabelCategories
from marginalia.scoring.language.code_unions import UnionLanguage
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.models.local_model import local_model
from marginalia.scoring.models.prefix_tree import ATTENTION
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.scoring import tiny
from tests.scoring.hashed import HashedModel, Vocabulary, byte_level
from tests.scoring.written_answers import Sums, Text, answers

SAFE, BAD, BAD_A, BAD_B = "<SAFE>", "<UNSAFE>", "<UNSAFE-A>", "<UNSAFE-B>"
SPECIALS = (SAFE, BAD, BAD_A, BAD_B)
A, B = {"a": "A"}, {"a": "A", "b": "B"}
C = {**B, "c": "AB"}
TWO_SIDES = {"user_x": "X", "user_y": "Y", "answer_x": "X", "answer_y": "Y"}


def token(text: str, *rows: str) -> dict[str, Any]:
    return {"token": text, **({"rows": [*rows]} if rows else {})}


def labels(*separators: str, **more: list[str]) -> dict[str, Any]:
    return {"labels": [*separators], **more}


def levels(*texts: Any, **rows: int) -> dict[str, Any]:
    return {"levels": [*texts], "rows": rows, "name": "severity"}


def integers(low: int, high: int, **rows: int) -> dict[str, Any]:
    return {"integers": [low, high], "rows": rows, "name": "score"}


NO = {"verdict": "no"}
USER, ANSWER = ["user_x", "user_y"], ["answer_x", "answer_y"]
GUARDS: dict[str, tuple[dict[str, str], list[list[Any]]]] = {
    "one special token": (B, [[token(SAFE)], [token(BAD_A, "a", "unsafe")], [token(BAD_B, "b", "unsafe")]]),
    "one of several tokens": (
        B,
        [[{"any": [token(SAFE), token(BAD_A, "a", "unsafe"), token(BAD_B, "b", "unsafe"), ""]}, "."]],
    ),
    "a token and a word for one row": (A, [["k"], [{"any": [token(BAD, "unsafe"), NO]}, ":", labels(",")]]),
    "a token between codes and text": (B, [[token(SAFE), "ok"], [token(BAD, "unsafe"), labels(","), token(SAFE)]]),
    "a token right after a list": (C, [["k"], [NO, ":", labels(","), token(BAD, "unsafe")]]),
    "a token that is part of another": (A, [[token(BAD)], [token(BAD_A, "a", "unsafe"), {"space": [" "]}]]),
    "lines of tokens": (
        {"a": "1", "b": "2"},
        [[{"any": [token(SAFE), token(BAD_A, "a", "unsafe")]}, {"any": [token(SAFE), token(BAD_B, "b", "unsafe")]}]],
    ),
    "a list that implies the verdict": (B, [["k"], [labels(",", implies=["unsafe"])]]),
    "a list that implies a label": (
        C,
        [["k"], [NO, ":", labels(",", rows=["a", "c"], implies=["b"]), {"space": [" "]}]],
    ),
    "codes within codes, implied": (C, [["k"], [labels(",", ", ", implies=["unsafe"]), "."]]),
    "a code that holds the separator, implied": ({"a": "A,B", "b": "A"}, [["k"], [labels(",", implies=["unsafe"])]]),
    "two sides": (
        TWO_SIDES,
        [["u:", {"any": ["none", labels(",", rows=USER)]}, ";r:", {"any": ["none", labels(",", rows=ANSWER)]}, NO]],
    ),
    "two sides that imply": (
        TWO_SIDES,
        [
            [
                {"any": ["n", [labels(",", rows=USER, implies=["unsafe"])]]},
                ";",
                {"any": ["n", [labels(",", rows=ANSWER, implies=["unsafe"])]]},
            ]
        ],
    ),
    "two lists of the same labels": (
        B,
        [["k"], [NO, ":", labels(",", rows=["a", "b"]), ";", labels(",", rows=["a", "b"])]],
    ),
    "two lists of which one implies": (
        B,
        [["k"], [labels(",", rows=["a", "b"]), ";", labels(",", rows=["a", "b"], implies=["unsafe"])]],
    ),
    "lists that overlap": (C, [["k", NO], [labels(",", rows=["a", "b"]), ";", labels(",", rows=["b", "c"])]]),
    "a list of what others leave": (C, [["k"], [NO, labels(",", rows=["a"]), ";", labels(",")]]),
    "a list without separator after another": (B, [["k"], [NO, labels(rows=["a"]), labels(",", rows=["a", "b"])]]),
    "a word for a label of a list": (
        B,
        [["k"], [{"word": "x", "rows": ["a"]}, ":", labels(",", rows=["a", "b"], implies=["unsafe"])]],
    ),
    "levels": (B, [["s:", levels("none", "low", "high", a=1, b=2, unsafe=2)]]),
    "levels that begin others": (
        B,
        [["s:", levels("n", "no", "not", a=1, unsafe=2), {"any": ["", ";", NO]}, ":", labels(",")]],
    ),
    "levels of tokens": (B, [[levels({"token": SAFE}, {"token": BAD_A}, {"token": BAD_B}, a=1, b=2, unsafe=1)]]),
    "levels of words and tokens": (A, [[levels("ok", {"token": BAD_A}, "bad", a=2, unsafe=1), {"space": ["\n"]}]]),
    "levels without rows": (A, [["k"], [NO, levels("x", "y", "z"), labels(",")]]),
    "levels in some answers only": (A, [["k"], [NO, ":", labels(",")], [NO, "!", levels("x", "y", unsafe=1)]]),
    "integers": ({"a": "x"}, [["h=", integers(0, 12, a=5, unsafe=10)]]),
    "integers to twenty, and text after them": (
        {"a": "x", "b": "y"},
        [["h=", integers(0, 20, a=1, b=15, unsafe=20), "0!"]],
    ),
    "integers from three on": ({"a": "x"}, [[integers(3, 11, a=4, unsafe=9), {"optional": [".", NO]}]]),
    "integers with digits after them": ({"a": "x"}, [[integers(0, 12, a=2, unsafe=7), {"any": ["", "1"]}, "."]]),
    "a level and an integer": (
        {"a": "x"},
        [[levels("lo", "hi", a=1), ",", {"any": ["", [integers(0, 3, unsafe=2), "."]]}]],
    ),
    "an optional sequence": (C, [["k"], [NO, {"optional": [":", labels(",")]}, "."]]),
    "optional sequences in others": (
        B,
        [["k"], [NO, {"optional": [" ", {"optional": ["(", labels(","), ")"]}, "!"]}, {"optional": [token(BAD)]}]],
    ),
    "a choice between sequences": (
        B,
        [[{"any": [["k", {"space": [" "]}], [NO, ":", labels(",")], token(BAD_A, "a", "unsafe"), ""]}, "."]],
    ),
    "an optional list that implies": (C, [["x", {"optional": ["|", labels(",", implies=["unsafe"])]}, "|"]]),
    "all together": (
        {**B, "worst": "W"},
        [
            [
                {"any": [token(SAFE), [token(BAD), levels("1", "2", "3", worst=2, unsafe=1)]]},
                {"optional": [":", labels(",", rows=["a", "b"], implies=["unsafe"])]},
            ]
        ],
    ),
}
MERGES = (("n", "o"), ("A", ","), (",", "A"), ("A", "B"), (":", "A"), ("1", "2"), ("1", "0"), ("2", "0"), ("0", "!"))
MERGES += (("X", ","), (";", "r"), ("=", "1"), ("k", " "), ("l", "o"), ("lo", "w"), ("no", ":"), ("|", "|"))
VOCABULARIES = {
    "bytes": byte_level(special=SPECIALS),
    "merges": byte_level(MERGES, ("no:A", "1.", "B;", "e;", "12"), SPECIALS),
}
CASES = [(name, vocabulary) for name in GUARDS for vocabulary in VOCABULARIES]
BUDGETS = (1, 3, 10, 10**6)


def content(name: str) -> dict[str, Any]:
    codes, answer = GUARDS[name]
    return {
        "guard": "written",
        "title": "T",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": codes,
        "prompt": {"message": "{{ conversation[0].content }}"},
        "answer": answer,
    }


def taxonomy(folder: Path, name: str, ids: list[str]) -> Path:
    shown = [{"id": label, "name": label, "definition": "x"} for label in ids]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"id": name, "version": "1", "title": "T", "subject": "texts", "labels": shown}))
    return path


def written(folder: Path, name: str) -> Guard:
    """The guard, from a file in this folder."""
    taxonomy(folder, "taxonomy", list(content(name)["labels"]))
    (folder / "guard.yaml").write_text(yaml.safe_dump(content(name), sort_keys=False))
    return load_guard(str(folder / "guard.yaml"))


def drawn(name: str, vocabulary: Vocabulary, seed: int) -> HashedModel:
    written = frozenset(part for answer in answers(content(name)) for part in answer.text if isinstance(part, int))
    return HashedModel(vocabulary, seed=seed, favoured=written, favour=6.0)


def symbols(vocabulary: Vocabulary) -> dict[int, Text]:
    ordinary = {number: tuple(text) for number, text in vocabulary.texts.items() if text}
    return {**ordinary, **{number: (text,) for number, text in vocabulary.specials.items()}}


def scored(scorer: Scorer, **settings: Any) -> Result:
    scorer.settings = Settings(**settings)
    (result,) = scorer.score_records([("a", [{"role": "user", "content": "hello"}])])
    assert result.error is None
    return result


def check(scorer: Scorer, truth: dict[str, Any], rows: list[tuple[int, int]], slack: float = 1e-9) -> int:
    """All estimates, and all bounds, against `truth`. `rows`: of each of the guard's rows, the index in `truth` of its
    lower and of its upper value; `slack`: of the bounds, for the numerics of forward passes. Returns how many exact
    values were compared."""
    lower, upper = (np.array(column) for column in zip(*rows, strict=True))
    exact = scored(scorer, tolerance=0, node_budget=10**6)
    compared = 0
    for estimator in MARGINALS:
        bounds = exact.estimates[estimator]
        assert bounds.lower == pytest.approx(truth[estimator][lower], abs=1e-6), estimator
        assert bounds.upper == pytest.approx(truth[estimator][upper], abs=1e-6), estimator
        compared += 2 * len(rows) if (lower != upper).any() else len(rows)
        for name, expected in truth["levels", estimator].items():
            assert level(exact, estimator, name) == pytest.approx([expected] * 3, abs=1e-5), estimator
            compared += 1
    assert (exact.off_language or 0) + (exact.unexplored or 0) == pytest.approx(truth["off"], abs=1e-5)
    for tolerance in (0.3, 0.02):
        for budget in BUDGETS:
            result = scored(scorer, tolerance=tolerance, node_budget=budget)
            for estimator in MARGINALS:
                bounds = result.estimates[estimator]
                assert (bounds.lower <= truth[estimator][lower] + slack).all(), (estimator, budget)
                assert (bounds.upper >= truth[estimator][upper] - slack).all(), (estimator, budget)
                for name, expected in truth["levels", estimator].items():
                    value, low, high = level(result, estimator, name)
                    assert low - slack <= expected <= high + slack and low <= value <= high, (estimator, name, budget)
    return compared


def level(result: Result, estimator: str, name: str) -> list[float]:
    (found,) = (row for row in result.levels or () if (row["name"], row["estimator"]) == (name, estimator))
    return [found["expected"], found["lower"], found["upper"]]


@pytest.mark.parametrize(("name", "vocabulary"), CASES)
def test_every_row_and_expected_value(tmp_path: Path, name: str, vocabulary: str) -> None:
    file, guard = content(name), written(tmp_path, name)
    model = drawn(name, VOCABULARIES[vocabulary], seed=len(name))
    own = {row: frozenset({row}) for row in (*file["labels"], "unsafe")}
    scorer = Scorer(model, guard)
    truth = Sums(file, symbols(model.vocabulary), own).run(model)
    assert check(scorer, truth, [(row, row) for row in range(len(own))]) >= 3 * len(own)


@pytest.mark.parametrize(("name", "vocabulary"), [case for case in CASES if len(GUARDS[case[0]][0]) > 1])
def test_labels_of_a_policy(tmp_path: Path, name: str, vocabulary: str) -> None:
    """Unions of the guard's rows, each of which may be a union of codes itself."""
    file = content(name)
    ids = list(file["labels"])
    written(tmp_path, name)
    meanings: dict[str, Any] = {"all": {"any_of": ids}, "last": {"any_of": ids[-1:]}}
    meanings["wide"] = {"any_of": ids[:1], "part_of": ids[1:]}
    policy = load_taxonomy(str(taxonomy(tmp_path, "policy", [*meanings, "other"])))
    guard = load_guard(str(tmp_path / "guard.yaml"), policy, categories=LabelCategories.model_validate(meanings))
    assert isinstance(guard.language, UnionLanguage) and guard.rows == (*meanings, "unsafe")
    model = drawn(name, VOCABULARIES[vocabulary], seed=len(name) + 1)
    unions = {
        "all": frozenset(ids),
        "last": frozenset(ids[-1:]),
        "wide lower": frozenset(ids[:1]),
        "wide upper": frozenset(ids),
        "unsafe": frozenset({"unsafe"}),
    }
    truth = Sums(file, symbols(model.vocabulary), unions).run(model)
    check(Scorer(model, guard), truth, [(0, 0), (1, 1), (2, 3), (4, 4)])


AMBIGUOUS = (  # the same text can be read in several ways: there a prefix may seem to allow more than it does
    "a code that holds the separator, implied",
    "levels that begin others",
    "integers",
    "integers to twenty, and text after them",
    "integers from three on",
    "integers with digits after them",
)


@pytest.mark.parametrize("name", GUARDS)
def test_masks_of_every_prefix(tmp_path: Path, name: str) -> None:
    """A row is done, can still be completed, and can still be avoided exactly where the written answers say so."""
    file, guard = content(name), written(tmp_path, name)
    language = guard.language
    rows = [*file["labels"], "unsafe"]
    sums = Sums(file, {}, {row: frozenset({row}) for row in rows})
    for prefix, (done, _) in sums.done.items():
        numbers = [256 + language.specials.index(part) if isinstance(part, str) else part for part in prefix]
        state = language.walk(numbers)[len(prefix)]
        ends = [final for text, (final, _) in sums.final.items() if text[: len(prefix)] == prefix]
        for number, row in enumerate(rows):
            expected = (
                row in done,
                row not in done and any(row in final for final in ends),
                any(row not in final for final in ends),
            )
            seen = tuple(bool(mask >> number & 1) for mask in (state.done, state.could, state.without))
            if name in AMBIGUOUS:
                assert seen[0] == expected[0] and seen[1] >= expected[1] and seen[2] >= expected[2], (prefix, row)
            else:
                assert seen == expected, (prefix, row)


@pytest.mark.parametrize("name", ["all together", "two sides that imply", "levels of tokens", "integers"])
def test_samples_and_label_steps(tmp_path: Path, name: str) -> None:
    file, guard = content(name), written(tmp_path, name)
    model = drawn(name, VOCABULARIES["merges"], seed=5)
    rows = [*file["labels"], "unsafe"]
    truth = Sums(file, symbols(model.vocabulary), {row: frozenset({row}) for row in rows}).run(model)
    scorer = Scorer(model, guard)
    found = scored(scorer, estimators=("monte_carlo", "max_over_steps"), samples=4000, tolerance=0, node_budget=10**6)
    assert found.estimates["monte_carlo"].probability == pytest.approx(truth["marginal"], abs=0.04)
    assert len(found.estimates["max_over_steps"].probability) == len(rows)
    assert found.levels == ([] if "name" in str(file["answer"]) else None)  # only marginals have expected values


class Passes:
    """A transformers model by whole forward passes without a cache. `prompt`: the ids before every answer."""

    def __init__(self, network: Any, prompt: list[int], end_ids: tuple[int, ...]) -> None:
        self.network, self.prompt, self.end_ids = network, prompt, end_ids

    def log_probabilities(self, path: Any) -> np.ndarray:
        with torch.no_grad():
            logits = self.network(input_ids=torch.tensor([[*self.prompt, *path]])).logits[0, -1]
        return logits.double().log_softmax(-1).numpy()


@pytest.mark.parametrize(
    "name", ["one special token", "lines of tokens", "levels of tokens", "an optional list that implies"]
)
def test_a_real_network_with_special_tokens(tmp_path: Path, name: str) -> None:
    file, guard = content(name), written(tmp_path, name)
    fast = tiny.tokenizer()
    fast.add_tokens([AddedToken(text, special=True) for text in SPECIALS], special_tokens=True)
    network = tiny.model(3, sharpness=2.0, vocab_size=len(fast))
    with torch.no_grad():  # special tokens are otherwise as improbable as all others
        network.lm_head.weight[tiny.END + 2 :] *= 2.0
    scorer = Scorer(local_model(network, fast, "tiny", "none"), guard)
    prompt = scorer.prompts.build([{"role": "user", "content": "hello"}]).ids
    network.set_attn_implementation("sdpa")
    own = {row: frozenset({row}) for row in (*file["labels"], "unsafe")}
    ordinary = tiny.Oracle(network, fast, [tiny.END], {}).texts
    spelled = {number: tuple(text) for number, text in ordinary.items() if text}
    spelled |= {fast.convert_tokens_to_ids(text): (text,) for text in SPECIALS}
    truth = Sums(file, spelled, own).run(Passes(network, prompt, (tiny.END,)))
    network.set_attn_implementation(ATTENTION)
    check(scorer, truth, [(row, row) for row in range(len(own))], slack=1e-5)
