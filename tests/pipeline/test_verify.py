"""`marginalia verify`: a complete run passes; damaged or missing files and wrong counts are reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.manifest_hashes import check_manifests
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.errors import ArtifactError, InputError
from marginalia.schemas.storage.files import sha256
from marginalia.schemas.storage.journal import RESTORE
from tests.pipeline.test_cli import marginalia

pytestmark = pytest.mark.slow
MAKERS = {
    "plan.parquet": "plan",
    "prompts.parquet": "generate",
    "rejected.parquet": "generate",
    "responses.jsonl": "generate",
    "generation.json": "generate",
    "push.json": "push",
    "annotations.jsonl": "pull",
    "annotations.parquet": "pull",
    "gold.parquet": "reconcile",
    "agreement.json": "reconcile",
    "scores/tickets.parquet": "score",
    "scores/tickets.records.parquet": "score",
    "evaluation.json": "evaluate",
    "thresholds.json": "evaluate",
    "calibration.json": "evaluate",
    "report.html": "report",
    "release/README.md": "release",
    "release/release.json": "release",
    "release/data/gold/test.parquet": "release",
}


@pytest.fixture
def copy(demo_run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    shutil.copytree(demo_run, folder, ignore=shutil.ignore_patterns("argilla"))
    return folder


def failed(folder: Path) -> dict[tuple[str, str], str]:
    return {(check.stage, check.subject): check.problem or "" for check in verify(open_run(folder)).failed}


def test_a_finished_run_passes(demo_run: Path) -> None:
    verification = verify(open_run(demo_run))
    assert verification.failed == []
    summaries = {(check.stage, check.subject): check.summary for check in verification.checks}
    assert summaries["push", "counts"] == f"{8 + 24 - _open(demo_run)} pushed of {8 + 24 - _open(demo_run)} records"
    assert {stage for stage, _ in summaries} >= {"plan", "generate", "push", "pull", "reconcile", "score", "release"}


def _open(folder: Path) -> int:
    count: int = json.loads((folder / "manifests/generate.json").read_bytes())["counts_out"]["open"]
    return count


def test_the_makers_are_all_files_of_the_run(demo_run: Path) -> None:
    manifests = [json.loads(path.read_bytes()) for path in (demo_run / "manifests").glob("*.json")]
    written = {name for manifest in manifests for name in manifest["outputs"]}
    assert written - {"adjudicate.json", "release"} == {name for name in MAKERS if not name.startswith("release/")}


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip])
def test_every_damaged_artifact_is_caught_with_the_command_that_rebuilds_it(
    copy: Path, damage: Callable[[bytes], bytes]
) -> None:
    run = open_run(copy)
    for name, maker in MAKERS.items():
        path = copy / name
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        verification = Verification(str(copy))
        check_manifests(run, verification)
        first = next(check for check in verification.failed if check.subject == "outputs")
        top = name if not name.startswith("release/") else "release"
        assert (first.stage, first.problem) == (maker, f"{top} is not what it wrote (its SHA-256 differs)")
        assert first.fix is not None and first.fix.endswith(
            f"{run.command(maker)}" if name.endswith(".jsonl") else f"{run.command(maker)} --force"
        )
        path.write_bytes(whole)


READERS = {
    "plan.parquet": "generate",
    "prompts.parquet": "push",
    "annotations.parquet": "reconcile",
    "gold.parquet": "score",
    "scores/tickets.parquet": "evaluate",
    "scores/tickets.records.parquet": "evaluate",
    "evaluation.json": "report",
    "release/README.md": "publish",
}


@pytest.mark.parametrize("damage", [truncate, flip])
def test_no_stage_reads_a_damaged_artifact(copy: Path, damage: Callable[[bytes], bytes]) -> None:
    run = open_run(copy)
    for name, reader in READERS.items():
        path = copy / name
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        named = "release" if name.startswith("release/") else name
        with pytest.raises(ArtifactError) as caught:
            run_stage(load_stage(reader), run)
        assert str(caught.value) == (
            f"{copy / named}: is not what {MAKERS[name]} wrote (its SHA-256 differs) "
            f"({run.command(MAKERS[name])} --force)"
        )
        path.write_bytes(whole)


def test_damage_inside_a_journal_is_named_with_its_line(copy: Path) -> None:
    for name, maker in (("responses.jsonl", "generate"), ("annotations.jsonl", "pull")):
        lines = (copy / name).read_bytes().split(b"\n")
        lines[2] = flip(lines[2])
        (copy / name).write_bytes(b"\n".join(lines))
        problem = failed(copy)[maker, "journal"]
        assert problem.startswith(f"{copy / name}: line 3: damaged: ")
        assert problem.endswith(f"({RESTORE})")


def lie(folder: Path, stage: str, name: str, change: Callable[[Any], Any]) -> None:
    """Changes an artifact and its hashes in the manifests, so that only its content is wrong."""
    path = folder / name
    if path.suffix == ".parquet":
        change(pl.read_parquet(path)).write_parquet(path)
    else:
        path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    for manifest_path in (folder / "manifests").glob("*.json"):
        manifest = json.loads(manifest_path.read_bytes())
        for kind in ("inputs", "outputs"):
            manifest[kind] |= {name: sha256(path)} if name in manifest[kind] else {}
        manifest_path.write_text(json.dumps(manifest))


def without_first(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.slice(1)


def no_upper(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(upper=0.0)


def one_final(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {**evaluation, "gold": {**evaluation["gold"], "final": 1}}


def no_guards(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {**evaluation, "guards": []}


LIES: list[tuple[str, str, Callable[[Any], Any], tuple[str, str], str]] = [
    ("generate", "prompts.parquet", without_first, ("generate", "counts"), "reason; the manifest says 8 accepted"),
    ("pull", "annotations.parquet", without_first, ("pull", "journal"), "annotations.parquet is not the latest state"),
    ("reconcile", "gold.parquet", without_first, ("reconcile", "counts"), "is in prompts but not in gold"),
    ("score", "scores/tickets.parquet", without_first, ("score", "counts"), "has 103 of 104 numbers"),
    (
        "score",
        "scores/tickets.parquet",
        lambda frame: frame.with_columns(probability=pl.col("probability").reverse(), lower=0.0, upper=1.0),
        ("score", "journal"),
        "of tickets differs between journal and table",
    ),
    ("score", "scores/tickets.parquet", no_upper, ("score", "counts"), "is outside its bounds"),
    ("score", "scores/tickets.records.parquet", without_first, ("score", "counts"), "was not scored"),
    ("push", "push.json", lambda pushed: {**pushed, "records": 999}, ("push", "counts"), "999 of "),
    ("evaluate", "evaluation.json", one_final, ("evaluate", "counts"), "evaluation.json counts 1 final of"),
    ("evaluate", "evaluation.json", no_guards, ("evaluate", "counts"), "evaluation.json judges these guards: none"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "name", "change", "where", "problem"), LIES)
def test_numbers_that_do_not_add_up_are_named(
    copy: Path, stage: str, name: str, change: Callable[[Any], Any], where: tuple[str, str], problem: str
) -> None:
    lie(copy, stage, name, change)
    assert problem in failed(copy)[where]


def test_a_release_that_was_not_built_of_this_run_is_named(copy: Path) -> None:
    path = copy / "release/data/gold/test.parquet"
    pl.read_parquet(path).slice(1).write_parquet(path)
    assert "data/gold/test.parquet differs from the run's files" in failed(copy)["release", "counts"]


def test_a_file_that_no_manifest_names(copy: Path) -> None:
    (copy / "manifests/evaluate.json").unlink()
    assert failed(copy)["evaluate", "manifest"] == "no manifest lists thresholds.json"


def test_a_readable_key_is_named(copy: Path) -> None:
    (copy / "annotators.key.json").chmod(0o644)
    assert failed(copy)["run", "private files"] == "other users can read annotators.key.json"


def test_the_command(copy: Path) -> None:
    done = marginalia("verify", "--run", str(copy))
    assert (done.returncode, done.stdout.split("\n")[-2]) == (0, f"{copy}: all {_checks(copy)} checks passed")
    (copy / "gold.parquet").unlink()
    done = marginalia("verify", "--run", str(copy), "--json")
    assert done.returncode == 2
    checks = json.loads(done.stdout)["checks"]
    assert list(checks[0]) == ["stage", "what", "seen", "problem", "mend", "ok"]
    assert "gold.parquet is missing" in [check["problem"] for check in checks if not check["ok"]]
    assert f"fix: marginalia reconcile --run {copy} --force" in str(verify(open_run(copy)))


def _checks(folder: Path) -> int:
    return len(verify(open_run(folder)).checks)


def test_a_run_without_stages_has_nothing_to_verify(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("taxonomy: support-tickets\n")
    run: Run = open_run(tmp_path)
    with pytest.raises(InputError, match="no stage has run yet"):
        verify(run)
