"""No command writes over a file that it reads, whichever of its output files it is and by whichever path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, run_stage
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import taxonomy_path
from marginalia.scoring.command import main as score
from marginalia.scoring.guard import guard_path
from tests.pipeline.evaluation.test_stages import CONFIG
from tests.pipeline.synthetic_run import Synthetic, write_run

RECORDS = '{"id": "r1", "text": "hello", "labels": []}\n'
MODEL = ("--model", "bundled-guard", "--guard", "support-tickets")


def records_at(path: Path) -> Path:
    if path.suffix == ".parquet":
        pl.DataFrame({"id": ["r1"], "text": ["hello"], "labels": [[]]}).write_parquet(path)
    else:
        path.write_text(RECORDS)
    return path


def same(path: Path) -> Path:
    return path


def symbolic_link(path: Path) -> Path:
    link = path.with_name(f"symbolic{path.suffix}")
    link.symlink_to(path)
    return link


def hard_link(path: Path) -> Path:
    link = path.with_name(f"hard{path.suffix}")
    os.link(path, link)
    return link


def other_spelling(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


WAYS = [same, symbolic_link, hard_link, other_spelling]


@pytest.mark.parametrize("way", WAYS)
def test_score_does_not_replace_its_records(
    tmp_path: Path, way: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    records = records_at(tmp_path / "in.parquet")
    before, out = records.read_bytes(), way(records)
    assert score([str(records), *MODEL, "--out", str(out)]) == 2
    problem = f"error: {out} would be written over, and is the input {records} (choose another name for --out)\n"
    assert capsys.readouterr().err == problem
    assert records.read_bytes() == before
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("name", ["s.records.parquet", "s.journal.jsonl"])
def test_score_does_not_replace_records_by_a_file_next_to_its_output(tmp_path: Path, name: str) -> None:
    records = records_at(tmp_path / name)
    before = records.read_bytes()
    assert score([str(records), *MODEL, "--out", str(tmp_path / "s.parquet")]) == 2
    assert records.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "content"),
    [
        ("--guard", guard_path("support-tickets")),
        ("--taxonomy", taxonomy_path("support-tickets")),
        ("--calibration", None),
    ],
)
def test_score_replaces_none_of_its_other_inputs(tmp_path: Path, option: str, content: Path | None) -> None:
    records = records_at(tmp_path / "records.jsonl")
    file = tmp_path / ("calibration.json" if content is None else "file.yaml")
    file.write_text("{}" if content is None else content.read_text())
    os.link(file, tmp_path / "out.parquet")
    before = file.read_bytes()
    assert score([str(records), *MODEL, option, str(file), "--out", str(tmp_path / "out.parquet")]) == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["s.parquet", "s.records.parquet", "s.shard.json", "s.journal.jsonl"])
def test_a_shard_does_not_replace_its_records(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "s.shards" / "1-of-2"
    folder.mkdir(parents=True)
    records = folder / name
    records.write_text(RECORDS)
    assert score([str(records), *MODEL, "--shard", "1/2", "--out", str(tmp_path / "s.parquet")]) == 2
    assert records.read_text() == RECORDS


def test_merge_does_not_replace_its_records(tmp_path: Path) -> None:
    for out in ("in.parquet", "x.parquet"):
        records = records_at(tmp_path / ("in.parquet" if out == "in.parquet" else "x.records.parquet"))
        before = records.read_bytes()
        assert score(["merge", str(records), "--out", str(tmp_path / out)]) == 2
        assert records.read_bytes() == before


@pytest.mark.parametrize("name", ["paper.json", "published.journal.jsonl", "marginalia.journal.jsonl"])
def test_paper_does_not_replace_its_records(tmp_path: Path, name: str) -> None:
    records = tmp_path / name
    records.write_text(RECORDS)
    result = CliRunner().invoke(app, ["paper", str(records), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{records} would be written over, and is the input {records} (choose another folder" in result.stderr
    assert records.read_text() == RECORDS


@pytest.mark.parametrize("name", ["prompts.parquet", "gold.parquet"])
@pytest.mark.parametrize("way", WAYS)
def test_import_does_not_replace_its_source(tmp_path: Path, name: str, way: Callable[[Path], Path]) -> None:
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\n")
    records = records_at(tmp_path / name)
    before = records.read_bytes()
    result = CliRunner().invoke(app, ["import", str(way(records)), "--run", str(tmp_path)])
    assert result.exit_code == 2
    assert "would be written over, and is the input" in result.stderr
    assert records.read_bytes() == before
    assert not (tmp_path / "import.yaml").exists()


def test_compare_does_not_replace_a_file_of_its_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", Synthetic(), whole=False)
    (tmp_path / "a" / "config.yaml").write_text(CONFIG.format(simulated="false"))
    run_stage(load_stage("evaluate"), open_run(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    report = tmp_path / "b" / "report.html"
    report.write_text("the report of run b")
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(report)])
    assert result.exit_code == 2
    assert f"{report} would be written over" in result.stderr
    assert report.read_text() == "the report of run b"


def test_no_stage_replaces_one_of_its_inputs(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\n")
    (tmp_path / "mine.jsonl").write_text(RECORDS)
    os.link(tmp_path / "mine.jsonl", tmp_path / "made.jsonl")

    def work(run: object) -> StageOutcome:
        raise AssertionError("the stage ran")

    stage = Stage("report", lambda run: ["mine.jsonl"], lambda run: ["made.jsonl"], (), work)
    with pytest.raises(InputError, match=r"made\.jsonl would be written over, and is the input .*mine\.jsonl"):
        run_stage(stage, open_run(tmp_path))
