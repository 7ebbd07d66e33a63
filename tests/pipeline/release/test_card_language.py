"""Every card is in plain English: no internal names and no wrong plurals, whatever the run has."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest

from marginalia.annotation.client.pull_answers import PullCounts
from marginalia.pipeline.annotating.reconcile_stage import STATUSES
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.release.release_stage import STAGE
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.files import sha256, write_frame, write_json
from marginalia.schemas.tables import GoldRecord, PromptRecord
from tests.pipeline.evaluation.test_stages import make_run as evaluated_run
from tests.pipeline.partly_judged import PARTLY
from tests.pipeline.release.labelled_run import ANSWERS, AT, GOLD, make_run

PULLED = tuple(field.name for field in fields(PullCounts) if field.type == "int")
# stage → every count that it can write into its manifest
COUNTS = {
    "import": ("rows", "records", "answers", "skipped", "unusable", "ignored_values", "only_ignored_values"),
    "plan": ("labels", "writable labels", "planned", "with 0 labels", "with 1 labels", "with 2 labels"),
    "generate": ("planned", "accepted", "open", "included", "rejected attempts", "rejected: too_long", "seen_twice"),
    "push": ("records", "asked", "gold_questions", "sent", "already_there", "on_server_only"),
    "pull": ("answers", "minor", *PULLED),
    "reconcile": ("records", "answers", "answers_to_gold_questions", "answers_elsewhere", *STATUSES, "adjudicated"),
    "adjudicate": ("records", "needs_adjudication", "sent", "updated", "already_there"),
    "score": ("gold", "scored by policy-guard", "failed with policy-guard"),
    "evaluate": ("gold", "final", "guards", "records_judged", "estimators"),
    "audit": ("gold", "selected", "sent", "guard_seen", "guard_changed", "control_seen", "control_changed"),
}
INTERNAL = {
    name.replace("_", " ") for names in COUNTS.values() for name in names if "_" in name and name != "gold_questions"
} | {
    str(status).replace("_", " ") for status in get_args(GoldRecord.model_fields["status"].annotation) if "_" in status
}
_NOUNS = "annotator|answer|attempt|estimator|file|label|language|pair|question|record|row|split|text|token|version"

SNAKE_CASE = re.compile(r"\w*[a-zA-Z]_\w+")
ONE_OF_MANY = re.compile(rf"(?<![\d.,:–-])\b1 (?:\w+ )?(?:{_NOUNS})s\b")
MANY_OF_ONE = re.compile(rf"(?<![\d.,])(?:0|[2-9]|\d\d+) (?:{_NOUNS})\b(?! ×)")


def with_manifests(run: Run, n: int, *, imported: tuple[str, ...] = ()) -> Run:
    """The run with a manifest of every stage, in which all counts are `n`; `imported`: the files of its import."""
    for stage, names in COUNTS.items():
        if stage in (("plan", "generate") if imported else ("import",)):
            continue
        manifest = Manifest(
            stage=stage,
            inputs={},
            outputs={name: sha256(run.path(name)) for name in imported} if stage == "import" else {},
            config_sha256="e" * 64,
            counts_in={},
            counts_out=dict.fromkeys(names, n),
            tokens={"prompt": n, "completion": 0},
            seconds=0.1,
            versions={},
            finished_at=AT,
        )
        write_json(run.path(f"manifests/{stage}.json"), manifest.model_dump(mode="json"))
    return run


def demo(folder: Path) -> Run:
    run = evaluated_run(folder / "run", whole=True)
    run_stage(EVALUATE, run)
    return run


def in_two_languages(folder: Path) -> Run:
    run = make_run(folder)
    prompts = pl.read_parquet(run.path("prompts.parquet"))
    attributes = [[{"name": "language", "value": "de" if name == "r1" else "en"}] for name in prompts["id"]]
    column = pl.Series("attributes", attributes, dtype=prompts.schema["attributes"])
    write_frame(run.path("prompts.parquet"), prompts.with_columns(column), PromptRecord)
    return run


def simulated(folder: Path, **options: Any) -> Run:
    return make_run(folder, config="simulated: true\n", **options)


RUNS: dict[str, Callable[[Path], Run]] = {
    "the demo": demo,
    "all counts 1": lambda folder: with_manifests(make_run(folder), 1),
    "all counts 2": lambda folder: with_manifests(simulated(folder), 2),
    "imported gold": lambda folder: with_manifests(
        make_run(folder, answers=None, with_scores=False), 1, imported=("prompts.parquet", "gold.parquet")
    ),
    "imported answers": lambda folder: with_manifests(
        make_run(folder), 2, imported=("prompts.parquet", "annotations.parquet")
    ),
    "partly judged": lambda folder: with_manifests(make_run(folder, gold=PARTLY), 1),
    "one record": lambda folder: make_run(folder, gold=GOLD[:1], answers=ANSWERS[:1]),
    "without scores": lambda folder: make_run(folder, with_scores=False),
    "two languages": in_two_languages,
}


def prose(markdown: str) -> str:
    """The text that a reader sees as words: without code, and without the targets of links."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)\s]+\)", "]", re.sub(r"`[^`]*`", "`", text))
    return re.sub(r"\\([^\w\s])", r"\1", text)


@pytest.fixture(params=RUNS)
def text(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What a reader of the card of one of RUNS reads."""
    run = RUNS[request.param](tmp_path)
    run_stage(STAGE, run)
    _, _, body = (run.path("release") / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return prose(body)


def test_no_card_has_internal_names_or_wrong_plurals(text: str) -> None:
    assert SNAKE_CASE.findall(text) == []
    assert [name for name in INTERNAL if re.search(rf"\b{name}\b", text)] == []
    assert ONE_OF_MANY.findall(text) == []
    assert MANY_OF_ONE.findall(text) == []


def test_the_scan_finds_the_faults_of_a_bad_card() -> None:
    bad = prose("1 labels, 2 record and 1 torn_bytes of `needs_answers`; [x](a_b)\n```\nc_d\n```\n")
    assert SNAKE_CASE.findall(bad) == ["torn_bytes"]
    assert ONE_OF_MANY.findall(bad) == ["1 labels"]
    assert MANY_OF_ONE.findall(bad) == ["2 record"]
    assert {"needs answers", "torn bytes", "already there"} <= INTERNAL
