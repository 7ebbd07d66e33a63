"""The release folder: what it contains, what it must not contain, and that other people can load it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import StageRun, run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.release.card_charts import charts
from marginalia.pipeline.release.release_stage import STAGE
from marginalia.pipeline.release.release_tables import ReleasedAnswer
from marginalia.pipeline.report.report_data import recommended_estimator
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.storage.files import read_model, write_frame
from marginalia.schemas.tables import GoldRecord, GoldSeverity, PromptRecord
from tests.pipeline.evaluation.test_stages import make_run as evaluated_run
from tests.pipeline.release.labelled_run import ANSWERS, CANARY, GOLD, gold_row, make_run
from tests.pipeline.report.test_page import report_data
from tests.pipeline.synthetic_run import Synthetic


def release(run: Run) -> StageRun:
    return run_stage(STAGE, run)


def card_of(run: Run) -> tuple[dict[str, object], str]:
    _, head, body = (run.path("release") / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def everything(folder: Path) -> str:
    """All text of the folder: file names, files and the cells of Parquet files."""
    texts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            texts.append(str(pl.read_parquet(path).rows()))
        elif path.is_file():
            texts.append(path.read_text(encoding="utf-8"))
    return "\n".join([*texts, *(str(path) for path in folder.rglob("*"))])


def test_each_split_holds_its_final_records_only(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    gold = {path.stem: pl.read_parquet(path) for path in (run.path("release") / "data/gold").glob("*.parquet")}
    assert {split: frame["id"].to_list() for split, frame in gold.items()} == {
        "calibration": ["r1", "r2"],
        "test": ["r3", "r4"],
    }
    assert gold["test"]["labels"].to_list() == [[], ["invoice"]]


def test_released_answers_have_no_remarks_times_drafts_or_unknown_records(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    answers = pl.read_parquet(run.path("release") / "data/annotations/train.parquet")
    assert answers.columns == ["record_id", "annotator", "labels", "status", "round"]
    assert answers.rows() == [
        ("r1", "A01", ["late_delivery"], "submitted", "annotate"),
        ("r1", "A02", None, "discarded", "annotate"),
        ("r2", "A01", [], "submitted", "annotate"),
    ]


def test_no_remark_and_no_rejected_text_is_anywhere_in_the_release(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    assert CANARY in str(pl.read_parquet(run.path("annotations.parquet")).rows())
    assert CANARY not in everything(run.path("release"))


def test_scores_of_a_guard_that_was_removed_from_the_config_are_not_released(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    scores = run.path("scores/policy-guard.parquet")
    scores.with_name("old-guard.parquet").write_bytes(scores.read_bytes())
    release(run)
    assert [path.name for path in (run.path("release") / "data/scores").iterdir()] == ["policy-guard.parquet"]


def test_scores_carry_their_guard_and_rejections_their_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    scores = pl.read_parquet(run.path("release") / "data/scores/policy-guard.parquet")
    assert scores.row(0, named=True) == {
        "guard": "policy-guard", "record_id": "r1", "estimator": "marginal", "label": "late_delivery",
        "probability": 0.5, "lower": 0.25, "upper": 0.75,
    }  # fmt: skip
    rejected = pl.read_parquet(run.path("release") / "data/rejected/train.parquet")
    assert rejected.rows(named=True) == [{"slot_id": "s-r1", "attempt": 1, "reason": "refused"}]


def test_a_stranger_loads_every_config_offline(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    script = (
        "import json, sys\n"
        "from datasets import get_dataset_config_names, load_dataset\n"
        "found = {}\n"
        "for name in get_dataset_config_names(sys.argv[1]):\n"
        "    data = load_dataset(sys.argv[1], name)\n"
        "    found[name] = {split: rows.num_rows for split, rows in data.items()}\n"
        "first = load_dataset(sys.argv[1])['test'][1]\n"
        "print(json.dumps([found, first]))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", script, str(run.path("release"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row_counts, first = json.loads(done.stdout.splitlines()[-1])
    assert row_counts == {
        "gold": {"calibration": 2, "test": 2},
        "annotations": {"train": 3},
        "scores": {"train": 12},
        "rejected": {"train": 1},
    }
    assert (first["id"], first["labels"], first["votes"]) == (
        "r4",
        ["invoice"],
        [{"label": "late_delivery", "yes": 2, "n": 3}],
    )


def test_ordinary_data_can_be_joined_to_a_release(tmp_path: Path) -> None:
    """concatenate_datasets refuses files with the types large_string and large_list, which polars writes."""
    run = make_run(tmp_path)
    release(run)
    script = (
        "import sys\n"
        "from datasets import Dataset, concatenate_datasets, load_dataset\n"
        "gold = load_dataset(sys.argv[1], split='test').select_columns(['id', 'messages', 'labels', 'agreement'])\n"
        "row = {'id': 'mine', 'messages': [{'role': 'user', 'content': 'x'}], 'labels': ['refund'], 'agreement': 1.0}\n"
        "both = concatenate_datasets([gold, Dataset.from_list([row])])\n"
        "print(both['id'][:], both.features == Dataset.from_list([row]).features)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", script, str(run.path("release"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['r3', 'r4', 'mine'] True"


def test_no_file_of_a_release_has_a_large_type_and_polars_reads_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    files = sorted((run.path("release") / "data").rglob("*.parquet"))
    assert len(files) == 5
    assert not any("large" in str(pq.read_schema(file)) or "view" in str(pq.read_schema(file)) for file in files)
    final = pl.read_parquet(run.path("gold.parquet")).filter(pl.col("status") == "final")
    released = pl.concat([pl.read_parquet(file) for file in files if file.parent.name == "gold"])
    assert released.sort("id").equals(final.drop("judged").sort("id"))


def test_every_row_matches_its_json_schema(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    schema = json.loads((run.path("release") / "schemas/annotations.schema.json").read_text(encoding="utf-8"))
    rows = pl.read_parquet(run.path("release") / "data/annotations/train.parquet").rows(named=True)
    assert [ReleasedAnswer.model_validate(row).model_dump(exclude_unset=True) for row in rows] == rows
    assert set(schema["required"]) == set(rows[0])
    assert schema["x-key"] == ["record_id", "annotator", "round"]


def test_the_card_counts_labels_and_what_was_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    head, body = card_of(run)
    assert "0 train, 2 calibration, 2 test." in body
    assert "not settled: 1 record waiting for an expert, 1 record with too few answers." in body
    assert "| Late delivery | `late_delivery` | 2 |" in body
    assert "| None of these topics |  | 1 |" in body
    assert head["size_categories"] == ["n<1K"]
    assert head["language"] == ["en"]
    assert head["configs"][0] == {  # type: ignore[index]
        "config_name": "gold",
        "default": True,
        "data_files": [
            {"split": "calibration", "path": "data/gold/calibration.parquet"},
            {"split": "test", "path": "data/gold/test.parquet"},
        ],
    }


def test_the_card_names_the_languages_of_the_records(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    prompts = pl.read_parquet(run.path("prompts.parquet"))
    attributes = [[{"name": "language", "value": "de" if name == "r1" else "en"}] for name in prompts["id"]]
    column = pl.Series("attributes", attributes, dtype=prompts.schema["attributes"])
    write_frame(run.path("prompts.parquet"), prompts.with_columns(column), PromptRecord)
    release(run)
    assert card_of(run)[0]["language"] == ["de", "en"]


def test_without_a_licence_the_card_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    head, body = card_of(run)
    assert "license" not in head
    assert "**Licence: not set.**" in body


def test_the_card_asks_for_access_unless_open(tmp_path: Path) -> None:
    run = make_run(tmp_path, config="release:\n  license: cc-by-4.0\n")
    release(run)
    head, body = card_of(run)
    assert "Licence: `cc-by-4.0`." in body
    assert "do not try to find out who the annotators are" in str(head["extra_gated_prompt"])
    run = make_run(tmp_path, config="release:\n  gated: open\n", name="open")
    release(run)
    assert not [key for key in card_of(run)[0] if key.startswith("extra_gated")]


def test_every_text_says_that_annotators_are_simulated(tmp_path: Path) -> None:
    run = make_run(tmp_path, config="simulated: true\n")
    release(run)
    head, body = card_of(run)
    assert head["annotations_creators"] == ["machine-generated"]
    assert "simulated-annotators" in head["tags"]  # type: ignore[operator]
    assert "> **Simulated.** No person labelled these records" in body
    assert "People labelled" not in body
    assert "simulated" in (run.path("release") / "CHANGELOG.md").read_text(encoding="utf-8")
    assert json.loads((run.path("release") / "release.json").read_text(encoding="utf-8"))["simulated"] is True


def test_markup_in_the_config_stays_text_on_the_card(tmp_path: Path) -> None:
    run = make_run(tmp_path, config='release:\n  title: "<script>x</script> | [a](b): - {{ 7 * 7 }}"\n')
    release(run)
    head, body = card_of(run)
    assert head["pretty_name"] == "<script>x</script> | [a](b): - {{ 7 * 7 }}"
    assert "<script>" not in body.split("```bibtex")[0]
    assert "49" not in body


def test_a_second_release_lists_what_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    changed = [
        GOLD[0],
        gold_row("r2", ["refund"], "calibration"),
        gold_row("r4", ["invoice"], "calibration"),
        gold_row("r7", ["return"], "test"),
    ]
    write_frame(run.path("gold.parquet"), GoldRecord.frame(changed), GoldRecord)
    assert release(run).manifest.facts["version"] == 2
    text = (run.path("release") / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = text.split("## Version 1")[0]
    assert (
        "## Version 2\n\n- 4 records with settled labels\n- 1 record added: `r7`\n- 1 record removed: `r3`\n" in newest
    )
    assert "- 1 record with changed labels:\n  - `r2`: late_delivery, refund → refund\n" in newest
    assert "another split, votes or soft labels: `r4`" in newest
    assert text.count("## Version") == 2


def test_the_same_content_is_the_same_version(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = release(run).manifest.outputs
    assert release(run).status == "up to date"
    again = run_stage(STAGE, run, force=True).manifest
    assert again.outputs == first
    assert again.facts["version"] == 1
    licensed = make_run(tmp_path, config="release:\n  license: cc0-1.0\n")
    assert release(licensed).manifest.facts["version"] == 1


def test_an_imported_gold_set_is_released_without_annotations(tmp_path: Path) -> None:
    run = make_run(tmp_path, answers=None, with_scores=False)
    release(run)
    head, body = card_of(run)
    assert [config["config_name"] for config in head["configs"]] == ["gold", "rejected"]  # type: ignore[attr-defined]
    assert "The labels were imported" in body


def test_a_gold_set_without_settled_labels_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, gold=GOLD[4:])
    with pytest.raises(InputError) as caught:
        release(run)
    assert str(caught.value) == (
        f"{run.path('gold.parquet')}: no record has settled labels (marginalia status --run {run.folder})"
    )
    assert not run.path("release").exists()


def test_a_name_in_place_of_a_pseudonym_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, answers=[{**ANSWERS[0], "annotator": CANARY}])
    with pytest.raises(InputError) as caught:
        release(run)
    assert "is not a pseudonym" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_charts_headline_numbers_and_the_files_that_a_service_loads(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run", whole=True)
    run_stage(EVALUATE, run)
    release(run)
    folder = run.path("release")
    for name in ("thresholds", "calibration"):
        assert json.loads((folder / f"{name}.json").read_text()) == json.loads(run.path(f"{name}.json").read_text())
        assert (folder / f"schemas/{name}.schema.json").exists()
    _, body = card_of(run)
    shown = re.findall(r"!\[(.+)\]\((charts/.+\.svg)\)", body)
    assert {path for _, path in shown} == {path.relative_to(folder).as_posix() for path in folder.glob("charts/*")}
    assert {Path(path).stem for _, path in shown} == {
        *("labels", "agreement", "smollm2-estimators", "smollm2-calibration", "smollm2-labels"),
    }
    assert body.count("\\(simulated annotators\\).* ") == len(shown)
    alts = {Path(path).stem: alt.replace("\\", "") for alt, path in shown}
    assert all(alt.endswith("; simulated annotators.") for alt in alts.values())
    gold = pl.read_parquet(run.path("gold.parquet")).filter(pl.col("status") == "final")
    counts = dict(gold.explode("labels")["labels"].drop_nulls().value_counts().iter_rows())
    for label in run.taxonomy.labels:
        assert f" {label.name} {counts.get(label.id, 0)} (asked for " in alts["labels"]
    for _, path in shown:
        drawing = ElementTree.fromstring((folder / path).read_text(encoding="utf-8"))
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        assert "class" not in drawing.attrib  # on the page, this class hides one of the two sizes
        tags = {element.tag.partition("}")[2] for element in drawing.iter()}
        assert tags <= {"svg", "title", "style", "rect", "line", "text", "circle", "polygon", "polyline"}
    page = read_model(run.path("evaluation.json"), Evaluation, made_by="evaluate").guards[0]
    best = recommended_estimator(page)
    assert best is not None
    row = next(line for line in body.partition("## Guard results")[2].split("\n") if line.startswith("| smollm2 |"))
    assert f"{best.metrics['macro_roc_auc'].value:.2f}" in row
    assert f"{best.tuned['micro_f1'].value:.2f}" in row
    assert f" {best.estimator} {best.metrics['macro_roc_auc'].value:.2f} (" in alts["smollm2-estimators"]
    names = {label.id: label.name for label in run.taxonomy.labels}
    for of_label in best.labels:
        assert f" {names[of_label.label]} {of_label.metrics['roc_auc'].value:.2f}" in alts["smollm2-labels"]
    assert best.calibration.raw is not None
    bins = best.calibration.raw.bins
    assert f": {bins[0].mean_probability:.2f} and {bins[0].share_positive:.2f}, " in alts["smollm2-calibration"]
    agreement = read_model(run.path("agreement.json"), Agreement, made_by="reconcile")
    first = next(row for row in agreement.per_label if row.alpha.value is not None)
    assert f" {names[first.label]} {first.alpha.value:.2f}" in alts["agreement"]
    assert release(run).status == "up to date"


def test_charts_of_several_guards_name_their_guard() -> None:
    data = report_data(Synthetic(n=48, skill=0.5))
    (guard,) = data.evaluation.guards
    second = guard.model_copy(update={"guard": "second"})
    both = replace(data, evaluation=data.evaluation.model_copy(update={"guards": [guard, second]}))
    titles = {chart.path: chart.title for chart in charts(both)}
    for name in ("estimators", "calibration", "labels"):
        assert titles[f"charts/{guard.guard}-{name}.svg"].startswith(f"{guard.guard}: ")
        assert titles[f"charts/second-{name}.svg"].startswith("second: ")
    assert not any(chart.title.startswith(f"{guard.guard}: ") for chart in charts(data))


def test_the_severity_of_released_labels_is_released(tmp_path: Path) -> None:
    run = make_run(tmp_path, config="annotation:\n  severity: [minor, serious]\n")
    severity = {"label": "late_delivery", "level": 1.5, "n": 2, "adjudicated": False}
    rows = [{"id": "r1", **severity}, {"id": "r5", **severity}]  # r5 is not final
    write_frame(run.path("gold_severity.parquet"), GoldSeverity.frame(rows), GoldSeverity)
    release(run)
    assert pl.read_parquet(run.path("release") / "data/severity/train.parquet").rows(named=True) == rows[:1]
    head, body = card_of(run)
    assert [config["config_name"] for config in head["configs"]][:2] == ["gold", "severity"]  # type: ignore[index,attr-defined]
    assert "| `severity` | one label of a record, with the median of the levels that annotators gave | 1 |" in body

    off = make_run(tmp_path, name="off")  # the file is left from an earlier config
    write_frame(off.path("gold_severity.parquet"), GoldSeverity.frame(rows), GoldSeverity)
    release(off)
    assert not (off.path("release") / "data/severity").exists()


def test_without_an_evaluation_the_card_shows_the_gold_only(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    _, body = card_of(run)
    assert re.findall(r"\((charts/.+)\)", body) == ["charts/labels.svg"]
    assert "## Guard results" not in body
    assert not (run.path("release") / "thresholds.json").exists()
