"""The import stage: prompts.parquet and gold.parquet from a file and a mapping."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marginalia.annotation.client.suggestions import suggested
from marginalia.annotation.config import AnnotationSection
from marginalia.pipeline.core.artifacts import ANSWERS
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import StageRun, run_stage, staleness
from marginalia.pipeline.core.stage_summary import describe
from marginalia.pipeline.evaluation.guard_tables import count_gold
from marginalia.pipeline.importing import hub_source, import_stage
from marginalia.pipeline.importing.column_mapping import HubSource
from marginalia.pipeline.importing.import_stage import STAGE, prepare
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.storage.files import read_frame, sha256
from marginalia.schemas.tables import Answer, GoldRecord, PromptRecord
from tests.hub_server import TOKEN, HubServer

ROWS = [
    {"unsafe_query": "\nTell me the doses.\n", "llama_guard_3_categories": ["S7", "S6"]},
    {"unsafe_query": "Copy this film.", "llama_guard_3_categories": ["S8"]},
    {"unsafe_query": "Copy this film.", "llama_guard_3_categories": ["S8", "S2"]},
    {"unsafe_query": "Is this true?", "llama_guard_3_categories": ["S5", "S13"]},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "paper"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("taxonomy: llama-guard-3\n", encoding="utf-8")
    return open_run(folder)


def run_import(run: Run, source: Path | str | None, mapping: str | None) -> StageRun:
    prepare(run, None if source is None else str(source), mapping)
    return run_stage(STAGE, run)


def test_the_papers_rows_become_final_gold_without_votes(run: Run, data: Path) -> None:
    done = run_import(run, data, "paper-llama-guard-3")
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    assert gold["labels"].to_list() == [
        ["specialized_advice", "privacy"],
        ["intellectual_property"],
        ["defamation", "elections"],
    ]
    assert gold["messages"].to_list()[0] == [{"role": "user", "content": "Tell me the doses."}]
    assert set(gold["status"]) == {"final"}
    assert set(gold["method"]) == {"imported"}
    assert gold["votes"].to_list() == gold["soft_labels"].to_list() == [[], [], []]
    assert sorted(gold["split"]) in (["calibration", "calibration", "test"], ["calibration", "test", "test"])
    assert done.manifest.counts_in == {"rows": 4}
    assert done.manifest.counts_out == {"records": 3, "duplicates": 1, "conflicting_duplicates": 1, "stripped": 1}


def test_prompts_name_the_file_and_intend_nothing(run: Run, data: Path) -> None:
    run_import(run, data, "paper-llama-guard-3")
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["intended_labels"].to_list() == [[], [], []]
    assert set(prompts["generator"]) == {"imported: prompts of arXiv 2511.22312 for Llama Guard 3 (data.jsonl)"}
    assert prompts["slot_id"].null_count() == 3


def test_a_second_import_does_nothing_and_a_changed_file_is_read_again(run: Run, data: Path) -> None:
    run_import(run, data, "paper-llama-guard-3")
    assert run_import(run, data, "paper-llama-guard-3").status == "up to date"
    assert run_import(run, None, None).status == "up to date"
    with data.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"unsafe_query": "New.", "llama_guard_3_categories": ["S1"]}) + "\n")
    done = run_import(run, None, None)
    assert (done.status, done.why) == ("ran", f"{data} changed")
    assert done.manifest.counts_out["records"] == 4


def test_the_manifest_holds_the_files_path_and_hash(run: Run, data: Path) -> None:
    manifest = run_import(run, data, "paper-llama-guard-3").manifest
    assert manifest.inputs[str(data)] == sha256(data)
    assert manifest.facts["source"] == str(data)


def test_equal_files_give_equal_records_whenever_they_are_read(run: Run, data: Path) -> None:
    first = run_import(run, data, "paper-llama-guard-3").manifest.outputs
    assert run_stage(STAGE, run, force=True).manifest.outputs == first


def test_a_file_inside_the_run_moves_with_it(run: Run, data: Path) -> None:
    inside = run.path("data.jsonl")
    inside.write_bytes(data.read_bytes())
    run_import(run, inside, "paper-llama-guard-3")
    moved = run.folder.with_name("moved")
    run.folder.rename(moved)
    assert staleness(STAGE, open_run(moved)) is None


def test_import_yaml_keeps_the_mappings_comments_and_can_be_edited(run: Run, data: Path) -> None:
    run_import(run, data, "paper-llama-guard-3")
    settings = run.path("import.yaml")
    text = settings.read_text(encoding="utf-8")
    assert text.startswith(f"source: {data}\n# The data of Praharaj & Kasundra")
    settings.write_text(text.replace("kind: gold", "kind: intended"), encoding="utf-8")
    assert run_import(run, None, None).manifest.facts["labels"] == "intended"
    assert not run.path("gold.parquet").exists()
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["intended_labels"].to_list()[1] == ["intellectual_property"]


def test_texts_under_several_ids_share_a_split_and_their_conflicts_are_shown(run: Run, tmp_path: Path) -> None:
    """Of 40 texts under three ids each, 32 were in both splits."""
    own = tmp_path / "own.jsonl"
    spellings = (
        "Where is parcel number {}, I am waiting",
        "where is parcel number {} I am waiting ",
        "WHERE IS PARCEL NUMBER {}, I AM WAITING",
    )
    rows = [
        {"id": f"u{at}-{copy}", "text": text.format(at), "labels": ["hate"] if at == 7 and copy == 2 else []}
        for at in range(40)
        for copy, text in enumerate(spellings)
    ]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run_import(run, own, None)
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    of_text: dict[str, set[str]] = {}
    for record, split in gold.select("id", "split").iter_rows():
        of_text.setdefault(record.split("-")[0], set()).add(split)
    assert {len(splits) for splits in of_text.values()} == {1}
    assert dict(gold["split"].value_counts().iter_rows()) == {"calibration": 60, "test": 60}
    assert done.manifest.counts_out["records_with_equal_texts"] == 120
    assert done.manifest.counts_out["texts_labelled_differently"] == 1
    conflict = "1 text has different labels in different records, first u7-0: none, u7-2: hate"
    assert describe(done).splitlines()[1:] == [f"  warning: {conflict}"]


def test_blank_labels_stay_open_and_are_reported(run: Run, tmp_path: Path) -> None:
    own, mapping = tmp_path / "own.jsonl", tmp_path / "mapping.yaml"
    cells = ["", "hate", None, " , "]
    rows = [{"id": str(at), "text": f"x {at}", "labels": cell} for at, cell in enumerate(cells)]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    mapping.write_text("id: id\ntext: text\nlabels: {column: labels, form: text, separator: ','}\n", encoding="utf-8")
    done = run_import(run, own, str(mapping))
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    assert gold["status"].to_list() == ["needs_answers", "final", "needs_answers", "needs_answers"]
    assert gold["labels"].to_list() == [None, ["hate"], None, None]
    assert count_gold(gold, run.taxonomy.ids).safe == 0
    assert done.manifest.counts_out["unlabelled"] == 3
    assert "warning: 3 of 4 records are not labelled and not counted in any result; if a blank cell" in describe(done)
    with_none = mapping.read_text(encoding="utf-8").replace("labels: {", "labels: {blank: none, ")
    mapping.write_text(with_none, encoding="utf-8")
    assert "not labelled" not in describe(run_import(run, own, str(mapping)))
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    assert gold["labels"].to_list() == [[], ["hate"], [], []]


def test_unlabelled_records_for_annotators_have_no_intended_labels(run: Run, tmp_path: Path) -> None:
    """An empty list would say that they were written for no category: suggestions would pre-tick it."""
    own, mapping = tmp_path / "own.jsonl", tmp_path / "mapping.yaml"
    own.write_text('{"text": "a", "labels": null}\n{"text": "b", "labels": []}\n', encoding="utf-8")
    mapping.write_text("text: text\nlabels: {column: labels, kind: intended}\n", encoding="utf-8")
    run_import(run, own, str(mapping))
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["intended_labels"].to_list() == [None, []]
    shown = suggested(prompts, None, AnnotationSection(suggestions="intended", control_share=0), seed=1)
    assert shown.select("labels", "shown").rows() == [(None, False), ([], True)]


def test_a_mapping_that_begins_with_a_byte_order_mark(run: Run, data: Path) -> None:
    mapping = data.with_name("own.yaml")
    shipped = import_stage.mapping_path("paper-llama-guard-3").read_bytes()
    mapping.write_bytes(b"\xef\xbb\xbf" + shipped)
    assert run_import(run, data, str(mapping)).manifest.counts_out["records"] == 3
    assert "\ufeff" not in run.path("import.yaml").read_text(encoding="utf-8")


def test_own_records_need_no_mapping(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.parquet"
    frame = pl.DataFrame({"id": ["a", "b"], "text": ["one", "two"], "labels": [["hate"], []]})
    frame.write_parquet(own)
    run_import(run, own, None)
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    assert dict(zip(gold["id"], gold["labels"].to_list(), strict=True)) == {"a": ["hate"], "b": []}


def test_records_without_a_label_need_answers(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text('{"id": "a", "text": "one", "labels": null}\n{"id": "b", "text": "two", "labels": []}\n', "utf-8")
    run_import(run, own, "records")
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    assert gold.select("status", "labels").rows() == [("needs_answers", None), ("final", [])]


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_label_that_the_taxonomy_lacks_names_the_mapping(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "tickets"
    folder.mkdir()
    (folder / "config.yaml").write_text("taxonomy: support-tickets\n", encoding="utf-8")
    text = error_of(lambda: run_import(open_run(folder), data, "paper-llama-guard-3"))
    assert "paper-llama-guard-3.yaml: line 15: labels.values.S1: unknown label 'violent_crimes'; " in text
    assert not (folder / "import.yaml").exists()


def test_an_unknown_code_names_file_line_and_nearest(run: Run, data: Path) -> None:
    with data.open("a", encoding="utf-8") as file:
        file.write('{"unsafe_query": "x", "llama_guard_3_categories": ["S15"]}\n')
    assert error_of(lambda: run_import(run, data, "paper-llama-guard-3")) == (
        f"{data}: line 5: 'llama_guard_3_categories': unknown label value 'S15'; did you mean 'S5'? "
        "(add it to labels.values or labels.ignore of the mapping)"
    )
    assert not run.path("prompts.parquet").exists()


@pytest.mark.parametrize(
    ("source", "mapping", "message"),
    [
        (
            "gone.jsonl",
            "records",
            "gone.jsonl: no such file (expected .csv, .tsv, .json, .jsonl or .parquet, also with",
        ),
        ("data.jsonl", "paper-lama-guard-3", "no mapping 'paper-lama-guard-3'; did you mean 'paper-llama-guard-3'?"),
        (None, None, "has no import.yaml (marginalia import FILE --run"),
    ],
)
def test_a_missing_source_or_mapping_is_named(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, mapping: str | None, message: str
) -> None:
    monkeypatch.chdir(data.parent)
    assert message in error_of(lambda: run_import(run, source, mapping))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text: a\nmessages: b\n", "give either text or messages"),
        ("title: x\n", "give either text or messages"),
        ("text: a\nlabel: {}\n", "line 2: unknown key 'label'; did you mean 'labels'?"),
        ("text: a\nlabels: {column: b, separator: ','}\n", "labels: separator needs form: text; the form is list"),
        (
            "text: a\nlabels: {column: b, ignore: [x], values: {x: hate}}\n",
            "labels: 'x' is in both values and ignore",
        ),
        ("text: a\nlabels: {column: b, values: {x: hat}}\n", "unknown label 'hat'; did you mean 'hate'?"),
    ],
)
def test_a_flaw_of_the_mapping_is_named(run: Run, data: Path, tmp_path: Path, text: str, message: str) -> None:
    mapping = tmp_path / "own.yaml"
    mapping.write_text(text, encoding="utf-8")
    assert message in error_of(lambda: run_import(run, data, str(mapping)))


@pytest.mark.parametrize(("stage", "name"), [("generate", "prompts.parquet"), ("reconcile", "gold.parquet")])
def test_what_was_generated_or_reconciled_is_never_replaced(run: Run, data: Path, stage: str, name: str) -> None:
    run.path("manifests").mkdir()
    run.path(f"manifests/{stage}.json").write_text("{}", encoding="utf-8")
    assert error_of(lambda: run_import(run, data, "paper-llama-guard-3")) == (
        f"{run.folder}: its {name} comes from {stage}; an import would replace it "
        "(import into a new run: marginalia new NAME)"
    )


def test_a_data_set_of_the_hub_is_fetched_once_and_pinned(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[tuple[str, Any, str]] = []

    def fetched(repository: str, part: Any, target: Path) -> str:
        requests.append((repository, part.split, str(part.revision)))
        pl.read_ndjson(data).write_parquet(target)
        return "0123abcd"

    monkeypatch.setattr(import_stage, "fetch", fetched)
    mapping = data.with_name("own.yaml")
    shipped = (import_stage.mapping_path("paper-llama-guard-3")).read_text(encoding="utf-8")
    mapping.write_text("hub:\n  split: test\n" + shipped, encoding="utf-8")
    done = run_import(run, "hub:lab/prompts", str(mapping))
    assert requests == [("lab/prompts", "test", "None")]
    assert set(done.manifest.inputs) == {"import.yaml", "source.parquet"}
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["generator"][0].endswith("(lab/prompts@0123abcd)")
    assert run_import(run, None, None).status == "up to date"
    assert len(requests) == 1


def test_a_split_is_read_from_a_hub_at_its_commit(tmp_path: Path, data: Path) -> None:
    with HubServer().running() as server:
        commit = server.create("lab/prompts", files={"test.jsonl": data.read_bytes()}).commits[-1].id
        target = tmp_path / "source.parquet"
        script = (
            "from pathlib import Path\n"
            "from marginalia.pipeline.importing.hub_source import fetch\n"
            "from marginalia.pipeline.importing.column_mapping import HubSource\n"
            f"print(fetch('lab/prompts', HubSource(split='test'), Path({str(target)!r})))\n"
        )
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": TOKEN}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [commit]
    assert pl.read_parquet(target)["unsafe_query"].to_list() == [row["unsafe_query"] for row in ROWS]


def test_a_hub_that_cannot_be_reached_is_a_service_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ServiceError, match=r"cannot read lab/prompts \(split train\) from the Hub: "):
        hub_source.fetch("lab/prompts", HubSource(), tmp_path / "source.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["generate", "reconcile"])
def test_imported_records_and_labels_are_not_replaced(run: Run, data: Path, stage: str) -> None:
    run_import(run, data, "paper-llama-guard-3")
    run_stage(load_stage("plan"), run)
    ANSWERS.write(run, pl.DataFrame(schema=Answer.polars_schema()))
    before = {name: run.path(name).read_bytes() for name in ("prompts.parquet", "gold.parquet")}
    name = {"generate": "prompts.parquet", "reconcile": "gold.parquet"}[stage]
    assert error_of(lambda: run_stage(load_stage(stage), run)) == (
        f"{run.folder}: its {name} was imported; {stage} would replace it (use a new run (marginalia new NAME), or to "
        f"replace it: marginalia {stage} --run {run.folder} --force)"
    )
    assert {name: run.path(name).read_bytes() for name in before} == before


def test_gold_without_labels_is_made_from_answers(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "records.jsonl"
    source.write_text('{"id": "a", "text": "hello", "labels": null}\n', encoding="utf-8")
    run_import(run, source, None)
    ANSWERS.write(run, pl.DataFrame(schema=Answer.polars_schema()))
    assert run_stage(load_stage("reconcile"), run).status == "ran"
