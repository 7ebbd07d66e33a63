"""Commands on runs whose files are damaged: it works, or ends with a message of ours, and never with a traceback.

The manifests are absent, whose hashes would refuse the files before they are read."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from tests.pipeline.synthetic_run import Synthetic, write_run

CONFIG = (
    "taxonomy: support-tickets\nevaluate: {resamples: 100, folds: 2}\nreconcile: {bootstrap: 0, compare: false}\n"
    "score: {guards: [{name: smollm2, guard: instruct, model: some/model}]}\n"
    "release: {repo_id: lab/x, license: cc-by-4.0}\n"
)
COMMANDS = ("status", "verify", "reconcile", "audit", "report", "release", "simulate")
ENDINGS = (0, 1, 2, 3)


def flipped(data: bytes, random: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice([1, 3, 20])):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda data, random: b"",
    "first half": lambda data, random: data[: len(data) // 2],
    "without its last byte": lambda data, random: data[:-1],
    "another JSON value": lambda data, random: b"[1, {}]",
    "deeply nested": lambda data, random: b"[" * 100_000,
    "NUL bytes": lambda data, random: bytes(100),
    "flipped bits": flipped,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_run(folder, Synthetic(n=30))
    (folder / "config.yaml").write_text(CONFIG)
    assert CliRunner().invoke(app, ["evaluate", "--run", str(folder)]).exit_code == 1
    shutil.rmtree(folder / "manifests")
    return folder


@pytest.mark.parametrize("damage", [*DAMAGE, "a folder", "another table"])
def test_no_command_ends_with_a_traceback(whole: Path, tmp_path: Path, damage: str) -> None:
    choose = random.Random(damage)
    files = [path.relative_to(whole) for path in whole.rglob("*.*") if path.suffix in (".json", ".parquet", ".yaml")]
    for name in choose.sample(sorted(files), 4):
        run = tmp_path / "run"
        shutil.copytree(whole, run)
        path = run / name
        if damage == "a folder":
            path.unlink()
            path.mkdir()
        elif damage == "another table":
            pl.DataFrame({"id": ["a"], "x": [1]}).write_parquet(path)
        else:
            path.write_bytes(DAMAGE[damage](path.read_bytes(), choose))
        command = choose.choice(COMMANDS)
        done = CliRunner().invoke(app, [command, "--run", str(run)])
        assert done.exit_code in ENDINGS, (name, command, done.stderr)
        shutil.rmtree(run)


VALUES = (None, -1, "x", [], {}, 1e308, "9" * 30, [None], {"a": None})


@pytest.mark.parametrize("name", ["agreement.json", "evaluation.json", "thresholds.json", "calibration.json"])
def test_no_value_in_a_json_file_leads_to_a_traceback(whole: Path, tmp_path: Path, name: str) -> None:
    choose = random.Random(name)
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path = run / name
    content = json.loads(path.read_bytes())
    for key in choose.sample(sorted(content), min(4, len(content))):
        path.write_text(json.dumps({**content, key: choose.choice(VALUES)}))
        done = CliRunner().invoke(app, [choose.choice(("report", "verify", "release")), "--run", str(run)])
        assert done.exit_code in ENDINGS, (key, done.stderr)
