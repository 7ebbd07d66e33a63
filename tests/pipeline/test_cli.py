"""The command line: fast help, one-line errors with the right exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.artifacts import ARTIFACTS, GUARD
from marginalia.pipeline.core.stage_order import STAGES

COMMANDS = [
    *(
        "new",
        "config",
        "import",
        "plan",
        "preview",
        "generate",
        "push",
        "status",
        "pull",
        "reconcile",
        "adjudicate",
        "score",
        "merge",
    ),
    *("evaluate", "report", "compare", "release", "publish", "paper", "verify", "audit", "simulate", "demo", "cache"),
    *("explain", "guards check", "profile suggest", "profile check"),
    *("argilla up", "argilla down", "argilla status", "argilla users", "argilla backup", "argilla restore"),
]


def in_a_process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "marginalia.pipeline.commands.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def marginalia(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, which would import all packages again."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done = marginalia("new", "refunds", "--taxonomy", "support-tickets")
    assert done.returncode == 0, done.stderr
    return tmp_path / "runs" / "refunds"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = marginalia(*command.split(), "--help")
    assert done.returncode == 0
    assert f"Example: marginalia {command}" in done.stdout
    assert re.search(r" Reads [^.].*\. Writes .*\.", " ".join(done.stdout.split()))


@pytest.mark.parametrize("group", [(), ("argilla",)])
def test_the_list_of_commands_has_whole_sentences(group: tuple[str, ...]) -> None:
    """typer cuts what does not fit into the list."""
    done = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "80"})
    (listed,) = re.findall(r"Commands:\n(.*?)\n\n", done.stdout, flags=re.DOTALL)
    assert len(listed.splitlines()) >= 6
    assert all(re.fullmatch(r"  \w+ +[A-Z][^.]*\.", line) for line in listed.splitlines()), listed


def test_the_help_of_a_stage_names_the_files_that_it_makes() -> None:
    for artifact in ARTIFACTS:
        if artifact.named:
            name = artifact.name.replace(GUARD, "GUARD")
            assert name in STAGES[artifact.stage].writes, f"{artifact.stage}: {name}"


@pytest.mark.parametrize("module", ["marginalia.pipeline.commands.cli", "marginalia.scoring.command"])
def test_help_does_not_wait_for_heavy_imports(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'polars', 'argilla', 'transformers', 'openai', 'sklearn', 'datasets', 'numpy', 'yaml',\n"
        "         'ray', 'pyarrow', 'scipy', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_misspelt_key_names_line_and_nearest(run_folder: Path) -> None:
    config = run_folder / "config.yaml"
    lines = [*config.read_text().rstrip().split("\n"), "evaluation: {}"]
    config.write_text("\n".join(lines) + "\n")
    done = marginalia("plan", "--run", str(run_folder))
    assert done.returncode == 2
    hint = "marginalia config --explain evaluate"
    expected = f"error: {config}: line {len(lines)}: unknown key 'evaluation'; did you mean 'evaluate'? ({hint})\n"
    assert done.stderr == expected


def test_a_missing_run_says_how_to_make_one(tmp_path: Path) -> None:
    done = in_a_process("plan", "--run", "runs/nothing", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: runs/nothing: no such run (marginalia new nothing --taxonomy NAME)\n",
    )


def test_a_stage_without_its_input_names_the_stage_before(run_folder: Path) -> None:
    done = marginalia("score", "--run", str(run_folder))
    assert done.returncode == 2
    expected = (
        f"error: {run_folder}/gold.parquet: no such file; score reads it (marginalia reconcile --run {run_folder})\n"
    )
    assert done.stderr == expected


def test_a_stage_runs_once(run_folder: Path) -> None:
    first = marginalia("plan", "--run", str(run_folder))
    second = marginalia("plan", "--run", str(run_folder))
    assert first.returncode == second.returncode == 0
    assert "not run yet" in first.stdout
    assert second.stdout.startswith("plan: up to date")
    forced = marginalia("plan", "--run", str(run_folder), "--force")
    assert "forced" in forced.stdout


def test_a_changed_config_makes_a_stage_stale(run_folder: Path) -> None:
    marginalia("plan", "--run", str(run_folder))
    config = run_folder / "config.yaml"
    config.write_text(
        config.read_text() + "\nseed: 7\n"
        if "\nseed:" not in config.read_text()
        else config.read_text().replace("\nseed: ", "\nseed: 1")
    )
    assert "config changed" in marginalia("plan", "--run", str(run_folder)).stdout


def test_a_damaged_input_is_caught_by_its_hash(run_folder: Path) -> None:
    marginalia("plan", "--run", str(run_folder))
    plan = run_folder / "plan.parquet"
    data = bytearray(plan.read_bytes())
    data[len(data) // 2] ^= 1
    plan.write_bytes(data)
    done = marginalia("generate", "--run", str(run_folder))
    assert done.returncode == 2
    expected = (
        f"error: {plan}: is not what plan wrote (its SHA-256 differs) (marginalia plan --run {run_folder} --force)\n"
    )
    assert done.stderr == expected


def test_a_second_process_is_refused_and_names_the_process_that_uses_the_run(run_folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from marginalia.schemas.storage.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), 'holding'):\n  print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(run_folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        done = marginalia("plan", "--run", str(run_folder))
        assert done.returncode == 4
        assert f"is in use by process {holder.pid} (holding, since " in done.stderr
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert marginalia("plan", "--run", str(run_folder)).returncode == 0


def test_config_explains_a_key() -> None:
    done = marginalia("config", "--explain", "annotators")
    assert done.returncode == 0
    assert "answers that each record needs" in done.stdout
    wrong = marginalia("config", "--explain", "anotators")
    assert wrong.returncode == 2
    assert "did you mean 'annotators'?" in wrong.stderr
