"""Prompts that leave the model no room: failed records with their reason, while the others are scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginalia.schemas.errors import ModelError
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.networks import saved

LENGTH = 128
# answers that go on for longer than the 24 tokens that are kept free
GUARD = """\
guard: g
title: T
source: a test
taxonomy: support-tickets
codes: "a very long code of a category with the number {n}"
prompt: {frame: "<|start|>{{ message }}<|end|>", message: "{{ conversation[0].content }}"}
answer: [[safe as far as these few words tell], [{verdict: unsafe}, "\\n", {labels: [","]}]]
"""
SETTINGS = Settings(estimators=("marginal_constrained", "joint_constrained"), tolerance=0.0, node_budget=64)


def scorer(folder: Path, name: str, guard: str = GUARD) -> Scorer:
    (folder / "g.yaml").write_text(guard)
    return Scorer.load(str(saved(folder / "m", name)), str(folder / "g.yaml"), settings=SETTINGS)


@pytest.mark.parametrize("name", ["opt", "gpt2"])
def test_a_prompt_that_leaves_too_little_room_fails_alone(tmp_path: Path, name: str) -> None:
    made = scorer(tmp_path, name)
    assert made.model.context == LENGTH
    letters = {"short": 3, "last that fits": LENGTH - 24 - 2, "too long": LENGTH - 24 - 1, "far too long": 2 * LENGTH}
    records = [(key, [{"role": "user", "content": "x" * count}]) for key, count in letters.items()]
    found = {result.record_id: result for result in made.score_records(records)}
    assert found["short"].error is None
    assert (
        found["last that fits"].error == "too long: an answer continues beyond 128 tokens, of which the prompt has 104"
    )
    assert found["too long"].error == "too long: the prompt has 105 tokens, and the model accepts 104"
    assert found["far too long"].error == "too long: the prompt has 258 tokens, and the model accepts 104"
    (alone,) = made.score_records(records[:1])
    difference = alone.estimates["marginal_constrained"].lower - found["short"].estimates["marginal_constrained"].lower
    assert abs(difference).max() < 1e-6


@pytest.mark.parametrize("name", ["opt", "gpt2"])
def test_a_guard_whose_prompt_alone_is_too_long_is_refused(tmp_path: Path, name: str) -> None:
    long = GUARD.replace("<|start|>", "<|start|>" + "x" * LENGTH)
    with pytest.raises(
        ModelError, match="no record fits into the model's context: too long: the prompt has 131 tokens"
    ):
        scorer(tmp_path, name, long)
