"""Scores of a policy's labels with a guard that has other categories: tables, journals, shards, calls, calibration."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.scoring.calibrated_scores import ChosenMaps, calibrate_scores
from marginalia.scoring.command import main
from marginalia.scoring.config import GuardRun
from marginalia.scoring.engines.portable_request import portable
from marginalia.scoring.guard import load_guard
from marginalia.scoring.label_categories import LabelCategories
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.per_label_results import combine
from marginalia.scoring.score_files import scorer_fingerprint
from marginalia.scoring.score_request import ScoreRequest, Settings
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer
from tests.scoring.test_label_categories import POLICY
from tests.scoring.tiny import save

CATEGORIES = "violence: [S1, S9]\nhate: {any_of: [hate]}\nslurs: {part_of: [hate]}\n"
ROWS = ["hate", "slurs", "violence", "unsafe"]  # in the order of the policy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tmp_path_factory.mktemp("tiny") / "model", 4, sharpness=3.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"id": f"r{number}", "text": f"Where is my parcel {number}?"} for number in range(6)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "policy.yaml").write_text(json.dumps(POLICY.model_dump()))
    (tmp_path / "categories.yaml").write_text(CATEGORIES)
    return tmp_path


def score(folder: Path, model: str, out: str, *more: str) -> int:
    named = ["--taxonomy", str(folder / "policy.yaml"), "--categories", str(folder / "categories.yaml")]
    words = [str(folder / "records.jsonl"), "--model", model, "--guard", "llama-guard-3", *named]
    return main([*words, "--tolerance", "0.05", "--node-budget", "30", "--out", str(folder / out), *more])


def test_a_table_of_the_policy_s_labels(folder: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(folder, model, "one.parquet") == 0
    said = capsys.readouterr()
    assert "llama-guard-3 covers 3 of 5 labels\n  exact        hate\n  union        violence = " in said.err
    assert said.out.endswith("one.parquet: 6 records × 8 estimators × 4 labels\n")
    scores = read_frame(folder / "one.parquet", LabelScore, made_by="test")
    assert scores["label"].unique(maintain_order=True).to_list() == ROWS
    assert scores.filter(pl.col("probability").is_null())["label"].unique().to_list() == ["slurs"]
    per_label = {label: part for (label,), part in scores.partition_by("label", as_dict=True).items()}
    assert per_label["slurs"]["probability"].null_count() == per_label["slurs"].height
    assert per_label["slurs"]["lower"].max() == 0  # no answer says that a hateful text is a slur
    assert per_label["slurs"]["upper"].to_list() == per_label["hate"]["upper"].to_list()
    for shard in ("1/2", "2/2"):
        assert score(folder, model, "shards.parquet", "--shard", shard) == 0
    assert main(["merge", str(folder / "records.jsonl"), "--out", str(folder / "shards.parquet")]) == 0
    merged = read_frame(folder / "shards.parquet", LabelScore, made_by="test")
    assert merged.drop("probability", "lower", "upper").equals(scores.drop("probability", "lower", "upper"))
    assert (merged["probability"] - scores["probability"]).abs().max() < 1e-4
    assert merged["probability"].null_count() == scores["probability"].null_count()


def test_scores_with_other_categories_are_not_mixed(
    folder: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(folder, model, "s.parquet", "--shard", "1/2") == 0
    (folder / "categories.yaml").write_text(CATEGORIES.replace("S9", "S2"))
    assert score(folder, model, "s.parquet", "--shard", "2/2") == 0
    assert main(["merge", str(folder / "records.jsonl"), "--out", str(folder / "s.parquet")]) == 2
    assert "shards 1/2 and 2/2 were scored with different settings" in capsys.readouterr().err


def scorer(folder: Path, model: str, categories: Any) -> Scorer:
    settings = Settings(tolerance=0.05, node_budget=30)
    taxonomy = str(folder / "policy.yaml")
    return Scorer.load(model, "llama-guard-3", taxonomy=taxonomy, categories=categories, settings=settings)


def test_python_gives_none_for_a_label_with_only_bounds(folder: Path, model: str) -> None:
    inline = {"violence": ["S1", "S9"], "hate": {"any_of": ["hate"]}, "slurs": {"part_of": ["hate"]}}
    by_file, by_mapping = scorer(folder, model, str(folder / "categories.yaml")), scorer(folder, model, inline)
    assert scorer_fingerprint(by_file) == scorer_fingerprint(by_mapping)
    assert scorer_fingerprint(by_file) != scorer_fingerprint(scorer(folder, model, {**inline, "violence": ["S1"]}))
    found = by_mapping.score("Where is my parcel?")
    assert list(found) == ROWS
    assert found["slurs"].probability is None
    assert (found["slurs"].lower, found["slurs"].upper) == (0.0, found["hate"].upper)
    assert found["hate"].probability is not None and found["violence"].probability is not None
    own = Scorer.load(model, "llama-guard-3", settings=Settings(tolerance=0.05, node_budget=30))
    assert by_file.prompts.build([{"role": "user", "content": "x"}]) == own.prompts.build(
        [{"role": "user", "content": "x"}]
    )
    with pytest.raises(InputError, match=r"categories: 'hate': expected a list of categories, such as \[hate\]"):
        scorer(folder, model, {"hate": "hate"})


def test_a_request_travels_with_categories_and_both_taxonomies(folder: Path, model: str) -> None:
    request = ScoreRequest(
        model=model, guard="shieldgemma", taxonomy="policy.yaml", categories="categories.yaml", folder=folder
    )
    (folder / "categories.yaml").write_text("hate: [hate, harassment]\nviolence: [dangerous_content]\n")
    sent = pickle.loads(pickle.dumps(portable(request)))
    here, there = Scorer.from_request(request), Scorer.from_request(sent)
    assert scorer_fingerprint(here) == scorer_fingerprint(there)
    assert there.guard.rows == ("hate", "violence", "unsafe")
    assert isinstance(sent.categories, LabelCategories) and sent.own_taxonomy.id == "shieldgemma"


def test_a_config_without_categories_keeps_its_hash() -> None:
    guard = GuardRun(name="g", model="bundled", guard="instruct")
    assert "categories" not in guard.model_dump()
    mapped = guard.model_copy(
        update={"categories": LabelCategories.model_validate({"a": ["b"], "c": {"any_of": ["d"]}})}
    )
    assert mapped.model_dump(mode="json")["categories"] == {"a": ["b"], "c": {"any_of": ["d"]}}
    assert GuardRun.model_validate(mapped.model_dump()) == mapped


def call(value: float, answer: str) -> Result:
    numbers = {"marginal": (value, value - 0.1, value + 0.1), "greedy": (float(answer == "Yes"),) * 3}
    estimates = {name: LabelEstimates(*(np.array([part]) for part in parts)) for name, parts in numbers.items()}
    return Result("a", estimates, answer, [], 0.1, 0.2, 3, 2, 0.5, "tolerance")


def test_separate_calls_do_not_determine_their_union() -> None:
    categories = {
        "hate": {"any_of": ["hate", "harassment"]},
        "slurs": {"part_of": ["hate"]},
        "violence": ["dangerous_content"],
        "money": {"any_of": ["harassment"], "part_of": ["hate"]},
    }
    guard = load_guard("shieldgemma", POLICY, categories=LabelCategories.model_validate(categories))
    assert guard.coverage is not None
    assert [label.kind for label in guard.coverage.labels] == ["bounds", "bounds", "exact", "bounds"]
    # sexual_content belongs to no label, so no call is made for it
    assert list(guard.calls) == ["dangerous_content", "harassment", "hate"]
    calls = {"dangerous_content": call(0.2, "No"), "harassment": call(0.5, "Yes"), "hate": call(0.7, "No")}
    result = combine("a", calls, guard)
    marginal, greedy = result.estimates["marginal"], result.estimates["greedy"]
    assert np.isnan(marginal.probability).tolist() == [True, True, False, True, False]
    assert marginal.probability[[2, 4]].tolist() == pytest.approx([0.2, 0.7])
    assert marginal.lower.tolist() == pytest.approx([0.6, 0.0, 0.1, 0.4, 0.6])
    assert marginal.upper.tolist() == pytest.approx([1.0, 0.8, 0.3, 1.0, 1.0])  # 0.6 + 0.8 is more than 1
    assert greedy.probability[0] == 1 and np.isnan(greedy.probability[1])  # an answer says yes to one of the two
    assert result.predicted == ["hate", "money"]


def test_calibrated_bounds_without_a_probability() -> None:
    from marginalia.schemas.calibration_json import Calibration, Identity

    rows = [("r", "marginal", "hate", 0.4, 0.3, 0.5), ("r", "marginal", "slurs", None, 0.1, 0.5)]
    scores = pl.DataFrame(rows, schema=LabelScore.polars_schema(), orient="row")
    fitted = Calibration.model_construct(estimator="marginal", labels={}, pooled=Identity())
    assert calibrate_scores(scores, ChosenMaps(Path("c.json"), {"marginal": fitted}, [])).equals(scores)


def test_predicted_labels_are_those_that_the_answer_shows(folder: Path, model: str) -> None:
    assert score(folder, model, "one.parquet") == 0
    records = read_frame(folder / "one.records.parquet", ScoredRecord, made_by="test")
    scores = read_frame(folder / "one.parquet", LabelScore, made_by="test")
    greedy = scores.filter((pl.col("estimator") == "greedy") & (pl.col("lower") == 1) & (pl.col("label") != "unsafe"))
    by_record = dict(greedy.group_by("record_id").agg(pl.col("label")).iter_rows())
    assert {row["record_id"]: row["predicted"] for row in records.iter_rows(named=True)} == {
        record: by_record.get(record, []) for record in records["record_id"]
    }
