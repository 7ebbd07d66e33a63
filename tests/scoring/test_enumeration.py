"""Answer languages of many kinds over vocabularies of many kinds, against the enumeration of all answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from marginalia.scoring.guard import load_guard
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.scoring.enumeration import Enumeration, readings
from tests.scoring.hashed import HashedModel, Vocabulary, byte_level, sentencepiece


def labels(*separators: str) -> dict[str, list[str]]:
    return {"labels": [*separators]}


def space(*texts: str) -> dict[str, list[str]]:
    return {"space": [*texts]}


def verdict(word: str) -> dict[str, str]:
    return {"verdict": word}


LANGUAGES: dict[str, tuple[list[str], list[list[Any]]]] = {
    "codes that start like others": (["S1", "S2", "S10"], [["ok"], [verdict("no"), "\n", labels(",")]]),
    "codes within codes": (["a", "aa", "ab", "b"], [["k"], [verdict("n"), ":", labels(",")]]),
    "separators that start alike": (["A", "B", "C"], [["k"], [verdict("n"), "\n", labels(",", ", ")]]),
    "a code that holds the separator": (["a,b", "a", "c"], [["k"], [verdict("n"), "\n", labels(",")]]),
    "a code with a line break": (["a\nb", "a", "c"], [["k"], [verdict("n"), "\n", labels("\n")]]),
    "codes of several bytes": (["é", "è", "日本"], [["ü"], [verdict("ñ"), "\n", labels("、")]]),
    "text after the codes": (["A", "B", "A b"], [['{"u"}'], ['{"', verdict("n"), '":["', labels('","'), '"]}']]),
    "text that starts like a separator": (["a", "b"], [["k"], [verdict("n"), labels(","), ",!"]]),
    "a verdict that another answer starts with": (["a", "b", "c"], [["uns"], [verdict("un"), labels(",")], ["x"]]),
    "a verdict inside another answer": (
        ["a", "b"],
        [["safe"], ["sa", verdict("d"), "\n", labels(",")], [verdict("saf"), "\n", labels(",")]],
    ),
    "a verdict after the codes": (["a", "b"], [["n:", labels(","), ";", verdict("bad")], ["n:", labels(","), ";ok"]]),
    "an end that may follow or not": (
        ["a", "b"],
        [["k", {"any": ["", "\nR: Y"]}], ["S: ", {"any": [verdict("U"), verdict("C")]}, "\n", labels(", ")]],
    ),
    "words": (
        ["h", "r"],
        [
            [
                "h:",
                {"any": [{"word": "y", "rows": ["l0", "unsafe"]}, "n"]},
                "\nr:",
                {"any": [{"word": "y", "rows": ["l1"]}, "n", "N/A"]},
            ]
        ],
    ),
    "words that run into each other": (
        ["h", "r"],
        [
            [
                {"any": [{"word": "yes", "rows": ["l0"]}, "ye"]},
                {"any": [{"word": "s", "rows": ["l1", "unsafe"]}, "ss", "n"]},
            ]
        ],
    ),
    "one code, no separator": (["a", "ab", "b"], [["k"], [verdict("n"), labels()]]),
    "a separator that is a code": (["a", "aa"], [["k"], [verdict("n"), labels("a")]]),
    "white space anywhere": (
        ["S1", "S10"],
        [
            [space("\n\n", " "), "s", space("\n", "\n\n")],
            [space("\n\n"), verdict("un"), space(" "), "\n", labels(",", ", "), space(" ", "\n")],
        ],
    ),
    "white space that is a separator": (
        ["a", "b", "ab"],
        [["k", space(" ")], [verdict("n"), space("\n"), "\n", labels(" ", ","), space(" ", "  ")]],
    ),
    "white space that is part of codes": (
        ["a", " a", "b "],
        [["k"], [verdict("n"), space(" ", "\n"), labels(","), space(" "), ";", space("\n")]],
    ),
    "white space before a word": (
        ["h", "r"],
        [
            [
                "h:",
                space(" "),
                {"any": [{"word": "y", "rows": ["l0", "unsafe"]}, "n", " n"]},
                space("\n"),
                {"any": ["", {"word": " y", "rows": ["l1"]}]},
                space("\n", " "),
            ]
        ],
    ),
    "a verdict without codes": (["a", "b"], [["k"], [verdict("n")], [verdict("n"), ":", labels(",")]]),
}
MERGES = (("o", "k"), ("n", "\n"), ("S", "1"), ("S1", "0"), (",", "S"), (",", " "), ("a", "b"), ("n", "a"), ("a", ","))
MERGES += (
    ("\n", "\n"),
    ("\n\n", "s"),
    (" ", "S"),
    ("1", " "),
    ("n", " "),
    ("b", " "),
    (" ", "a"),
    (" ", " "),
    (" ", "y"),
)
MERGES += (("s", "a"), ("sa", "f"), ('"', ","), ('"', "]"), ("y", "\n"), ("A", ","), ("u", "n"), ("un", "a"))
VOCABULARIES = {
    "bytes": byte_level(),
    "merges": byte_level(MERGES),
    "tokens over borders": byte_level(
        (("o", "k"),),
        ("n\nS1", "no\n", "ok", "na,b", "k", ",b", "\na\n", "\n\nun", "1 ", ", S", "k ", "\n\n", " a,", " y\n"),
    ),
    "sentencepiece": sentencepiece(("ok", "no", "S1", " ok", ",S", "na", "a,", "ab", "\n")),
}

# too many token sequences where every byte has a second token
TOO_MANY = ("codes that start like others", "codes within codes", "white space anywhere")
TOO_MANY += ("white space that is a separator", "white space that is part of codes")
CASES = [
    (language, vocabulary)
    for language in LANGUAGES
    for vocabulary in VOCABULARIES
    if vocabulary != "sentencepiece" or language not in TOO_MANY
]


def made(tmp_path: Path, name: str, vocabulary: Vocabulary, **model: Any) -> tuple[Scorer, Enumeration]:
    codes, answer = LANGUAGES[name]
    ids = [f"l{number}" for number in range(len(codes))]
    shown = [{"id": label, "name": label, "definition": "x"} for label in ids]
    taxonomy = {"id": "tiny", "version": "1", "title": "T", "subject": "texts", "labels": shown}
    guard = {
        "guard": "tiny",
        "title": "T",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": dict(zip(ids, codes, strict=True)),
        "prompt": {"message": "{{ conversation[0].content }}"},
        "answer": answer,
    }
    (tmp_path / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    (tmp_path / "guard.yaml").write_text(yaml.safe_dump(guard, allow_unicode=True))
    all_readings = list(readings(answer, codes))
    drawn = HashedModel(vocabulary, favoured=frozenset(b"".join(reading.text for reading in all_readings)), **model)
    scorer = Scorer(drawn, load_guard(str(tmp_path / "guard.yaml")), Settings(tolerance=0, node_budget=10**6))
    return scorer, Enumeration(drawn, all_readings, len(codes) + 1)


def scored(scorer: Scorer, **settings: Any) -> Result:
    scorer.settings = Settings(**settings)
    (result,) = scorer.score_records([("a", [{"role": "user", "content": "hello"}])])
    assert result.error is None
    return result


@pytest.mark.parametrize(("name", "vocabulary"), CASES)
def test_every_estimator_is_what_enumeration_finds(tmp_path: Path, name: str, vocabulary: str) -> None:
    scorer, enumeration = made(tmp_path, name, VOCABULARIES[vocabulary], seed=1)
    truth = enumeration.run()
    result = scored(scorer, tolerance=0, node_budget=10**6)
    for estimator in MARGINALS:
        assert result.estimates[estimator].probability == pytest.approx(truth[estimator], abs=1e-6), estimator
    assert (result.off_language or 0) + (result.unexplored or 0) == pytest.approx(truth["off"], abs=1e-5)
    for ending in ("", "_constrained"):
        explained = enumeration.along(constrained=bool(ending))
        names = ["conditional", "joint"] if ending else ["greedy", "conditional", "joint"]
        ours = {estimator: result.estimates[estimator + ending].probability for estimator in names}
        assert any(
            all(np.allclose(ours[estimator], tables[estimator], atol=1e-6) for estimator in names)
            for tables in explained
        ), (
            ours,
            explained,
        )
    for tolerance in (0.3, 0.01):
        for budget in (1, 2, 5, 10**6):
            _check_bounds(scored(scorer, tolerance=tolerance, node_budget=budget), truth, tolerance)


def _check_bounds(result: Result, truth: dict[str, Any], tolerance: float) -> None:
    widest = 0.0
    for estimator in MARGINALS:
        bounds = result.estimates[estimator]
        assert (bounds.lower <= truth[estimator] + 1e-9).all(), estimator
        assert (bounds.upper >= truth[estimator] - 1e-9).all(), estimator
        assert (bounds.lower >= 0).all() and (bounds.upper <= 1).all()
        assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all()
        widest = max(widest, float((bounds.upper - bounds.lower).max()))
    assert (result.stopped == "tolerance") == (widest <= tolerance + 1e-9)


@pytest.mark.parametrize("name", ["words", "text after the codes", "a verdict inside another answer"])
def test_hardly_any_mass_inside_the_language(tmp_path: Path, name: str) -> None:
    """A model far from its format, 1e-12 and less inside: rounding errors of larger masses must not replace it."""
    scorer, enumeration = made(tmp_path, name, VOCABULARIES["bytes"], seed=2, favour=0.0, spread=3.0)
    truth = enumeration.run()
    exact = scored(scorer, tolerance=0, node_budget=10**6).estimates["marginal_in_language"]
    assert exact.probability == pytest.approx(truth["marginal_in_language"], abs=1e-6)
    assert (exact.upper - exact.lower).max() < 1e-6
    for tolerance in (0.5, 0.01):
        for budget in (2, 10**6):
            _check_bounds(scored(scorer, tolerance=tolerance, node_budget=budget), truth, tolerance)
