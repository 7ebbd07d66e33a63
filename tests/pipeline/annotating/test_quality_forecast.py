from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.simulated.annotator_profiles import AnnotatorProfile
from marginalia.pipeline.annotating.quality_forecast import Forecast, profiles_of, simulate
from marginalia.pipeline.commands.cli import app
from marginalia.schemas.errors import InputError
from tests.annotation.runs import TAXONOMY, write_prompts

PERFECT = AnnotatorProfile(miss=0, false_alarm=0, skip=0)
ONE_LABEL = {f"r{at}": ["a"] for at in range(3000)}


def forecast(
    overlap: int,
    *profiles: AnnotatorProfile,
    expert: AnnotatorProfile = PERFECT,
    seed: int = 1,
    min_answers: int = 2,
) -> Forecast:
    section = ReconcileSection(compare=False, min_answers=min_answers)
    return simulate(ONE_LABEL, ["a"], profiles, expert, overlap, section, seed=seed)


def test_gold_is_as_good_as_the_majority_of_annotators_by_hand() -> None:
    # each misses 'a' with 0.3; the majority of three is right with 0.7³ + 3 · 0.7² · 0.3 = 0.784
    profile = PERFECT.model_copy(update={"miss": 0.3})
    assert forecast(1, profile, min_answers=1).right.value == pytest.approx(0.7, abs=0.03)
    three = forecast(3, profile)
    assert three.right.value == pytest.approx(0.784, abs=0.025)
    assert (three.answers, three.final, three.for_expert, three.open) == (9000, 3000, 0, 0)
    assert three.precision == 1.0
    assert three.recall == three.right.value  # one label per record


def test_ties_of_two_go_to_the_expert_and_cost_an_answer_each() -> None:
    # they differ with 2 · 0.7 · 0.3 = 0.42; of the others 0.49 / 0.58 are right, of all, with the expert, 0.91
    result = forecast(2, PERFECT.model_copy(update={"miss": 0.3}))
    assert result.for_expert / 3000 == pytest.approx(0.42, abs=0.03)
    assert result.answers == 6000 + result.for_expert
    assert result.right.value == pytest.approx(0.49 / 0.58, abs=0.03)
    assert result.right_with_expert.value == pytest.approx(0.91, abs=0.02)


def test_annotators_of_differing_care_take_turns() -> None:
    # one always wrong, two always right, one of them on each record
    result = forecast(1, PERFECT, PERFECT, PERFECT.model_copy(update={"miss": 1.0}), min_answers=1)
    assert result.right.value == pytest.approx(2 / 3)


def test_records_that_too_many_skip_stay_open() -> None:
    result = forecast(2, PERFECT.model_copy(update={"skip": 0.5}))
    assert result.open / 3000 == pytest.approx(0.75, abs=0.03)
    assert result.final + result.open == 3000


def test_the_forecast_uses_the_runs_own_min_answers() -> None:
    result = forecast(1, PERFECT)  # the default asks for two answers
    assert (result.final, result.for_expert, result.open, result.answers) == (0, 0, 3000, 3000)
    assert (result.right.value, result.right_with_expert.value, result.precision) == (None, None, None)
    assert (forecast(2, PERFECT, min_answers=3).open, forecast(3, PERFECT, min_answers=3).open) == (3000, 0)


def test_the_seed_alone_decides() -> None:
    profile = PERFECT.model_copy(update={"miss": 0.3})
    assert forecast(3, profile) == forecast(3, profile)
    assert forecast(3, profile) != forecast(3, profile, seed=2)


def test_rates_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"--miss: expected rates from 0 to 1, saw 1.5"):
        profiles_of([1.5], [0.1], 0.0)
    assert [p.miss for p in profiles_of([0.1, 0.2], [0.05], 0.0)] == [0.1, 0.2]


def test_the_command_compares_overlaps_on_the_runs_own_label_sets(tmp_path: Path) -> None:
    (tmp_path / "taxonomy.yaml").write_text(TAXONOMY)
    (tmp_path / "config.yaml").write_text("taxonomy: taxonomy.yaml\n")
    texts = {f"r{at}": f"text {at}" for at in range(50)}
    write_prompts(tmp_path, texts, {record: ["b"] for record in texts})
    command = ["simulate", "--run", str(tmp_path), "--miss", "0", "--false-alarm", "0", "--skip", "0", "--overlap", "2"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert (row["simulated"], row["records"], row["answers"], row["right"]["value"]) == (True, 50, 100, 1.0)
    shown = CliRunner().invoke(app, command).stdout.splitlines()
    assert shown[0].startswith("simulated")
    assert len(shown) == 3
    assert shown[1].split()[-8:-4] == ["open", "right", "right", "with"]
