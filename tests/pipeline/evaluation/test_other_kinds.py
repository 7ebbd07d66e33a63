"""A run that compares guards of several kinds: a generative one, a moderation endpoint, decisions and a classifier."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from marginalia.pipeline.annotating.audit_stage import stage as audit_stage
from marginalia.pipeline.compare.compare_runs import compare
from marginalia.pipeline.compare.compared_run import load_compared_run
from marginalia.pipeline.core.artifacts import GOLD, SCORED_RECORDS, SCORES
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.evaluation.score_stage import STAGE as SCORE
from marginalia.pipeline.release.card_sentences import DataOrigin, limits
from marginalia.pipeline.report.report_stage import STAGE as REPORT
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.storage.files import read_model, write_frame
from marginalia.schemas.tables import Answer, GoldRecord
from marginalia.scoring.command import main
from tests.number_server import NumberServer, number
from tests.pipeline.synthetic_run import Synthetic, make_frames
from tests.scoring.score_sources.classifiers import save as save_classifier
from tests.scoring.tiny import save

CATEGORIES = {"refund": "hate", "return": "violence", "discount": "sexual"}
KINDS = ("moderations", "decisions", "systemone", "classifier")
ESTIMATOR = {"moderations": "server", "decisions": "server", "systemone": "server", "classifier": "classifier"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run with scores, evaluation and report."""
    folder = tmp_path_factory.mktemp("kinds")
    model = save(folder / "tiny", 4, sharpness=3.0)
    classifier = save_classifier(folder / "bert", "bert", max_position_embeddings=512)
    frames = make_frames(Synthetic(n=40, unresolved=0))
    write_frame(folder / "gold.parquet", frames.gold, GoldRecord)
    write_frame(folder / "annotations.parquet", frames.annotations, Answer)
    files = {
        "moderations": {"labels": CATEGORIES},
        "decisions": {},
        "systemone": {},
        "classifier": {"labels": {"refund": "hate", "return": "violence"}, "safe": "safe"},
    }
    for kind, keys in files.items():
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump({"kind": kind, **keys}))
    generative = {"name": "tiny", "guard": "instruct", "model": str(model), "device": "cpu"}
    with NumberServer("moderations") as one, NumberServer("decisions") as two, NumberServer("systemone") as three:
        urls = {"moderations": one.url, "decisions": two.url, "systemone": three.url, "classifier": str(classifier)}
        guards = [generative, *({"name": kind, "guard": f"{kind}.yaml", "model": urls[kind]} for kind in KINDS)]
        config = {
            "taxonomy": "support-tickets",
            "score": {"guards": guards, "node_budget": 8, "tolerance": 0.3, "estimators": ["marginal"]},
            "evaluate": {"resamples": 100, "folds": 2, "allow_off_format": True},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        opened = open_run(folder)
        for stage in (SCORE, EVALUATE, REPORT):
            run_stage(stage, opened)
        yield opened


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_scores_of_its_own_estimator_only(run: Run, kind: str) -> None:
    scores = SCORES.of(kind).read(run)
    assert scores["estimator"].unique().to_list() == [ESTIMATOR[kind]]
    labels = scores.filter(pl.col("label") != "unsafe")
    assert labels.filter(
        (pl.col("lower") != pl.col("probability")) | (pl.col("upper") != pl.col("probability"))
    ).is_empty()
    records = SCORED_RECORDS.of(kind).read(run)
    assert records["error"].null_count() == records.height == 40
    assert records["answer"].null_count() == records["unexplored"].null_count() == 40
    assert records["off_language"].null_count() == (0 if kind == "systemone" else 40)
    if kind == "moderations":
        first = GOLD.read(run).row(0, named=True)
        row = labels.filter((pl.col("record_id") == first["id"]) & (pl.col("label") == "refund"))
        assert row["probability"].item() == number(first["messages"][-1]["content"], "hate")


def test_all_are_evaluated_and_compared(run: Run) -> None:
    evaluation = read_model(run.path("evaluation.json"), Evaluation, made_by="evaluate")
    guards = {guard.guard: guard for guard in evaluation.guards}
    for kind in KINDS:
        assert guards[kind].recommended == ESTIMATOR[kind]
        assert [one.estimator for one in guards[kind].estimators] == [ESTIMATOR[kind], "label_frequency"]
    assert {row.guard for row in evaluation.guard_differences} == set(KINDS)
    thresholds = json.loads(run.path("thresholds.json").read_text())
    assert "refund" in thresholds["guards"]["moderations"]["estimators"]["server"]["labels"]
    maps = json.loads(run.path("calibration.json").read_text())["calibrations"]
    assert {(one["guard"], one["estimator"]) for one in maps} >= {(kind, ESTIMATOR[kind]) for kind in KINDS}


def test_the_report_says_that_there_are_no_bounds(run: Run) -> None:
    page = run.path("report.html").read_text()
    assert "no bounds: the probabilities are the own numbers of tiny-guard-2026-01-01 at an endpoint" in page
    assert "<b>server</b> is the server's own number, without bounds" in page
    assert "<b>classifier</b> is the output of the model's classification head, without bounds" in page
    assert page.count("are certain to within") == page.count("The probabilities of marginal are certain to within")


def test_the_card_says_that_there_is_nothing_to_bound(run: Run) -> None:
    evaluation = read_model(run.path("evaluation.json"), Evaluation, made_by="evaluate")
    origin = DataOrigin(
        simulated=False,
        answered=False,
        imported=False,
        scored=True,
        records=40,
        partly=0,
        rarest=("Refund", 3),
        languages=["en"],
        models=[],
        files=["a.csv"],
    )
    sentence = limits(origin, None, evaluation)[-1]
    assert "moderations, decisions, systemone and classifier: a server or a classification head gave" in sentence


@pytest.mark.parametrize("kind", ["moderations", "classifier"])
def test_the_audit_uses_the_only_estimator(run: Run, kind: str) -> None:
    assert run_stage(audit_stage(guard=kind, top=2, control=2), run).status == "ran"


@pytest.mark.parametrize("kind", KINDS)
def test_runs_can_be_compared_by_it(run: Run, kind: str) -> None:
    sides = load_compared_run(run.folder, kind, None), load_compared_run(run.folder, "tiny", None)
    found = compare(*sides)
    assert found.a.estimator == ESTIMATOR[kind] and found.b.estimator == "marginal"
    assert any(row.difference is not None for row in found.metrics)


@pytest.mark.parametrize("kind", KINDS)
def test_its_calibration_can_be_applied(run: Run, kind: str, tmp_path: Path) -> None:
    model = next(guard.model for guard in run.config.score.guards if guard.name == kind)
    records, out = tmp_path / "records.jsonl", tmp_path / "scores.parquet"
    records.write_text(json.dumps({"id": "r", "text": "hello"}) + "\n")
    command = [str(records), "--model", model, "--guard", str(run.path(f"{kind}.yaml")), "--out", str(out)]
    command += ["--taxonomy", "support-tickets", "--calibration", str(run.path("calibration.json"))]
    assert main(command) == 0
    calibrated = pl.read_parquet(out)
    assert calibrated["estimator"].unique().to_list() == [ESTIMATOR[kind]]
    assert (calibrated["lower"] <= calibrated["probability"]).all()
