"""A run with prompts and a real Argilla, used as people use it: push, answer, pull."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.server.server_control import accounts
from marginalia.pipeline.annotating import adjudicate_stage, pull_stage, push_stage
from marginalia.pipeline.annotating import reconcile_stage as reconcile
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import StageRun, run_stage
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import PromptRecord

TAXONOMY = """
id: topics
version: "1"
title: Topics
subject: short messages
content_notice: Some are <i>rude</i>.
labels:
  - {id: a, name: "Apples <b>", definition: "About *apples* & [pears](http://192.0.2.1/)."}
  - {id: b, name: Boats, definition: About boats., examples: ["<script>alert(1)</script>"]}
  - {id: c, name: Cats, definition: About cats.}
"""
STAGES = {"push": push_stage, "pull": pull_stage, "reconcile": reconcile, "adjudicate": adjudicate_stage}


@dataclass
class SimulatedRun:
    folder: Path
    home: Path
    url: str

    @property
    def run(self) -> Run:
        return open_run(self.folder)

    def stage(self, name: str, *, force: bool = False) -> StageRun:
        return run_stage(STAGES[name].STAGE, self.run, force=force)

    def pushed(self, file: str = "push.json") -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / file).read_bytes())
        return content

    @contextmanager
    def as_user(self, name: str) -> Iterator[Connection]:
        account = next(account for account in accounts(self.home) if account.username == name)
        with Connection(self.url, account.api_key, key_hint="the test's") as connection:
            yield connection

    def on_server(self, file: str = "push.json", *, responses: bool = False) -> list[dict[str, Any]]:
        with self.as_user("owner") as owner:
            return records_of(owner, self.pushed(file)["dataset_id"], responses=responses)

    def on_server_named(self) -> list[dict[str, Any]]:
        """The records of the config's dataset, also before push.json is written."""
        with self.as_user("owner") as owner:
            datasets = owner.get("/me/datasets")["items"]
            dataset = next(item for item in datasets if item["name"] == self.run.config.annotation.dataset)
            return records_of(owner, dataset["id"])

    def answer(
        self,
        username: str,
        given: Mapping[str, list[str] | None],
        *,
        status: str = "submitted",
        file: str = "push.json",
        **more: str,
    ) -> None:
        """`given`: labels by record id; None leaves the label question empty. `more`: values of other questions."""
        ids = {record["external_id"]: record["id"] for record in self.on_server(file)}
        items = []
        for record, labels in given.items():
            values: dict[str, Any] = {name: {"value": value} for name, value in more.items()}
            if labels is not None:
                values["labels"] = {"value": labels}
            items.append({"record_id": ids[record], "status": status, "values": values})
        with self.as_user(username) as annotator:
            for item in annotator.post("/me/responses/bulk", {"items": items})["items"]:
                assert item["error"] is None, item

    def journal(self) -> list[dict[str, Any]]:
        lines = (self.folder / "annotations.jsonl").read_bytes().split(b"\n")
        return [json.loads(line) for line in lines if line]

    def annotations(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "annotations.parquet")

    def pseudonym(self, username: str) -> str:
        annotators = json.loads((self.folder / "annotators.key.json").read_bytes())["people"]
        return next(annotator["pseudonym"] for annotator in annotators if annotator["username"] == username)


def records_of(owner: Connection, dataset_id: str, *, responses: bool = False) -> list[dict[str, Any]]:
    """All records of a dataset, as the server returns them."""
    include = {"include": "responses"} if responses else {}
    records: list[dict[str, Any]] = []
    while page := owner.get(f"/datasets/{dataset_id}/records", offset=len(records), limit=500, **include)["items"]:
        records += page
    return records


def make_run(
    folder: Path,
    home: Path,
    url: str,
    *,
    texts: Mapping[str, str] | None = None,
    intended: Mapping[str, list[str]] | None = None,
    simulated: bool = False,
    annotation: Mapping[str, Any] | None = None,
    reconcile: Mapping[str, Any] | None = None,
) -> SimulatedRun:
    folder.mkdir(parents=True, exist_ok=True)
    if home.exists() and not (folder / "argilla").exists():
        (folder / "argilla").symlink_to(home)
    (folder / "taxonomy.yaml").write_text(TAXONOMY)
    section = {"team": ["ann", "ben"], "experts": ["eva"], "annotators": 2, "workspace": "clients"}
    section |= {"dataset": f"d{uuid4().hex[:12]}", **(annotation or {})}
    config = {"taxonomy": "taxonomy.yaml", "simulated": simulated, "annotation": section}
    config["reconcile"] = {"bootstrap": 50, "compare": False, **(reconcile or {})}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    write_prompts(folder, texts or {"r1": "one", "r2": "two", "r3": "three"}, intended or {})
    return SimulatedRun(folder, home, url)


def write_prompts(folder: Path, texts: Mapping[str, str], intended: Mapping[str, list[str]]) -> None:
    rows = [
        {
            "id": record,
            "messages": [{"role": "user", "content": text}],
            "intended_labels": intended.get(record, []),
            "slot_id": None,
            "generator": "test",
            "created_at": datetime(2026, 11, 1, tzinfo=UTC),
            "attributes": [],
        }
        for record, text in texts.items()
    ]
    write_frame(folder / "prompts.parquet", PromptRecord.frame(rows), PromptRecord)
