"""A run with the answers of several people: from their file to gold, and what the other stages do with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from marginalia.annotation.client.pseudonyms import read_key
from marginalia.pipeline.annotating.expert_round import send_to_experts
from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.artifacts import AGREEMENT, ANSWERS, GOLD, PSEUDONYM_KEY
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.run_overview import overview
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import StageRun, run_stage
from marginalia.pipeline.importing.import_stage import STAGE, prepare
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.errors import InputError

ANSWERED: dict[str, list[tuple[str, list[str]]]] = {
    "a late parcel": [("zoe", ["late_delivery"]), ("bob", ["late_delivery"])],
    "money back": [("zoe", ["refund"]), ("bob", [])],
    "hello": [("bob", []), ("zoe", [])],
    "money back please": [("zoe", ["refund"]), ("bob", ["refund"])],
}
NESTED = "text: text\nlabels: {column: tags}\nannotators: {items: 'answers[*]', column: who}\n"
FINAL = "text: text\nlabels: {column: tags}\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "many"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("taxonomy: support-tickets\n", encoding="utf-8")
    return open_run(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    write(path, ANSWERED)
    return path


def write(path: Path, answered: dict[str, list[tuple[str, list[str]]]]) -> None:
    rows = [
        {"text": text, "tags": [], "answers": [{"who": who, "tags": tags} for who, tags in answers]}
        for text, answers in answered.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run_import(run: Run, data: Path, mapping: str = NESTED) -> StageRun:
    path = data.with_name("mapping.yaml")
    path.write_text(mapping, encoding="utf-8")
    prepare(run, str(data), str(path))
    return run_stage(STAGE, run)


def reconcile(run: Run) -> StageRun:
    return run_stage(load_stage("reconcile"), run)


def error_of(action: Any) -> str:
    with pytest.raises(InputError) as caught:
        action()
    return str(caught.value)


def test_answers_are_imported_under_pseudonyms_in_the_order_of_appearance(run: Run, data: Path) -> None:
    done = run_import(run, data)
    answers = ANSWERS.read(run)
    assert set(answers["annotator"]) == {"A01", "A02"}
    assert set(answers["status"]) == {"submitted"} and set(answers["round"]) == {"annotate"}
    assert answers["judged"].null_count() == answers["submitted_at"].null_count() == answers.height == 8
    assert [(person.pseudonym, person.username) for person in read_key(PSEUDONYM_KEY.path(run)).people] == [
        ("A01", "zoe"),
        ("A02", "bob"),
    ]
    assert PSEUDONYM_KEY.path(run).stat().st_mode & 0o077 == 0
    assert done.manifest.counts_out == {"answers": 8, "records": 4}
    assert (done.manifest.facts["labels"], done.manifest.facts["annotators"]) == ("answers", 2)
    assert not GOLD.exists(run)


def test_agreement_and_gold_are_those_of_the_answers(run: Run, data: Path) -> None:
    """By hand. refund: 8 values, 3 of them 1; one of the four pairs disagrees. Observed 2/8, expected 2·3·5/(8·7)."""
    run_import(run, data)
    reconcile(run)
    agreement = AGREEMENT.read(run)
    assert (agreement.records, agreement.pairable, agreement.answers, agreement.annotators) == (4, 4, 8, 2)
    per_label = {item.label: item for item in agreement.per_label}
    assert per_label["refund"].alpha.value == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert per_label["refund"].percent.value == pytest.approx(3 / 4)
    assert per_label["late_delivery"].alpha.value == pytest.approx(1.0)
    assert (agreement.exact.value, agreement.jaccard.value) == (pytest.approx(3 / 4), pytest.approx(3 / 4))
    gold = GOLD.read(run)
    texts = [messages[0]["content"] for messages in gold["messages"]]
    assert dict(zip(texts, gold["labels"].to_list(), strict=True)) == {
        "a late parcel": ["late_delivery"],
        "money back": None,
        "hello": [],
        "money back please": ["refund"],
    }


def test_imported_answers_have_no_severity_and_no_suggestions(run: Run, data: Path) -> None:
    """With these settings answers of the run's own annotators would have both, each in a file of its own."""
    (run.folder / "config.yaml").write_text(
        "taxonomy: support-tickets\nannotation: {severity: [mild, severe], suggestions: intended}\n", encoding="utf-8"
    )
    run = open_run(run.folder)
    run_import(run, data)
    assert overview(run).next == run.command("reconcile")
    done = reconcile(run)
    assert sorted(done.manifest.outputs) == [AGREEMENT.name, GOLD.name]
    assert (AGREEMENT.read(run).severity, AGREEMENT.read(run).anchoring) == (None, None)
    assert reconcile(run).status == "up to date"
    run_stage(load_stage("release"), run)
    assert verify(run).failed == []


def test_status_asks_for_reconcile_and_verify_finds_nothing(run: Run, data: Path) -> None:
    run_import(run, data)
    state = overview(run)
    assert [stage.stage for stage in state.stages][:3] == ["import", "reconcile", "score"]
    assert state.next == run.command("reconcile")
    assert verify(run).failed == []
    reconcile(run)
    checks = verify(run)
    assert checks.failed == []
    assert ("import", "labels") in {(check.stage, check.subject) for check in checks.checks}


def test_the_command_names_the_next_one(run: Run, data: Path) -> None:
    mapping = data.with_name("mapping.yaml")
    mapping.write_text(NESTED, encoding="utf-8")
    words = ["import", str(data), "--run", str(run.folder), "--mapping", str(mapping)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"next: marginalia reconcile --run {run.folder}"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            "push",
            "its annotations.parquet was imported, and new answers cannot be added to it (next: marginalia reconcile "
            "--run {run}; for new answers use a new run (marginalia new NAME), or to replace the imported ones: "
            "marginalia push --run {run} --force, then marginalia pull --run {run} --force)",
        ),
        (
            "pull",
            "its annotations.parquet was imported; pull would replace it (use a new run (marginalia new NAME), or to "
            "replace it: marginalia pull --run {run} --force)",
        ),
    ],
)
def test_push_and_pull_do_not_replace_imported_answers(run: Run, data: Path, stage: str, message: str) -> None:
    run_import(run, data)
    before = ANSWERS.path(run).read_bytes()
    expected = f"{run.folder}: {message}".replace("{run}", str(run.folder))
    assert error_of(lambda: run_stage(load_stage(stage), run)) == expected
    assert ANSWERS.path(run).read_bytes() == before


def test_experts_answers_cannot_be_added(run: Run, data: Path) -> None:
    run_import(run, data)
    reconcile(run)
    gold, answers = GOLD.read(run), ANSWERS.read(run)
    assert error_of(lambda: send_to_experts(run, "audit", gold, answers)) == (
        f"{run.folder}: its annotations.parquet was imported, and experts' answers cannot be added to it "
        "(add an annotator who decides to your source, or set reconcile.tie to yes or no)"
    )


def test_a_changed_source_is_imported_again_and_gold_becomes_stale(run: Run, data: Path) -> None:
    run_import(run, data)
    reconcile(run)
    write(data, {**ANSWERED, "money back": [("amy", ["refund"]), ("zoe", ["refund"])]})
    assert run_import(run, data).status == "ran"
    key = {person.username: person.pseudonym for person in read_key(PSEUDONYM_KEY.path(run)).people}
    assert key == {"zoe": "A01", "bob": "A02", "amy": "A03"}
    assert {stage.stage: stage.why for stage in overview(run).stages}["reconcile"] == "annotations.parquet changed"
    assert reconcile(run).manifest.counts_out["final"] == 4


def test_another_mapping_replaces_the_imported_files(run: Run, data: Path) -> None:
    run_import(run, data, FINAL)
    assert GOLD.exists(run) and not ANSWERS.exists(run)
    run_import(run, data, NESTED)
    assert ANSWERS.exists(run) and not GOLD.exists(run)
    run_import(run, data, FINAL)
    assert GOLD.exists(run) and not ANSWERS.exists(run)
    assert verify(run).failed == []


def test_reconciled_gold_is_not_replaced_by_final_labels(run: Run, data: Path) -> None:
    run_import(run, data)
    reconcile(run)
    settings = run.path("import.yaml").read_bytes()
    assert error_of(lambda: run_import(run, data, FINAL)) == (
        f"{run.folder}: its gold.parquet comes from reconcile; an import would replace it "
        "(import into a new run: marginalia new NAME)"
    )
    assert run.path("import.yaml").read_bytes() == settings


def test_pulled_answers_are_not_replaced(run: Run, data: Path) -> None:
    run.path("manifests").mkdir()
    run.path("manifests/pull.json").write_text("{}", encoding="utf-8")
    assert "its annotations.parquet comes from pull; an import would replace it" in error_of(
        lambda: run_import(run, data)
    )
    mapping = data.with_name("mapping.yaml")
    mapping.write_text("text: text\n", encoding="utf-8")
    prepare(run, str(data), str(mapping))  # an import without answers replaces none


def test_a_missing_file_names_the_stage_that_makes_it(run: Run, data: Path) -> None:
    run_import(run, data, "text: text\n")
    assert error_of(lambda: reconcile(run)).endswith(
        f"annotations.parquet: no such file; reconcile reads it (marginalia pull --run {run.folder})"
    )
    assert GOLD.maker(run) == "reconcile"
    run_import(run, data)
    ANSWERS.path(run).unlink()
    assert error_of(lambda: reconcile(run)).endswith(
        f"annotations.parquet: no such file; reconcile reads it (marginalia import --run {run.folder})"
    )


def test_equal_files_give_equal_answers(run: Run, data: Path) -> None:
    first = run_import(run, data).manifest.outputs
    assert run_stage(STAGE, run, force=True).manifest.outputs == first


def test_people_without_an_answer_have_no_pseudonym(run: Run, data: Path) -> None:
    rows = [{"text": "a", "who": "amy", "late": ""}, {"text": "a", "who": "bob", "late": 1}]
    pl.DataFrame(rows, strict=False).write_parquet(data.with_suffix(".parquet"))
    mapping = "text: text\nlabels: {columns: {late: late_delivery}}\nannotators: {column: who}\n"
    done = run_import(run, data.with_suffix(".parquet"), mapping)
    assert [person.username for person in read_key(PSEUDONYM_KEY.path(run)).people] == ["bob"]
    assert ANSWERS.read(run)["judged"].to_list() == [["late_delivery"]]
    assert done.manifest.counts_out == {"answers": 1, "records": 1, "unlabelled": 1}
    assert done.manifest.warnings[0].startswith("11 labels are counted as not judged, because nothing in the mapping")


def test_one_file_per_person(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    for who in ("zoe", "bob"):
        rows = ["id,text,late", *(f"{at},{text},{who == 'zoe':d}" for at, text in enumerate(("a", "b")))]
        (folder / f"{who}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "id: id\ntext: text\nlabels: {columns: {late: late_delivery}, judged: all}\nannotators: {files: true}\n",
        encoding="utf-8",
    )
    prepare(run, str(folder / "*.csv"), str(mapping))
    run_stage(STAGE, run)
    answers = ANSWERS.read(run)
    assert answers.select("record_id", "annotator", "labels").rows() == [
        ("0", "A01", []),
        ("0", "A02", ["late_delivery"]),
        ("1", "A01", []),
        ("1", "A02", ["late_delivery"]),
    ]
    assert [person.username for person in read_key(PSEUDONYM_KEY.path(run)).people] == ["bob", "zoe"]
