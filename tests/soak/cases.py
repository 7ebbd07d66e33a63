"""The four stages under fire: how a run of each is laid out, and what of it no kill may change."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import yaml

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.storage.files import content_hash, frame_hash, write_frame
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.taxonomy import load_taxonomy
from tests.annotation.runs import TAXONOMY, SimulatedRun, make_run
from tests.openai_server import OpenAIServer, request_hash

IN_FLIGHT = 5  # calls of generate at once
RECORDS = {"generate": 30, "push": 60, "pull": 60, "score": 16}


class Case(Protocol):
    """`items` counts what must be there once: an answer, a record. `content` is all that the stage leaves, time left
    out. `paid` counts calls that a repetition would pay for again, `kept` those of them that are on disk."""

    stage: str
    most_repeated: int  # paid calls that one kill may repeat; a disk that fails takes what is not synced yet as well
    faults: tuple[str, ...]

    def lay_out(self, name: str) -> Path: ...

    def items(self, folder: Path) -> Counter[str]: ...

    def content(self, folder: Path) -> str: ...

    def paid(self) -> int: ...

    def kept(self, folder: Path) -> int: ...


def journal(path: Path) -> list[dict[str, Any]]:
    """The whole lines."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


class _Free:
    """Repeating a call costs nothing."""

    most_repeated = 0

    def paid(self) -> int:
        return 0

    def kept(self, folder: Path) -> int:
        return 0


class Generate(_Free):
    stage = "generate"
    most_repeated = IN_FLIGHT
    faults = ("fsync", "replace", "full")

    def __init__(self, root: Path, server: OpenAIServer) -> None:
        self._root, self._server = root, server

    def lay_out(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(parents=True)
        endpoint = {"base_url": self._server.url, "model": "test-model"}
        config = {
            "taxonomy": "support-tickets",
            "seed": 7,
            "plan": {"records": RECORDS["generate"], "min_per_label": 0},
            "generate": {"endpoint": endpoint, "waves": 2, "concurrency": IN_FLIGHT},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        run_stage(PLAN, open_run(folder))
        return folder

    def items(self, folder: Path) -> Counter[str]:
        return Counter(entry["key"] for entry in journal(folder / "responses.jsonl"))

    def content(self, folder: Path) -> str:
        prompts = frame_hash(pl.read_parquet(folder / "prompts.parquet"), without=["created_at"])
        return prompts + frame_hash(pl.read_parquet(folder / "rejected.parquet"))

    def paid(self) -> int:
        while self._server.in_flight:  # the server has not noticed yet that nobody waits for its answer
            time.sleep(0.002)
        return self._server.calls

    def kept(self, folder: Path) -> int:
        return len(journal(folder / "responses.jsonl"))


class Push(_Free):
    stage = "push"
    faults = ("fsync", "replace", "http")

    def __init__(self, root: Path, home: Path, url: str) -> None:
        self._root, self._home, self._url = root, home, url

    def lay_out(self, name: str) -> Path:
        texts = {f"r{at:03}": f"text {at} <b> & \u2028 end" for at in range(RECORDS["push"])}
        make_run(self._root / name, self._home, self._url, texts=texts, annotation={"batch": 5})
        return self._root / name

    def items(self, folder: Path) -> Counter[str]:
        return Counter(record["external_id"] for record in self._records(folder))

    def content(self, folder: Path) -> str:
        pushed = json.loads((folder / "push.json").read_bytes())
        fields = sorted((record["external_id"], content_hash(record["fields"])) for record in self._records(folder))
        return content_hash([fields, pushed["records"]])

    def _records(self, folder: Path) -> list[dict[str, Any]]:
        return SimulatedRun(folder, self._home, self._url).on_server()


class Pull(_Free):
    """All runs pull the same answers: copies of one run that was pushed and answered."""

    stage = "pull"
    faults = ("fsync", "replace", "full", "http")

    def __init__(self, root: Path, home: Path, url: str) -> None:
        self._root = root
        texts = {f"r{at:03}": f"text {at}" for at in range(RECORDS["pull"])}
        self._pushed = make_run(root / "pushed", home, url, texts=texts)
        self._pushed.stage("push")
        for who, shift in (("ann", 0), ("ben", 1)):
            ticks: Mapping[str, list[str]] = {
                r: [("a", "b", "c", "none")[(at + shift) % 4]] for at, r in enumerate(texts)
            }
            self._pushed.answer(who, ticks)

    def lay_out(self, name: str) -> Path:
        shutil.copytree(self._pushed.folder, self._root / name, symlinks=True)
        return self._root / name

    def items(self, folder: Path) -> Counter[str]:
        lines = journal(folder / "annotations.jsonl")
        return Counter(f"{line['record_id']} {line['annotator']} {line['round']}" for line in lines)

    def content(self, folder: Path) -> str:
        return frame_hash(pl.read_parquet(folder / "annotations.parquet"), without=["pulled_at"])


class Score(_Free):
    stage = "score"
    faults = ("fsync", "replace", "full")

    def __init__(self, root: Path, model: Path) -> None:
        self._root, self._model = root, model

    def lay_out(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(parents=True)
        (folder / "taxonomy.yaml").write_text(TAXONOMY)
        guard = {"name": "tiny", "guard": "instruct", "model": str(self._model), "device": "cpu"}
        section = {"guards": [guard], "node_budget": 12, "tolerance": 0.2, "batch_records": 2, "answer_tokens": 6}
        (folder / "config.yaml").write_text(yaml.safe_dump({"taxonomy": "taxonomy.yaml", "score": section}))
        write_frame(folder / "gold.parquet", gold(folder), GoldRecord)
        return folder

    def items(self, folder: Path) -> Counter[str]:
        return Counter(entry["id"] for entry in journal(folder / "scores/tiny.journal.jsonl"))

    def content(self, folder: Path) -> str:
        scores = frame_hash(pl.read_parquet(folder / "scores/tiny.parquet"))
        return scores + frame_hash(pl.read_parquet(folder / "scores/tiny.records.parquet"), without=["seconds"])


def gold(folder: Path) -> pl.DataFrame:
    """Final records without labels."""
    labels = load_taxonomy("taxonomy.yaml", relative_to=folder).ids
    rows = [
        {
            "id": f"r{at:03}",
            "messages": [{"role": "user", "content": f"Where is parcel {at}?"}],
            "status": "final",
            "labels": [],
            "soft_labels": [],
            "votes": [{"label": label, "yes": 0, "n": 2} for label in labels],
            "n_annotators": 2,
            "agreement": 1.0,
            "method": "majority",
            "adjudicated": False,
            "split": "test",
        }
        for at in range(RECORDS["score"])
    ]
    return GoldRecord.frame(rows)


def slow_enough(payload: dict[str, Any]) -> float:
    """Seconds that the loopback LLM takes for an answer, a function of the request."""
    return 0.02 + int(request_hash(payload), 16) % 20 / 1000
