"""Several calls about each record: one after the other in a batch row, and what their prompts share is run once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marginalia.scoring.marginal.record_batches import RecordBatches
from marginalia.scoring.models.local_model import LocalModel, load_local
from marginalia.scoring.score_files import score_to_journal, tables
from marginalia.scoring.score_request import BASELINE_NAMES, ESTIMATOR_NAMES
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.test_out_of_memory import ERRORS, fail_above
from tests.scoring.test_prompt_keys import own
from tests.scoring.tiny import save

RECORDS = [(f"r{number}", [{"role": "user", "content": f"text {number} " * (1 + 3 * number)}]) for number in range(5)]
AFTER = "Text: {{ conversation[0].content }}\nPolicy of {{ categories[0].name }}: {{ categories[0].definition * 4 }}"
BEFORE = "Policy of {{ categories[0].name }}: {{ categories[0].definition * 4 }}\nText: {{ conversation[0].content }}"
YES_NO = [["No"], [{"verdict": "Yes"}]]
EVERY = (*ESTIMATOR_NAMES, *BASELINE_NAMES)
FEW = ("marginal", "marginal_constrained", "joint")
SETTINGS = Settings(estimators=FEW, tolerance=1e-3, node_budget=20, batch_records=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return load_local(str(save(tmp_path_factory.mktemp("tiny") / "model", 4, sharpness=2.0)))


def scorer_of(folder: Path, model: LocalModel, message: str, **settings: Any) -> Scorer:
    overall = {"name": "any", "definition": "anything"}
    guard = own(folder, {"message": message}, calls="per_label", answer=YES_NO, overall=overall)
    return Scorer(model, guard, SETTINGS.model_copy(update=settings))


def by_id(results: Iterator[Result]) -> dict[str, Result]:
    return {result.record_id: result for result in results}


def separate(scorer: Scorer) -> dict[str, dict[str, Result]]:
    """Record → call → result, each call with a source of its own."""
    found: dict[str, dict[str, Result]] = {record_id: {} for record_id, _ in RECORDS}
    for name, call in scorer.guard.calls.items():
        for result in Scorer(scorer.model, call, scorer.settings).score_records(RECORDS):
            found[result.record_id][name] = result
    return found


@contextmanager
def evaluated(model: LocalModel) -> Iterator[list[int]]:
    """The number of tokens of each forward pass."""
    counts: list[int] = []
    forward = model.runner.forward
    model.runner.forward = lambda current, tokens, keep: counts.append(len(tokens)) or forward(current, tokens, keep)  # type: ignore[method-assign,func-returns-value]
    yield counts
    model.runner.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize("message", [AFTER, BEFORE], ids=["conversation first", "policy first"])
def test_the_numbers_are_those_of_separate_calls(tmp_path: Path, model: LocalModel, message: str) -> None:
    scorer = scorer_of(tmp_path, model, message, estimators=EVERY, samples=20)
    expected = separate(scorer)
    for record_id, result in by_id(scorer.score_records(RECORDS)).items():
        assert result.error is None
        for name in EVERY:
            for part in ("probability", "lower", "upper"):
                found = getattr(result.estimates[name], part)
                alone = [getattr(call.estimates[name], part)[0] for call in expected[record_id].values()]
                assert np.abs(found - alone).max() < 1e-4
        assert result.nodes == sum(call.nodes for call in expected[record_id].values())


def test_a_record_s_common_start_is_evaluated_once(tmp_path: Path, model: LocalModel) -> None:
    scorer = scorer_of(tmp_path, model, AFTER)
    lengths = {name: len(call.prompts.build(RECORDS[4][1]).ids) for name, call in scorer.calls.items()}
    conversation = len(model.tokenizer(RECORDS[4][1][0]["content"])["input_ids"])
    with evaluated(model) as together:
        list(scorer.score_records(RECORDS[4:]))
    with evaluated(model) as apart:
        for call in scorer.guard.calls.values():
            list(Scorer(model, call, SETTINGS).score_records(RECORDS[4:]))
    # each call but the first leaves out the conversation, and all shared starts are now computed once
    assert sum(together) <= sum(apart) - (len(lengths) - 1) * conversation


def test_policies_before_the_conversation_are_computed_once_for_all_records(tmp_path: Path, model: LocalModel) -> None:
    scorer = scorer_of(tmp_path, model, BEFORE)
    starts = [len(call.prompts.shared_start()) for call in scorer.calls.values()]
    with evaluated(model) as counts:
        results = list(scorer.score_records(RECORDS))
    prompts = [len(call.prompts.build(messages).ids) for _, messages in RECORDS for call in scorer.calls.values()]
    # a few more: where a prompt's own start is longer than what it shares with the one before, it is copied
    assert sum(counts) <= sum(prompts) - len(RECORDS) * sum(starts) + sum(result.nodes for result in results)


@pytest.mark.parametrize("message", [AFTER, BEFORE], ids=["conversation first", "policy first"])
def test_batches_that_are_halved_repeat_the_calls_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    alone = load_local(str(save(tmp_path / "model", 4, sharpness=2.0)))
    scorer = scorer_of(tmp_path, alone, message)
    expected = by_id(scorer.score_records(RECORDS))
    failing: list[int] = []
    batch = RecordBatches._evaluate

    def evaluate(self: RecordBatches, *arguments: Any) -> None:
        failing.append(1)
        if len(failing) in (3, 6):
            raise ERRORS["cpu"]
        batch(self, *arguments)

    monkeypatch.setattr(RecordBatches, "_evaluate", evaluate)
    for record_id, result in by_id(scorer.score_records(RECORDS)).items():
        assert result.error is None
        for name, estimates in result.estimates.items():
            assert np.abs(estimates.probability - expected[record_id].estimates[name].probability).max() < 1e-4


def test_a_record_that_does_not_fit_alone_fails_with_its_call(tmp_path: Path) -> None:
    scorer = scorer_of(tmp_path, load_local(str(save(tmp_path / "model", 4))), AFTER)
    fail_above(scorer, 0, ERRORS["cpu"])
    results = list(scorer.score_records(RECORDS[:2]))
    assert [result.error for result in results] == ["one: out of memory, also alone in its batch"] * 2
    assert all(result.is_temporary for result in results)


def test_a_prompt_that_is_too_long_ends_its_record_alone(tmp_path: Path, model: LocalModel) -> None:
    scorer = scorer_of(tmp_path, model, AFTER)
    long = ("long", [{"role": "user", "content": "x" * 3000}])
    found = by_id(scorer.score_records([*RECORDS[:2], long]))
    assert found["long"].error is not None
    assert found["long"].error.startswith("one: too long: the prompt has")
    assert found["r0"].error is found["r1"].error is None


def test_a_later_call_may_be_too_long(tmp_path: Path, model: LocalModel) -> None:
    scorer = scorer_of(tmp_path, model, AFTER + "{{ '.' * 1900 if categories[0].id == 'two' else '' }}")
    long = ("long", [{"role": "user", "content": "x" * 300}])
    found = by_id(scorer.score_records([*RECORDS[:2], long]))
    assert str(found["long"].error).startswith("two: too long: the prompt has")
    assert found["r0"].error is found["r1"].error is None


def test_an_interrupted_run_is_continued_with_the_same_numbers(tmp_path: Path, model: LocalModel) -> None:
    scorer = scorer_of(tmp_path, model, AFTER)
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    ids = [record_id for record_id, _ in RECORDS]
    assert sorted(score_to_journal(scorer, RECORDS, whole)) == ids
    lines = whole.read_text().splitlines(keepends=True)
    cut.write_text("".join(lines[:3]))
    assert sorted(score_to_journal(scorer, RECORDS, cut)) == ids
    first, second = (tables(path, ids, FEW)[0] for path in (whole, cut))
    assert first.equals(second)
    assert len(cut.read_text().splitlines()) == len(lines)
