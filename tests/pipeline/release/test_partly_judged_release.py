"""Releases of gold in which some labels were not judged in some records: tables, card, changelog, verification."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from marginalia.pipeline.core.artifacts import GOLD as GOLD_TABLE
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.importing.column_mapping import SHIPPED
from marginalia.pipeline.importing.import_stage import prepare
from marginalia.pipeline.release.release_checks import refuse_leaks
from marginalia.pipeline.release.release_stage import STAGE
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.release_contents import check_release
from marginalia.pipeline.verification.run_contents import read_contents
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.files import sha256, write_frame, write_json
from marginalia.schemas.tables import GoldRecord
from tests.pipeline.evaluation.test_stages import CONFIG
from tests.pipeline.partly_judged import LABELS, PARTLY, SYNTHETIC, masked_frames
from tests.pipeline.release.labelled_run import ANSWERS, AT, GOLD, answer, gold_row, make_run
from tests.pipeline.synthetic_run import write_run


def release(run: Run) -> None:
    run_stage(STAGE, run)


def card_of(run: Run) -> tuple[dict[str, Any], str]:
    _, head, body = (run.path("release") / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), " ".join(body.split())


def released(run: Run, name: str) -> pl.DataFrame:
    return pl.read_parquet(run.path("release") / f"data/{name}.parquet")


def test_all_splits_say_which_labels_were_judged_if_any_record_is_partly_judged(tmp_path: Path) -> None:
    run = make_run(tmp_path, gold=PARTLY)
    release(run)
    judged = {split: released(run, f"gold/{split}").select("id", "judged").rows() for split in ("calibration", "test")}
    assert judged == {
        "calibration": [("r1", None), ("r2", ["refund", "invoice", "late_delivery"])],
        "test": [("r3", None), ("r4", ["invoice"])],
    }
    assert released(run, "gold/train").select("id", "judged").rows() == [("r7", None)]  # a list of all labels is null
    assert released(run, "gold/train").schema == released(run, "gold/test").schema


def test_an_import_of_the_release_has_the_same_labels_and_judged_labels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first", gold=PARTLY)
    release(run)
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"taxonomy: {run.taxonomy_path}\n", encoding="utf-8")
    again, mapping = open_run(folder), tmp_path / "mapping.yaml"
    mapping.write_text(SHIPPED.joinpath("records.yaml").read_text().replace("text: text", "messages: messages"))
    prepare(again, str(run.path("release") / "data/gold/*.parquet"), str(mapping))
    done = run_stage(load_stage("import"), again)
    before, after = (GOLD_TABLE.read(one).filter(pl.col("status") == "final") for one in (run, again))
    assert before["judged"].null_count() < before.height
    columns = ("id", "messages", "labels", "judged")
    every = pl.when(pl.col("judged").list.len() < len(run.taxonomy.ids)).then(pl.col("judged").list.sort())
    assert_frame_equal(
        *(
            frame.select(columns).with_columns(every, pl.col("labels").list.sort()).sort("id")
            for frame in (before, after)
        )
    )
    assert done.manifest.counts_out["partly_labelled"] == 2
    mapping.write_text("id: id\nmessages: messages\nlabels: {column: labels}\n")
    prepare(again, str(run.path("release") / "data/gold/*.parquet"), str(mapping))
    (warning,) = run_stage(load_stage("import"), again).manifest.warnings
    assert warning.endswith("add judged: {column: judged} to labels in the mapping")


@pytest.mark.parametrize("judged", [None, LABELS])
def test_without_a_partly_judged_record_the_tables_have_no_such_column(
    tmp_path: Path, judged: list[str] | None
) -> None:
    gold = [{**row, "judged": judged} for row in GOLD]
    run = make_run(tmp_path, gold=gold, answers=[{**row, "judged": judged} for row in ANSWERS])
    release(run)
    old_columns = [name for name in GoldRecord.polars_schema() if name != "judged"]
    assert released(run, "gold/test").columns == old_columns
    assert released(run, "annotations/train").columns == ["record_id", "annotator", "labels", "status", "round"]
    assert "judged" not in card_of(run)[1]


def test_an_answer_says_which_labels_its_annotator_was_asked_about(tmp_path: Path) -> None:
    answers = [{**answer("r1", "A01", ["late_delivery"]), "judged": ["late_delivery"]}, answer("r1", "A02", [])]
    run = make_run(tmp_path, answers=answers)
    release(run)
    assert released(run, "annotations/train").select("annotator", "judged").rows() == [
        ("A01", ["late_delivery"]),
        ("A02", None),
    ]
    assert "judged" not in released(run, "gold/test").columns
    assert "(pseudonyms); `judged`: the labels that it was about, null for all |" in card_of(run)[1]


def test_the_card_counts_only_judged_cells(tmp_path: Path) -> None:
    """late_delivery was judged in r1, r2, r3 and r7; r4 has no label, but only `invoice` was judged."""
    run = make_run(tmp_path, gold=PARTLY)
    release(run)
    _, body = card_of(run)
    assert "| Late delivery | `late_delivery` | 4 | 2 |" in body
    assert "| Refund | `refund` | 4 | 1 |" in body
    assert "| Invoice or document | `invoice` | 5 | 0 |" in body
    assert "| Return | `return` | 3 | 0 |" in body
    assert "| None of these topics | | 4 | 2 |" in body
    assert "2 records are partly judged: the column `judged` lists the labels" in body
    assert "is unknown in that record, not negative" in body
    assert "For 1 record without a label it is therefore unknown whether any label applies (it does not count" in body
    assert "`labels: []` means that none of the judged labels applies" in body


def test_the_snippet_of_the_card_loads_the_splits_with_equal_columns(tmp_path: Path) -> None:
    run = make_run(tmp_path, gold=PARTLY)
    release(run)
    _, body = (run.path("release") / "README.md").read_text(encoding="utf-8").split("```python\n", 1)
    snippet = body.split("```")[0]
    script = snippet + (
        "import json\n"
        "assert gold['train'].features == gold['test'].features\n"
        "print(json.dumps({row['id']: row['judged'] for split in gold.values() for row in split}))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, cwd=run.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        **dict.fromkeys(["r1", "r3", "r7"]),
        "r2": ["refund", "invoice", "late_delivery"],
        "r4": ["invoice"],
    }


def test_the_changelog_lists_records_in_which_other_labels_were_judged(tmp_path: Path) -> None:
    """r3 was judged on all labels and is now judged on one; r4 only lists its judged labels in another order."""
    run = make_run(tmp_path, gold=[*GOLD[:3], gold_row("r4", [], "test", judged=["refund", "invoice"])])
    release(run)
    changed = [
        gold_row("r3", [], "test", judged=["refund"]),
        gold_row("r4", [], "test", judged=["invoice", "refund"]),
    ]
    write_frame(run.path("gold.parquet"), GoldRecord.frame([*GOLD[:2], *changed]), GoldRecord)
    release(run)
    newest = (run.path("release") / "CHANGELOG.md").read_text(encoding="utf-8").split("## Version 1")[0]
    assert "- 1 record in which other labels were judged: `r3`\n" in newest
    assert "- 0 records with changed labels\n" in newest
    assert "split, votes or soft labels: `r4`\n" in newest
    versions = json.loads((run.path("release") / "release.json").read_text(encoding="utf-8"))["versions"]
    assert ["rejudged" in version for version in versions] == [False, True]


def test_a_release_without_the_column_is_the_previous_version_of_one_with_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    release(run)
    write_frame(run.path("gold.parquet"), GoldRecord.frame([*GOLD[:3], *PARTLY[3:4]]), GoldRecord)
    release(run)
    newest = (run.path("release") / "CHANGELOG.md").read_text(encoding="utf-8").split("## Version 1")[0]
    assert "- 1 record with changed labels:\n  - `r4`: invoice → none\n" in newest
    assert "but another split, votes or soft labels" in newest
    assert "- 0 records with the same text" in newest


def release_problems(run: Run) -> list[str | None]:
    verification = Verification(str(run.folder))
    check_release(read_contents(run, {}, verification), verification)
    return [check.problem for check in verification.checks if check.stage == "release"]


def test_verify_compares_the_judged_labels_of_the_release(tmp_path: Path) -> None:
    run = make_run(tmp_path, gold=PARTLY)
    release(run)
    assert release_problems(run) == [None]
    path = run.path("release") / "data/gold/test.parquet"
    pl.read_parquet(path).with_columns(judged=pl.lit(None, dtype=pl.List(pl.String))).write_parquet(path)
    assert release_problems(run) == ["data/gold/test.parquet differs from the run's files"]


def test_a_label_in_judged_is_not_taken_for_a_log_in(tmp_path: Path) -> None:
    run = make_run(tmp_path, gold=PARTLY)
    release(run)
    refuse_leaks(run.path("release"), ["invoice"], [])


@pytest.mark.parametrize(
    ("answers", "imported", "creator", "source"),
    [
        (None, [], "found", "The labels were imported together with the records."),
        (ANSWERS, ["annotations.parquet"], "found", "The answers of the annotators were imported"),
        (ANSWERS, ["prompts.parquet"], "expert-generated", "People labelled the records independently"),
    ],
)
def test_the_card_names_people_only_if_people_answered_here(
    tmp_path: Path, answers: list[dict[str, Any]] | None, imported: list[str], creator: str, source: str
) -> None:
    run = make_run(tmp_path, answers=answers)
    manifest = Manifest(
        stage="import",
        inputs={},
        outputs={name: sha256(run.path(name)) for name in imported},
        config_sha256="e" * 64,
        counts_in={"rows": 1, "torn_bytes": 0},
        counts_out={"records": 6, "unlabelled": 1, "ignored_values": 3},
        seconds=0.1,
        versions={},
        finished_at=AT,
    )
    if imported:
        write_json(run.path("manifests/import.json"), manifest.model_dump(mode="json"))
    release(run)
    head, body = card_of(run)
    assert head["annotations_creators"] == [creator]
    assert source in body
    if imported:
        assert "| import | 1 row read, 6 records, 1 record without labels | |" in body


def test_an_evaluated_run_with_partly_judged_records_passes_all_stages_and_checks(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_run(folder, SYNTHETIC, whole=False, simulated=False)
    (folder / "config.yaml").write_text(CONFIG.format(simulated="false"), encoding="utf-8")
    run = open_run(folder)
    gold = masked_frames().gold
    write_frame(run.path("gold.parquet"), gold, GoldRecord)
    for name in ("evaluate", "report", "release"):
        run_stage(load_stage(name), run)
    checks = [check for check in verify(run).checks if check.stage != "score"]  # some of its records have no scores
    assert {check.stage for check in checks} >= {"evaluate", "report", "release"}
    # the planted gold has no manifest
    assert [check for check in checks if not check.ok and check.subject != "manifest"] == []
    head, body = card_of(run)
    partly = gold.filter((pl.col("status") == "final") & pl.col("judged").is_not_null())
    assert f"{partly.height} records are partly judged" in body
    assert "share of records that were judged on all labels and are without a label" in body
    assert "Labels that were not judged in a record are left out." in body
    assert head["annotations_creators"] == ["found"]
