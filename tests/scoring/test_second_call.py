"""Guards with a second call: every estimator against the enumeration of the answers to both calls."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.command import main
from marginalia.scoring.engines.portable_request import portable
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.guard_check import check_guard
from marginalia.scoring.label_categories import LabelCategories
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.off_format import off_format_notes, outside_format
from marginalia.scoring.score_files import origin_of, scorer_fingerprint
from marginalia.scoring.score_request import BASELINE_NAMES, ESTIMATOR_NAMES, ScoreRequest
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.enumeration import Enumeration, readings
from tests.scoring.hashed import HashedModel
from tests.scoring.test_enumeration import VOCABULARIES
from tests.scoring.tiny import save
from tests.scoring.two_faced import SECOND, TwoEnumerations, TwoFaced

CODES = ["A", "B", "AB", "C"]
ROWS = len(CODES) + 1
EVERY = (*ESTIMATOR_NAMES, *BASELINE_NAMES)
EVERYTHING = Settings(tolerance=0, node_budget=10**6)
RECORD = ("a", [{"role": "user", "content": "x"}])


def bad(*rows: str) -> dict[str, Any]:
    return {"word": "b", "rows": [*rows]}


# name: (after, first answer, second answer, rows of the second call)
CASES: dict[str, tuple[str, list[list[Any]], list[list[Any]], list[int]]] = {
    "a verdict, then its codes": (
        "unsafe",
        [["N"], [{"verdict": "Y"}, {"any": ["", " m"]}]],
        [[{"labels": [",", ", "]}, {"any": ["", "."]}]],
        [0, 1, 2, 3],
    ),
    "no codes, or a list of them": (
        "unsafe",
        [["no"], ["n", {"verdict": "Y"}]],
        [["k"], [":", {"labels": [","]}]],
        [0, 1, 2, 3],
    ),
    "after a word for a label": (
        "l1",
        [["k"], [bad("l0", "unsafe"), {"any": ["", {"word": "!", "rows": ["l1"]}]}]],
        [[{"any": ["n", {"word": "y", "rows": ["l2"]}]}, {"any": ["", {"word": "z", "rows": ["l3", "l0"]}]}]],
        [2, 3],
    ),
    "codes in both": (
        "unsafe",
        [["k"], [{"verdict": "n"}, {"word": "a", "rows": ["l0"]}]],
        [[{"labels": []}]],
        [1, 2, 3],
    ),
}


def guard_in(folder: Path, name: str, **changes: Any) -> Path:
    after, first, second, _ = CASES[name]
    labels = [{"id": f"l{n}", "name": f"Label {n}", "definition": "x"} for n in range(len(CODES))]
    taxonomy = {"id": "tiny", "version": "1", "title": "Tiny", "subject": "texts", "labels": labels}
    file = {
        "guard": "tiny",
        "title": "Tiny",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": {f"l{n}": code for n, code in enumerate(CODES)},
        "prompt": {"message": "{{ conversation[0].content }}"},
        "answer": first,
        "second": {
            "after": after,
            "prompt": {"message": "{{ conversation[0].content }} {{ verdict }} " + SECOND},
            "answer": second,
        },
        **changes,
    }
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    (folder / "guard.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    return folder / "guard.yaml"


def answers(name: str) -> tuple[list[Any], list[Any]]:
    _, first, second, _ = CASES[name]
    return list(readings(first, CODES)), list(readings(second, CODES))


def model_of(name: str, vocabulary: str, seed: int, **options: Any) -> TwoFaced:
    models = [
        HashedModel(
            VOCABULARIES[vocabulary], seed + number, frozenset(b"".join(reading.text for reading in found)), **options
        )
        for number, found in enumerate(answers(name))
    ]
    return TwoFaced(models[0].vocabulary, models[0].seed, models[0].favoured, other=models[1], **options)


def made(
    folder: Path, name: str, vocabulary: str = "merges", seed: int = 0, **options: Any
) -> tuple[Scorer, TwoEnumerations]:
    model = model_of(name, vocabulary, seed, **options)
    assert model.other is not None
    after, _, _, of_second = CASES[name]
    first, second = answers(name)
    row = len(CODES) if after == "unsafe" else int(after[1:])
    oracle = TwoEnumerations(Enumeration(model, first, ROWS), Enumeration(model.other, second, ROWS), row, of_second)
    return Scorer(model, load_guard(str(guard_in(folder, name))), EVERYTHING), oracle


def scored(scorer: Scorer, **settings: Any) -> Result:
    scorer.settings = EVERYTHING.model_copy(update=settings)
    (result,) = scorer.score_records([RECORD])
    assert result.error is None, result.error
    return result


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("name", CASES)
def test_every_estimator_is_what_enumeration_finds(tmp_path: Path, name: str, vocabulary: str, seed: int) -> None:
    scorer, oracle = made(tmp_path, name, vocabulary, seed)
    truth = oracle.marginals()
    exact = scored(scorer, estimators=EVERY)
    for estimator in MARGINALS:
        found = exact.estimates[estimator]
        assert found.probability == pytest.approx(truth[estimator], abs=1e-7), estimator
        assert found.lower == pytest.approx(truth[estimator], abs=1e-7)
        assert found.upper == pytest.approx(truth[estimator], abs=1e-7)
    for ending in ("", "_constrained"):
        names = ["conditional", "joint"] if ending else ["greedy", "conditional", "joint"]
        assert any(
            all(exact.estimates[each + ending].probability == pytest.approx(tables[each], abs=1e-7) for each in names)
            for tables in oracle.along(constrained=bool(ending))
        ), ending
    assert exact.estimates["max_over_steps"].probability == pytest.approx(oracle.over_steps(), abs=1e-7)
    greedy = exact.estimates["greedy"].probability
    assert exact.predicted == [f"l{row}" for row in range(len(CODES)) if greedy[row]]
    assert exact.off_language == pytest.approx(oracle.off(), abs=1e-7)
    assert list(scorer.model.calls) == [1, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CASES)
def test_bounds_hold_at_every_tolerance_and_budget(tmp_path: Path, name: str) -> None:
    scorer, oracle = made(tmp_path, name)
    truth, over_steps = oracle.marginals(), oracle.over_steps()
    for tolerance in (0.5, 0.1, 0.01):
        for budget in (1, 2, 5, 10**6):
            found = scored(scorer, tolerance=tolerance, node_budget=budget, estimators=(*MARGINALS, "max_over_steps"))
            for estimator, values in {**truth, "max_over_steps": over_steps}.items():
                bounds = found.estimates[estimator]
                assert (bounds.lower <= values + 1e-9).all() and (values <= bounds.upper + 1e-9).all(), estimator
                assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all()
                if found.stopped != "node_budget" and estimator in MARGINALS:
                    assert (bounds.upper - bounds.lower).max() <= tolerance + 1e-9


def test_samples_of_both_answers(tmp_path: Path) -> None:
    """Pairs of independent samples: their share is the product of the two probabilities, up to chance."""
    scorer, oracle = made(tmp_path, "a verdict, then its codes", seed=11, spread=1.0, favour=6.0)
    samples = 20_000
    found = scored(scorer, estimators=("monte_carlo",), samples=samples).estimates["monte_carlo"]
    truth = oracle.marginals()["marginal"]
    assert truth[:4].max() > 0.04
    assert (np.abs(found.probability - truth) <= 4.5 * np.sqrt(truth * (1 - truth) / samples)).all()
    assert (found.lower <= found.probability).all() and (found.probability <= found.upper).all()
    counts = found.probability * samples
    assert counts == pytest.approx(np.round(counts), abs=1e-6)


def leading(folder: Path, probability: float, **settings: Any) -> tuple[Scorer, Result]:
    """A guard whose first answer leads to the second call with about this probability."""
    scorer, _ = made(folder, "a verdict, then its codes", "bytes")
    first = scorer.model
    values = np.full(len(first.tokenizer), -50.0)
    values[ord("Y")], values[ord("N")] = np.log(probability), np.log(1 - probability)
    first.known[()] = values - np.log(np.exp(values).sum())  # type: ignore[attr-defined]
    return scorer, scored(scorer, **settings)


def test_an_unlikely_second_call_is_not_made(tmp_path: Path) -> None:
    scorer, result = leading(tmp_path, 1e-5, tolerance=1e-3, estimators=EVERY)
    assert scorer.model.calls == [1, 0]  # type: ignore[attr-defined]
    for name in MARGINALS:
        after = result.estimates[name].upper[-1]
        assert 1e-6 < after < 1e-3
        assert result.estimates[name].probability[:4].tolist() == [0.0] * 4
        assert result.estimates[name].lower[:4].tolist() == [0.0] * 4
        assert result.estimates[name].upper[:4].tolist() == [after] * 4
    for name in ("greedy", "conditional", "joint", "max_over_steps"):
        assert result.estimates[name].upper[:4].tolist() == [0.0] * 4
    assert result.estimates["monte_carlo"].probability[:4].tolist() == [0.0] * 4
    assert result.estimates["monte_carlo"].upper[:4].max() < 0.2
    assert str(result.answer).startswith("first: N")
    assert "second: " not in str(result.answer)
    assert result.predicted == []


def test_a_likely_one_is_made(tmp_path: Path) -> None:
    scorer, result = leading(tmp_path, 0.9, tolerance=1e-3, estimators=("marginal",))
    assert scorer.model.calls == [1, 1]  # type: ignore[attr-defined]
    assert result.estimates.keys() == {"marginal"}
    assert str(result.answer).startswith("first: Y")
    assert "\nsecond: " in str(result.answer)


def test_a_sample_that_leads_to_the_second_call_asks_it(tmp_path: Path) -> None:
    scorer, _ = leading(tmp_path, 0.01, tolerance=0.5, estimators=("monte_carlo",), samples=2000)
    assert scorer.model.calls == [1, 1]  # type: ignore[attr-defined]


MEANINGS: dict[str, Any] = {
    "first_only": ["l0"],
    "union": ["l1", "l2", "l3"],
    "mixed": ["l0", "l3"],
    "part": {"part_of": ["l1", "l2"]},
    "mixed_part": {"any_of": ["l3"], "part_of": ["l0"]},
}


def stated(meanings: dict[str, Any]) -> dict[str, Any]:
    return {label: {"any_of": meaning} if isinstance(meaning, list) else meaning for label, meaning in meanings.items()}


def of_policy(folder: Path, name: str) -> Guard:
    shown = [{"id": label, "name": label, "definition": "x"} for label in [*MEANINGS, "uncovered"]]
    policy = {"id": "policy", "version": "1", "title": "P", "subject": "texts", "labels": shown}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    return load_guard(
        str(guard_in(folder, name)),
        load_taxonomy(str(folder / "policy.yaml")),
        categories=LabelCategories.model_validate(stated(MEANINGS)),
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_labels_of_a_policy(tmp_path: Path, seed: int) -> None:
    """Unions within a call are exact; of categories of both calls, and wider categories, there are bounds."""
    name = "codes in both"
    guard = of_policy(tmp_path, name)
    assert guard.coverage is not None
    kinds = {row.label: row.kind for row in guard.coverage.labels}
    assert kinds == {
        "first_only": "exact",
        "union": "union",
        "mixed": "bounds",
        "part": "bounds",
        "mixed_part": "bounds",
    }
    model = model_of(name, "merges", seed)
    result = scored(Scorer(model, guard, EVERYTHING), estimators=EVERY)
    _, oracle = made(tmp_path, name, "merges", seed)
    for estimator in MARGINALS:
        first, second = oracle.first.run(), oracle.second.run()
        after = first[estimator][4]  # type: ignore[index]
        # one code at a time in the second answer: its union is the sum
        codes = after * np.array(second[estimator])
        found = result.estimates[estimator]
        rows = dict(zip(guard.rows, zip(found.probability, found.lower, found.upper, strict=True), strict=True))
        alone = float(first[estimator][0])  # type: ignore[index]
        assert rows["first_only"] == pytest.approx([alone] * 3, abs=1e-7)
        assert rows["union"] == pytest.approx([codes[1:4].sum()] * 3, abs=1e-7)
        assert rows["unsafe"] == pytest.approx([after] * 3, abs=1e-7)
        for label, low, high in (
            ("mixed", max(alone, codes[3]), min(alone + codes[3], 1.0)),
            ("part", 0.0, codes[1] + codes[2]),
            ("mixed_part", codes[3], min(alone + codes[3], 1.0)),
        ):
            assert np.isnan(rows[label][0])
            assert rows[label][1:] == pytest.approx([low, high], abs=1e-7), label
    greedy = result.estimates["greedy"]
    row = guard.rows.index("mixed")
    assert greedy.lower[row] == greedy.upper[row]
    assert ("mixed" in (result.predicted or [])) == bool(greedy.lower[row])


def test_what_the_prompts_of_both_calls_know(tmp_path: Path) -> None:
    guard = load_guard(str(guard_in(tmp_path, "after a word for a label")))
    assert list(guard.calls) == ["first", "second"]
    assert guard.calls["first"].verdict is None
    assert guard.calls["second"].verdict == "!"
    scorer, _ = made(tmp_path, "after a word for a label")
    second = scorer.calls["second"].prompts
    assert second.tokenizer.decode(second.build(RECORD[1]).ids) == "x ! Which?\n"
    with pytest.raises(InputError, match="is asked twice about each record"):
        scorer.search(RECORD[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"after": "unsfe"}, "line 19: second: 'after' names the unknown row 'unsfe'; did you mean 'unsafe'"),
        ({"after": "l0"}, "second: no first answer completes 'l0'"),
        ({"answer": [["k"]]}, "second: its answer completes no row that the first answer does not complete"),
        ({"answer": [["k"], [{"word": "x", "rows": ["l0"]}]]}, "second: no answer of either call completes 'l1'"),
        ({"answer": [["k"], [{"word": "x", "rows": ["l9"]}]]}, "second: a word has the unknown row 'l9'"),
        ({"answer": [["k"], [{"wrd": "x", "rows": ["l0"]}]]}, "a piece of an answer has the unknown key 'wrd'"),
        (
            {"prompt": {"message": "{{ verdct }}"}},
            "second.prompt.message: the template uses the unknown variable 'verd",
        ),
        ({"promt": {}}, "unknown key 'promt'; did you mean 'prompt'"),
    ],
)
def test_second_calls_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = guard_in(tmp_path, "a verdict, then its codes")
    file = yaml.safe_load(path.read_text())
    file["second"] |= changes
    path.write_text(yaml.safe_dump(file, sort_keys=False))
    with pytest.raises(InputError, match=message):
        load_guard(str(path))


def test_no_second_call_with_one_policy_per_call(tmp_path: Path) -> None:
    path = guard_in(tmp_path, "a verdict, then its codes", calls="per_label", answer=[["N"], [{"verdict": "Y"}]])
    with pytest.raises(InputError, match="'second' is not for guards with calls: per_label"):
        load_guard(str(path))


def test_codes_by_position(tmp_path: Path) -> None:
    """The labels come from the user's taxonomy; the first answer has no list of codes."""
    path = guard_in(tmp_path, "a verdict, then its codes")
    file = yaml.safe_load(path.read_text())
    del file["labels"], file["taxonomy"]
    path.write_text(json.dumps({**file, "codes": "S{n}"}))
    guard = load_guard(str(path), load_taxonomy(str(tmp_path / "taxonomy.yaml")))
    assert guard.rows == ("l0", "l1", "l2", "l3", "unsafe")
    assert guard.second is not None
    assert guard.second.in_second == (True, True, True, True, False)


LOCAL = "no codes, or a list of them"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tmp_path_factory.mktemp("tiny") / "model", 4, sharpness=2.0))


def test_both_calls_as_they_are_alone(tmp_path: Path, local: str) -> None:
    """A real model: the second prompt follows the first one in its batch row, and gives the numbers of its own run."""
    settings = EVERYTHING.model_copy(update={"estimators": (*MARGINALS, "joint"), "tolerance": 1e-9})
    scorer = Scorer.load(local, str(guard_in(tmp_path, LOCAL)), settings=settings)
    records = [(f"r{n}", [{"role": "user", "content": f"text {n} " * (1 + n)}]) for n in range(4)]
    alone = {}
    for name, call in scorer.guard.calls.items():
        results = Scorer(scorer.model, call, settings).score_records(records)
        alone[name] = {result.record_id: result for result in results}
    for result in scorer.score_records(records):
        for name, estimates in result.estimates.items():
            first = alone["first"][result.record_id].estimates[name].probability
            second = alone["second"][result.record_id].estimates[name].probability
            expected = [*(first[4] * second[:4]), first[4]]
            assert estimates.probability == pytest.approx(expected, rel=1e-3, abs=1e-9)
        assert result.nodes == sum(calls[result.record_id].nodes for calls in alone.values())


def score(folder: Path, model: str, out: str, *more: str) -> int:
    words = [str(folder / "records.jsonl"), "--model", model, "--guard", str(folder / "guard.yaml")]
    return main([*words, "--tolerance", "0.01", "--node-budget", "30", "--out", str(folder / out), *more])


def test_tables_journals_and_shards(tmp_path: Path, local: str) -> None:
    """An interrupted run is continued with the same numbers; shards give the same rows. One record has an error."""
    guard_in(tmp_path, LOCAL)
    rows = [{"id": f"r{n}", "text": f"Where is my parcel {n}?"} for n in range(5)] + [
        {"id": "long", "text": "x" * 3000}
    ]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert score(tmp_path, local, "whole.parquet") == 1
    whole = read_frame(tmp_path / "whole.parquet", LabelScore, made_by="test")
    assert whole["label"].unique(maintain_order=True).to_list() == ["l0", "l1", "l2", "l3", "unsafe"]
    records = read_frame(tmp_path / "whole.records.parquet", ScoredRecord, made_by="test")
    assert str(records.filter(records["record_id"] == "long")["error"][0]).startswith("first: too long")
    assert str(records["answer"][0]).startswith("first: ")
    lines = (tmp_path / "whole.journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.journal.jsonl").write_text("".join(lines[:3]))
    assert score(tmp_path, local, "cut.parquet") == 1
    assert read_frame(tmp_path / "cut.parquet", LabelScore, made_by="test").equals(whole)
    for shard in ("1/2", "2/2"):
        score(tmp_path, local, "shards.parquet", "--shard", shard)
    assert main(["merge", str(tmp_path / "records.jsonl"), "--out", str(tmp_path / "shards.parquet")]) in (0, 1)
    merged = read_frame(tmp_path / "shards.parquet", LabelScore, made_by="test")
    assert merged.drop("probability", "lower", "upper").equals(whole.drop("probability", "lower", "upper"))
    assert (merged["probability"] - whole["probability"]).abs().max() < 1e-4


def test_notes_on_the_prompts_of_both_calls(tmp_path: Path) -> None:
    scorer, _ = made(tmp_path, LOCAL)
    path = guard_in(tmp_path, LOCAL)
    path.write_text(path.read_text().replace("  answer:", "    prefill: <|score|>\n  answer:"))
    noted = Scorer(scorer.model, load_guard(str(path)), EVERYTHING)
    assert noted.prompt_notes == [
        "the tokenizer has no chat template: the policy is given as plain text",
        "the tokenizer has no <|score|>, which prompt.prefill of tiny contains: it is given as plain text",
    ]
    assert origin_of(noted).notes == tuple(noted.prompt_notes)


def test_the_second_call_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    scorer, _ = made(tmp_path, LOCAL)
    before = scorer_fingerprint(scorer)
    path = guard_in(tmp_path, LOCAL)
    path.write_text(path.read_text().replace("Which?", "Which one?"))
    assert scorer_fingerprint(Scorer(scorer.model, load_guard(str(path)), EVERYTHING)) != before


def test_guards_check_shows_both_calls(tmp_path: Path) -> None:
    scorer, _ = made(tmp_path, "a verdict, then its codes", seed=11, favour=6.0)
    path = tmp_path / "guard.yaml"
    results = list(scorer.score_records([RECORD]))
    lines = list(check_guard(scorer, path, [RECORD], results))
    assert [line.split(": ")[0] for line in lines if line.startswith("prompt of")] == [
        "prompt of record 'a', first call",
        "prompt of record 'a', second call",
    ]
    assert "  x·Y·Which?⏎" in lines
    (codes,) = (line for line in lines if "can begin with" in line)
    assert [line.split()[0] for line in codes.splitlines()[1:]] == CODES


def test_each_call_has_its_own_format(tmp_path: Path) -> None:
    path = guard_in(tmp_path, "a verdict, then its codes")
    guard = load_guard(str(path))
    assert not outside_format(guard, "first: Y\nsecond: A, B.")
    assert not outside_format(guard, "first: N")
    assert outside_format(guard, "first: A\nsecond: A")  # in the format of the other call
    assert outside_format(guard, "first: Y\nsecond: N")
    facts = {"nodes": 1, "forward_passes": 1, "seconds": 0.0, "stopped": "tolerance", "unexplored": 0.0}
    rows = [
        {"record_id": str(number), "answer": answer, "predicted": [], "off_language": 0.5, "error": None, **facts}
        for number, answer in enumerate(["first: Y\nsecond: A ,B", "first: N", "first: what\nsecond: A"])
    ]
    notes = off_format_notes(ScoredRecord.frame(rows), guard, path)
    assert "2 of 5 greedy answers are outside it" in notes[0]
    line = line_in(path, "second", "answer", 0)
    assert any(f"only its white space differs from line {line}" in note for note in notes)
    assert any("'what': it differs from the format from the start" in note for note in notes)


def test_a_request_travels_with_its_second_call(tmp_path: Path, local: str) -> None:
    """As for Ray: the guard file may not exist on the other machine."""
    path = guard_in(tmp_path, LOCAL)
    request = ScoreRequest(model=local, guard=str(path), settings=Settings(estimators=("marginal",), tolerance=0.01))
    sent = pickle.loads(pickle.dumps(portable(request)))
    here = Scorer.from_request(request)
    path.unlink()
    there = Scorer.from_request(sent)
    assert scorer_fingerprint(here) == scorer_fingerprint(there)
    (one,), (other,) = here.score_records([RECORD]), there.score_records([RECORD])
    assert one.estimates["marginal"].probability == pytest.approx(other.estimates["marginal"].probability, abs=1e-6)


def test_guards_check_with_messages(tmp_path: Path, local: str) -> None:
    prompt = {"messages": ["conversation", {"role": "user", "content": SECOND}], "arguments": {"mode": "strict"}}
    path = guard_in(tmp_path, LOCAL, prompt={"messages": ["conversation"]})
    file = yaml.safe_load(path.read_text())
    file["second"]["prompt"] = prompt
    path.write_text(yaml.safe_dump(file, sort_keys=False))
    settings = EVERYTHING.model_copy(update={"estimators": ("marginal",), "tolerance": 0.1, "node_budget": 4})
    scorer = Scorer.load(local, str(path), settings=settings)
    lines = list(check_guard(scorer, path, [RECORD], list(scorer.score_records([RECORD]))))
    line = line_in(path, "second", "prompt", "messages")
    assert f"  note: the tokenizer's chat template does not use the argument 'mode' (line {line})" in lines
    assert "  x⟦<|end|>⟧⟦<|start|>⟧user⏎" in lines


def test_levels_of_the_second_answer(tmp_path: Path) -> None:
    """Without a second answer they have their lowest value; the first answer's own levels stay as they are."""
    scale = {"levels": ["none", "low", "high"], "rows": {"l2": 1, "l3": 2}, "name": "severity"}
    path = guard_in(tmp_path, "after a word for a label")
    file = yaml.safe_load(path.read_text())
    file["second"]["answer"] = [[scale]]
    path.write_text(yaml.safe_dump(file, sort_keys=False))
    vocabulary = VOCABULARIES["bytes"]
    first = HashedModel(vocabulary, 5, frozenset(b"kb!"), favour=6.0)
    second = HashedModel(vocabulary, 6, frozenset(b"nonelowhigh"), favour=6.0)
    scorer = Scorer(
        TwoFaced(vocabulary, 5, first.favoured, favour=6.0, other=second), load_guard(str(path)), EVERYTHING
    )
    result = scored(scorer, estimators=MARGINALS)
    levels = {level["estimator"]: level for level in result.levels or ()}
    alone = Scorer(second, scorer.guard.calls["second"], EVERYTHING.model_copy(update={"estimators": MARGINALS}))
    (second_result,) = alone.score_records([RECORD])
    for level in second_result.levels or ():
        name = level["estimator"]
        before = Scorer(first, scorer.guard.calls["first"], EVERYTHING)
        (first_result,) = before.score_records([RECORD])
        after = float(first_result.estimates[name].probability[1])
        assert levels[name]["name"] == "severity"
        for part in ("expected", "lower", "upper"):
            assert levels[name][part] == pytest.approx(after * level[part], abs=1e-7)  # type: ignore[literal-required]
        assert levels[name]["expected"] == pytest.approx(
            result.estimates[name].probability[2] + result.estimates[name].probability[3], abs=1e-7
        )
    assert levels.keys() == set(MARGINALS)
    scorer.settings = EVERYTHING.model_copy(update={"estimators": ("marginal",), "tolerance": 0.999})
    (unlikely,) = scorer.score_records([RECORD])
    (level,) = unlikely.levels or ()
    assert (level["expected"], level["lower"]) == (0.0, 0.0)
    assert level["upper"] == pytest.approx(2 * unlikely.estimates["marginal"].upper[2])
