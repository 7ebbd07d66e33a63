"""A small run of every stage, twice, with a real LLM endpoint, a real Argilla and a real model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import datasets
import polars as pl
import pytest
import yaml

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_order import STAGES
from marginalia.pipeline.core.stage_runner import StageRun, read_manifest
from marginalia.pipeline.core.stage_summary import describe
from marginalia.pipeline.demo import run_demo
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import (
    Answer,
    GoldRecord,
    LabelScore,
    PlannedSlot,
    PromptRecord,
    RejectedAttempt,
    ScoredRecord,
)
from tests.pipeline.test_cli import marginalia
from tests.tutorial import form, steps

pytestmark = pytest.mark.slow
STAGES_RUN = sorted(set(STAGES) - {"import", "adjudicate", "audit"})


TABLES = {
    "plan.parquet": PlannedSlot,
    "prompts.parquet": PromptRecord,
    "rejected.parquet": RejectedAttempt,
    "annotations.parquet": Answer,
    "gold.parquet": GoldRecord,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_matches_its_model(demo_run: Path, name: str) -> None:
    frame = read_frame(demo_run / name, TABLES[name], made_by="test")
    assert frame.height or name == "rejected.parquet"


def test_the_counts_agree(demo_run: Path) -> None:
    counts = {
        stage: json.loads((demo_run / f"manifests/{stage}.json").read_text())["counts_out"] for stage in STAGES_RUN
    }
    assert counts["plan"]["planned"] == 8
    assert counts["generate"]["accepted"] + counts["generate"]["open"] == 8
    records = counts["generate"]["accepted"] + 24
    prompts = pl.read_parquet(demo_run / "prompts.parquet")
    assert counts["generate"]["included"] == 24 and prompts.height == records
    assert counts["push"]["sent"] == records
    answers = pl.read_parquet(demo_run / "annotations.parquet").filter(pl.col("round") == "annotate")
    assert answers.height == 3 * records
    gold = pl.read_parquet(demo_run / "gold.parquet")
    assert sorted(gold["id"]) == sorted(prompts["id"])
    assert counts["score"] == {next(iter(counts["score"])): records, list(counts["score"])[1]: 0}


def test_every_gold_record_has_every_estimator_and_label(demo_run: Path) -> None:
    (guard,) = yaml.safe_load((demo_run / "config.yaml").read_text())["score"]["guards"]
    scores = read_frame(demo_run / f"scores/{guard['name']}.parquet", LabelScore, made_by="test")
    records = read_frame(demo_run / f"scores/{guard['name']}.records.parquet", ScoredRecord, made_by="test")
    gold = pl.read_parquet(demo_run / "gold.parquet")
    assert sorted(records["record_id"]) == sorted(gold["id"])
    per_record = scores.group_by("record_id", "estimator").len()
    assert set(per_record["len"]) == {13}
    assert {"marginal", "conditional", "joint"} <= set(scores["estimator"])
    within = scores.filter((pl.col("lower") <= pl.col("probability")) & (pl.col("probability") <= pl.col("upper")))
    assert within.height == scores.height


def test_all_results_are_marked_as_simulated(demo_run: Path) -> None:
    assert "SIMULATED" in (demo_run / "report.html").read_text()
    assert "simulated" in (demo_run / "release/README.md").read_text().lower()
    assert json.loads((demo_run / "evaluation.json").read_text())["simulated"] is True


def test_only_the_key_file_has_the_names_of_annotators(demo_run: Path) -> None:
    assert set(pl.read_parquet(demo_run / "annotations.parquet")["annotator"]) <= {"A01", "A02", "A03", "A04"}
    released = b"".join(path.read_bytes() for path in (demo_run / "release").rglob("*") if path.is_file())
    assert not [name for name in (b"chris", b"dora") if name in released]
    assert (demo_run / "annotators.key.json").stat().st_mode & 0o777 == 0o600


def test_the_release_loads(demo_run: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(demo_run / "release"), "gold", cache_dir=str(tmp_path))
    assert (
        sum(split.num_rows for split in loaded.values())
        == pl.read_parquet(demo_run / "gold.parquet").filter(pl.col("status") == "final").height
    )


def test_a_second_run_does_nothing_and_reports_it(demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untouched = {path for path in demo_run.rglob("*") if path.is_file() and path.name not in (".lock", "log.jsonl")}
    before = {path: path.stat().st_mtime_ns for path in untouched}
    run_demo.run_demo(fresh=False, root=demo_run.parent)
    out = capsys.readouterr().out
    assert "nothing to do: every stage is up to date" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_that_is_not_a_demo_is_not_deleted(tmp_path: Path) -> None:
    other = tmp_path / "demo"
    other.mkdir()
    (other / "config.yaml").write_text("taxonomy: support-tickets\n")
    with pytest.raises(InputError, match="is not a demo"):
        run_demo.run_demo(fresh=True, root=tmp_path)
    assert (other / "config.yaml").exists()


# ---- docs/tutorial.md, without its numbers; `python -m tests.tutorial --write` updates it ----------------------------

STAGE_COMMAND = re.compile(r"marginalia (\w+) --run runs/(?:shop|tickets)")
# depends on the run: it has such records or none
OPTIONAL = re.compile(r", \d+ rejected: \w+(?: \w+)*|, \d+ left out, not final|^.*data/rejected/.*\n", re.MULTILINE)


def shown_by(command: str) -> str:
    (shown,) = [step.shown for step in steps() if step.text == command]
    return comparable(shown)


def comparable(text: str) -> str:
    """`text` without OPTIONAL, and with the same name for the runs and guards of the tutorial and of the demo."""
    text = OPTIONAL.sub("", text)
    text = re.sub(r"\b(?:stand-in|demo-guard|tickets)\b", "GUARD", text)
    return re.sub(r"\S*(?:runs/shop|/demo)\b", "RUN", text)


def parts(line: str) -> set[str]:
    """The counts and remarks of a stage's line; singular and plural are the same."""
    return {re.sub(r"s\b", "", part).strip() for part in re.split(r"[,;:()\n]+", form(comparable(line)))} - {""}


def test_the_tutorial_shows_the_counts_that_stages_report(demo_run: Path) -> None:
    compared = set()
    for step in steps():
        command = STAGE_COMMAND.fullmatch(step.text)
        if command is None or command[1] not in STAGES_RUN or command[1] == "publish":
            continue
        manifest = read_manifest(open_run(demo_run), command[1])
        assert manifest is not None
        # warnings and tables, which depend on the guard's answers, are indented
        shown = "\n".join(line for line in step.shown.splitlines() if not line.startswith("  "))
        why = shown.rstrip(")\n").rpartition("; ")[2]
        lines = [describe(StageRun(command[1], status, why, manifest)) for status in ("ran", "up to date")]
        assert parts(shown) <= parts("\n".join(lines)), step.text
        compared.add(command[1])
    assert compared == set(STAGES_RUN) - {"publish", "plan"}


@pytest.mark.parametrize("command", ["simulate", "publish", "verify"])
def test_the_tutorial_shows_what_these_commands_print(demo_run: Path, tmp_path: Path, command: str) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(demo_run, folder, ignore=shutil.ignore_patterns("argilla"))
    done = marginalia(command, "--run", str(folder))
    assert done.returncode == 0, done.stderr
    output = comparable(done.stdout)
    if command == "verify":
        output = output.splitlines(keepends=True)[-1]
        command += " --run runs/shop | tail -1"
    else:
        command += " --run runs/shop"
    assert form(output).splitlines() == form(shown_by(f"marginalia {command}")).splitlines()
