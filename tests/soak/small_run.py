"""A run of five records through every stage, with a loopback LLM, a local Argilla and a tiny random guard; what it is
made of, time left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.score_stage import MERGE, score_shard
from marginalia.pipeline.importing.import_stage import prepare
from marginalia.schemas.storage.files import content_hash, frame_hash, sha256
from marginalia.scoring.engines.shards import parse_shard
from tests.annotation.runs import TAXONOMY, SimulatedRun

LINE = ("plan", "generate", "push", "pull", "reconcile", "score", "evaluate", "report", "release", "publish")
SHARDED = ("shard 2/2", "shard 1/2", "merge")  # score in parts
TIMES = ("created_at", "pulled_at", "pushed_at", "seconds", "crc", "submitted_at", "table_sha256")
SOURCE = "source.jsonl"


@dataclass(frozen=True)
class SmallLine:
    """`before[stage]` is the run as it stands when all stages before that one are done, `after[stage]` with it."""

    root: Path
    before: dict[str, Path]
    after: dict[str, Path]

    @contextmanager
    def copy(self, stage: str, *, after: bool = False) -> Iterator[Path]:
        """A copy to work on, removed afterwards; all have the same name, which stands in some artifacts."""
        folder = self.root / "copy" / "run"
        shutil.copytree((self.after if after else self.before)[stage], folder, symlinks=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def lay_out(root: Path, llm: str, home: Path, argilla: str, model: Path) -> SmallLine:
    """Runs every stage once, and keeps the run as it was before each."""
    folder = root / "whole" / "run"
    folder.mkdir(parents=True)
    (folder / "argilla").symlink_to(home)
    (folder / "taxonomy.yaml").write_text(TAXONOMY)
    (folder / "config.yaml").write_text(yaml.safe_dump(_config(llm, model, root.name)))
    before, after = {}, {}
    for stage in LINE:
        before[stage] = after[LINE[LINE.index(stage) - 1]] = root / "before" / stage
        shutil.copytree(folder, before[stage], symlinks=True)
        run_one(stage, folder)
        if stage == "push":
            _answer(SimulatedRun(folder, home, argilla))
    after[LINE[-1]] = folder
    previous = before["score"]
    for stage in SHARDED:
        before[stage], after[stage] = previous, root / stage / "run"
        shutil.copytree(previous, after[stage], symlinks=True)
        run_one(stage, after[stage])
        previous = after[stage]
    del before["shard 2/2"], after["shard 2/2"]  # as the other one
    before["import"], after["import"] = root / "before" / "import", root / "import" / "run"
    before["import"].mkdir()
    for name in ("taxonomy.yaml", "config.yaml"):
        shutil.copy(folder / name, before["import"])
    rows = [{"id": f"i{at}", "text": f"text {at}", "labels": ["a"]} for at in range(5)]
    (before["import"] / SOURCE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(before["import"], after["import"])
    run_one("import", after["import"])
    return SmallLine(root, before, after)


def _config(llm: str, model: Path, name: str) -> dict[str, Any]:
    guard = {"name": "tiny", "guard": "instruct", "model": str(model), "device": "cpu"}
    return {
        "taxonomy": "taxonomy.yaml",
        "seed": 7,
        "plan": {"records": 5, "min_per_label": 0},
        "generate": {"endpoint": {"base_url": llm, "model": "test-model"}, "waves": 1, "concurrency": 1},
        "annotation": {"team": ["ann", "ben"], "annotators": 2, "workspace": "line", "dataset": f"line-{name}"},
        "reconcile": {"bootstrap": 20, "compare": False},
        "score": {"guards": [guard], "node_budget": 8, "tolerance": 0.3, "batch_records": 2, "answer_tokens": 4},
        "evaluate": {"resamples": 100, "folds": 2},
        "release": {"repo_id": "lab/line", "license": "cc-by-4.0"},
    }


def _answer(work: SimulatedRun) -> None:
    ids = sorted(record["external_id"] for record in work.on_server())
    for who in ("ann", "ben"):
        work.answer(who, {record: [("a", "b", "c", "none")[at % 4]] for at, record in enumerate(ids)})


def run_one(stage: str, folder: Path, *, force: bool = False) -> None:
    """One command's work."""
    if stage.startswith("shard "):
        score_shard(open_run(folder), parse_shard(stage.removeprefix("shard ")))
        return
    if stage == "import":
        prepare(open_run(folder), str(folder / SOURCE), "records")
    run_stage(MERGE if stage == "merge" else load_stage(stage), open_run(folder), force=force)


def content(folder: Path, *, without: Collection[str] = ()) -> dict[str, str]:
    """Every artifact's hash by its name. Left out: times, manifests, logs and hidden files."""
    paths = {path.relative_to(folder).as_posix(): path for path in artifacts(folder)}
    return {name: hash_of(path) for name, path in paths.items() if path.name not in without}


def artifacts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in inside) or inside[0].startswith("log.")
        if path.is_file() and not hidden and inside[0] not in ("argilla", "manifests"):
            yield path


def hash_of(path: Path) -> str:
    """What it holds, whatever the time; damaged files raise."""
    kinds: dict[str, Callable[[Path], str]] = {
        ".parquet": lambda file: frame_hash(pl.read_parquet(file), without=TIMES),
        ".json": lambda file: content_hash(_timeless(json.loads(file.read_bytes()))),
        ".jsonl": _lines_hash,
    }
    return kinds.get(path.suffix, sha256)(path)


def _lines_hash(path: Path) -> str:
    """In any order: a run that went on asks and scores in another."""
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    return content_hash(sorted(content_hash(_timeless(json.loads(line))) for line in lines))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
