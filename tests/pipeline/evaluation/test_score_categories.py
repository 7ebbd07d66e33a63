"""The stage score with a guard whose categories are not the labels of the run's taxonomy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from marginalia.pipeline.core.artifacts import SCORES
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.evaluation.score_stage import STAGE as SCORE
from marginalia.pipeline.report.report_stage import STAGE as REPORT
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.storage.files import read_model, write_frame
from marginalia.schemas.tables import GoldRecord
from tests.pipeline.synthetic_run import Synthetic, make_frames
from tests.scoring.tiny import save

# of the labels of support-tickets; what they mean does not matter for a random model
INLINE = {"refund": ["S1", "S9"], "return": {"any_of": ["hate"]}, "discount": {"part_of": ["hate"]}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny") / "model", 4, sharpness=3.0)


def run_in(folder: Path, model: Path, categories: object) -> Run:
    frames = make_frames(Synthetic(n=16, unresolved=0))
    write_frame(folder / "gold.parquet", frames.gold, GoldRecord)
    guard = {"name": "tiny", "guard": "llama-guard-3", "model": str(model), "device": "cpu", "categories": categories}
    score = {"guards": [guard], "node_budget": 8, "tolerance": 0.3}
    config = {"taxonomy": "support-tickets", "score": score, "evaluate": {"resamples": 100, "folds": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return open_run(folder)


def test_scores_are_those_of_the_run_s_labels_and_coverage_is_in_every_file(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_in(tmp_path, model, INLINE)
    run_stage(SCORE, run)
    assert (
        "tiny covers 3 of 12 labels\n  exact        return = hate\n  union        refund = vio"
        in capsys.readouterr().err
    )
    assert set(SCORES.of("tiny").read(run)["label"]) == {"refund", "return", "discount", "unsafe"}
    run_stage(EVALUATE, run)
    run_stage(REPORT, run)
    coverage = json.loads(run.path("manifests/score.json").read_text())["facts"]["tiny"]["coverage"]
    (guard,) = read_model(run.path("evaluation.json"), Evaluation, made_by="evaluate").guards
    assert guard.coverage is not None and guard.coverage.model_dump() == coverage
    assert [row.label for row in guard.only_bounds] == ["discount"]
    assert {row.label for row in guard.estimators[0].labels} == {"refund", "return"}
    assert "violent_crimes or indiscriminate_weapons" in run.path("report.html").read_text()
    assert [check.problem for check in verify(run).failed] == ["no manifest lists gold.parquet"]


def test_a_file_of_categories_is_an_input_of_the_stage(tmp_path: Path, model: Path) -> None:
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(INLINE))
    run = run_in(tmp_path, model, "map.yaml")
    assert run_stage(SCORE, run).status == "ran"
    before = SCORES.of("tiny").read(run)
    assert run_stage(SCORE, run).status == "up to date"
    (tmp_path / "map.yaml").write_text(yaml.safe_dump({**INLINE, "refund": ["S1"]}))
    assert run_stage(SCORE, run).status == "ran"
    after = SCORES.of("tiny").read(run)
    assert before.filter(label="unsafe")["label"].len() == after.filter(label="unsafe")["label"].len()
    assert before.filter(label="refund")["upper"].to_list() != after.filter(label="refund")["upper"].to_list()


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "config.yaml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_errors_name_the_line_of_the_config(tmp_path: Path, model: Path) -> None:
    run = run_in(tmp_path, model, {"refund": ["violent_crime"]})
    with pytest.raises(InputError) as raised:
        run_stage(SCORE, run)
    problem = "guard llama-guard-3 has no category 'violent_crime'; did you mean 'violent_crimes'?"
    line = line_of(tmp_path, "- violent_crime")
    assert f"config.yaml: line {line}: categories: {problem}" in str(raised.value)


def test_another_form_is_refused_with_its_line(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError) as raised:
        run_in(tmp_path, model, {"refund": "hate"})
    line = line_of(tmp_path, "refund: hate")
    assert f"config.yaml: line {line}: 'refund': expected a list of categories, such as [hate]" in str(raised.value)
