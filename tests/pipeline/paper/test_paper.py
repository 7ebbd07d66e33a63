"""`marginalia paper`: every strategy and estimator on six records of the bundled guard, against scikit-learn."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, hamming_loss, roc_auc_score

from marginalia.pipeline.demo.run_demo import held_out_examples
from marginalia.pipeline.paper.labelled_records import LabelledRecords, read_labelled
from marginalia.pipeline.paper.metric_table import PaperTable
from marginalia.pipeline.paper.run_strategies import NO_CUT, OURS, PaperSettings, compare
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import write_jsonl
from marginalia.schemas.storage.journal import read_journal
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import load_guard
from marginalia.scoring.paper.strategies import BASELINES, STRATEGIES, answer_start
from marginalia.scoring.scorer import Scorer, Settings
from tests.pipeline.test_cli import marginalia
from tests.scoring import tiny

TOPICS = load_taxonomy("support-tickets")
SETTINGS = PaperSettings(top_p=0.9, eps=0.05, threshold=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="module")
def records(folder: Path) -> LabelledRecords:
    examples = held_out_examples()
    safe = [example for example in examples if not example["labels"]]
    write_jsonl(folder / "records.jsonl", [*examples[:4], *safe[1:3]])
    return read_labelled(folder / "records.jsonl", TOPICS, load_guard("support-tickets"), limit=6)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    settings = Settings(estimators=OURS, tolerance=0.05)
    return Scorer.load("bundled-guard", "support-tickets", settings=settings)


@pytest.fixture(scope="module")
def table(scorer: Scorer, records: LabelledRecords, folder: Path) -> PaperTable:
    return compare(scorer, records.records, SETTINGS, folder)


def test_every_strategy_and_estimator_has_a_line(table: PaperTable) -> None:
    assert [line.name for line in table.lines] == [*STRATEGIES, *OURS]
    assert (table.records, table.failed) == (6, 0)
    for line in table.lines:
        assert line.reason is None
        assert line.micro_f1.value is not None
        assert (line.micro_roc_auc.value is None) == (line.threshold is None), line.name
        if line.best_f1 is not None:
            assert line.best_f1 >= line.micro_f1.value - 1e-12


def test_the_numbers_are_scikit_learns(table: PaperTable, records: LabelledRecords, folder: Path) -> None:
    codes = {f"S{number}": label for number, label in enumerate(TOPICS.ids, start=1)}
    truth = np.array([[label in record.labels for label in TOPICS.ids] for record in records.records])
    entries = {entry["id"]: entry for entry in read_journal(folder / "published.journal.jsonl")}
    scores = [[entries[record.id]["any_place"].get(code, 0.0) for code in codes] for record in records.records]
    line = next(line for line in table.lines if line.name == "any_place")
    assert line.micro_roc_auc.value == pytest.approx(roc_auc_score(truth, np.array(scores), average="micro"))
    predicted = np.array(scores) >= SETTINGS.threshold
    assert line.micro_f1.value == pytest.approx(f1_score(truth, predicted, average="micro"))
    assert line.hamming_loss.value == pytest.approx(hamming_loss(truth, predicted))


def test_baselines_leave_out_what_the_safety_check_passes(table: PaperTable, folder: Path) -> None:
    entries = list(read_journal(folder / "published.journal.jsonl"))
    assert [entry["flagged"] for entry in entries] == [True] * 4 + [False] * 2
    for line in table.lines[1:4]:  # at most two labels for each of the four, none for the others
        assert line.hamming_loss.value is not None and line.hamming_loss.value <= (2 * 4 + 6) / (6 * 12)


def test_the_marginal_is_the_scorers_own(table: PaperTable, records: LabelledRecords, scorer: Scorer) -> None:
    truth = np.array([[label in record.labels for label in TOPICS.ids] for record in records.records])
    results = [scorer.score(record.messages) for record in records.records]
    scores = np.array([[result[label].probability for label in TOPICS.ids] for result in results])
    line = next(line for line in table.lines if line.name == "marginal")
    assert line.micro_roc_auc.value == pytest.approx(roc_auc_score(truth, scores, average="micro"), abs=0.01)


def test_a_second_call_scores_nothing_again(
    table: PaperTable, scorer: Scorer, records: LabelledRecords, folder: Path
) -> None:
    journals = [folder / f"{name}.journal.jsonl" for name in ("published", "marginalia")]
    before = [path.read_bytes() for path in journals]
    assert compare(scorer, records.records, SETTINGS, folder) == table
    assert [path.read_bytes() for path in journals] == before


def test_the_files_hold_the_table(table: PaperTable, folder: Path) -> None:
    assert PaperTable.model_validate_json((folder / "paper.json").read_text()) == table
    rows = list(csv.DictReader((folder / "paper.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [*STRATEGIES, *OURS]
    assert float(rows[-1]["micro_f1"]) == table.lines[-1].micro_f1.value
    assert rows[0]["micro_roc_auc"] == rows[0]["threshold"] == ""
    assert "S1, S10, S11, S12 share their second token" in str(table)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_name_is_never_a_formula_of_a_spreadsheet(table: PaperTable, start: str) -> None:
    line = table.lines[0].model_copy(update={"name": f"{start}1+1"})
    (row,) = csv.DictReader(io.StringIO(table.model_copy(update={"lines": [line]}).csv(), newline=""))
    assert row["name"] == f"'{start}1+1"
    assert row["micro_f1"] == str(line.micro_f1.value)  # numbers stay numbers


def test_codes_of_one_token_have_no_baselines(tmp_path: Path, records: LabelledRecords) -> None:
    model = tiny.save(tmp_path / "model", sharpness=2.0)
    scorer = Scorer.load(str(model), "support-tickets", settings=Settings(estimators=OURS, tolerance=0.5))
    table = compare(scorer, records.records[:2], PaperSettings(top_p=0.5, eps=0.1, threshold=0.2), tmp_path)
    reasons = {line.name: line.reason for line in table.lines if line.reason is not None}
    assert reasons.keys() == {"probability", "entropy", "LogTokU"}
    assert "the code S1 is a single token" in str(table)


def test_answers_of_the_families() -> None:
    llama, qwen = answer_start(load_guard("llama-guard-3")), answer_start(load_guard("qwen3guard-gen"))
    assert (llama.before, llama.verdict, llama.between, llama.safe_word) == ("\n\n", "unsafe", "\n", "safe")
    assert (qwen.before, qwen.verdict, qwen.between) == ("Safety: ", "Unsafe", "\nCategories: ")
    assert qwen.safe_word.startswith("Safe\n")
    with pytest.raises(InputError, match="not a verdict and a list of label codes"):
        answer_start(load_guard("granite-guardian-3"))


def test_the_papers_own_form_by_its_mapping(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    rows = [{"unsafe_query": f"text {number}", "llama_guard_3_categories": ["S2", "S14"]} for number in range(3)]
    write_jsonl(path, rows)
    guard, taxonomy = load_guard("llama-guard-3-1b"), load_taxonomy("llama-guard-3")
    labelled = read_labelled(path, taxonomy, guard, mapping="paper-llama-guard-3", limit=2)
    assert [record.labels for record in labelled.records] == [["non_violent_crimes", "code_interpreter_abuse"]] * 2
    assert labelled.notes == ["guard llama-guard-3-1b has no code for code_interpreter_abuse: not judged"]
    with pytest.raises(InputError, match="--mapping paper-llama-guard-3"):
        read_labelled(path, taxonomy, guard)


def test_records_without_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    guard = load_guard("support-tickets")
    write_jsonl(path, [{"id": "a", "text": "x", "labels": []}, {"id": "b", "text": "y"}])
    labelled = read_labelled(path, TOPICS, guard)
    assert [record.id for record in labelled.records] == ["a"]
    assert labelled.notes == ["1 of 2 records have no labels and were left out"]
    write_jsonl(path, [{"id": "b", "text": "y", "labels": ["refunds"]}])
    with pytest.raises(InputError, match=r"record 'b': unknown label 'refunds'; did you mean 'refund'\?"):
        read_labelled(path, TOPICS, guard)


def test_labels_that_were_not_judged_are_named_and_answers_refused(tmp_path: Path) -> None:
    path, mapping = tmp_path / "records.jsonl", tmp_path / "mapping.yaml"
    guard = load_guard("support-tickets")
    write_jsonl(path, [{"text": "x", "late": 1, "who": "ann"}, {"text": "y", "late": 0, "who": "ann"}])
    mapping.write_text("text: text\nlabels: {columns: {late: late_delivery}}\n", encoding="utf-8")
    labelled = read_labelled(path, TOPICS, guard, mapping=str(mapping))
    assert [(record.labels, record.judged) for record in labelled.records] == [
        (["late_delivery"], ["late_delivery"]),
        ([], ["late_delivery"]),
    ]
    assert labelled.notes == ["in 2 of 2 records only some labels were judged; the others are left out"]
    with mapping.open("a", encoding="utf-8") as file:
        file.write("annotators: {column: who}\n")
    with pytest.raises(InputError, match="has annotators: the table needs final labels"):
        read_labelled(path, TOPICS, guard, mapping=str(mapping))


def test_cells_that_were_not_judged_are_left_out(scorer: Scorer, records: LabelledRecords, folder: Path) -> None:
    """Against scikit-learn on the judged cells alone. The cut-off of the baselines comes from complete records."""
    partly = [
        replace(record, judged=[*record.labels[:1], "refund", "invoice"], labels=record.labels[:1])
        for record in records.records
    ]
    judged = np.array([[label in record.judged for label in TOPICS.ids] for record in partly])
    truth = np.array([[label in record.labels for label in TOPICS.ids] for record in partly])
    table = compare(scorer, partly, SETTINGS, folder)
    entries = {entry["id"]: entry for entry in read_journal(folder / "published.journal.jsonl")}
    codes = [f"S{number}" for number in range(1, len(TOPICS.ids) + 1)]
    results = [scorer.score(record.messages) for record in partly]
    scores = {
        "any_place": np.array(
            [[entries[record.id]["any_place"].get(code, 0.0) for code in codes] for record in partly]
        ),
        "marginal": np.array([[result[label].probability for label in TOPICS.ids] for result in results]),
    }
    for line in table.lines:
        if line.name in scores:
            p = scores[line.name][judged]
            assert line.hamming_loss.value == pytest.approx(hamming_loss(truth[judged], p >= SETTINGS.threshold))
            assert line.micro_f1.value == pytest.approx(f1_score(truth[judged], p >= SETTINGS.threshold))
            assert line.micro_roc_auc.value == pytest.approx(roc_auc_score(truth[judged], p), abs=0.01)
            best = max(f1_score(truth[judged], p >= threshold, zero_division=0) for threshold in p)
            assert line.best_f1 == pytest.approx(best, abs=0.01)
    greedy = np.array([[code in entries[record.id]["greedy"] for code in codes] for record in partly])
    assert table.lines[0].hamming_loss.value == pytest.approx(hamming_loss(truth[judged], greedy[judged]))
    reasons = {line.name: line.reason for line in table.lines if line.reason is not None}
    assert reasons == dict.fromkeys(BASELINES, NO_CUT)
    some = compare(scorer, [*records.records[:3], *partly[3:]], SETTINGS, folder)
    assert all(line.reason is None for line in some.lines)


def test_records_without_a_judged_label_of_the_guard_are_left_out(tmp_path: Path) -> None:
    path, mapping = tmp_path / "records.jsonl", tmp_path / "mapping.yaml"
    write_jsonl(path, [{"text": "x", "code": 1, "hate": ""}, {"text": "y", "code": 0, "hate": "1"}])
    columns = "labels: {columns: {code: code_interpreter_abuse, hate: hate}}\n"
    mapping.write_text(f"text: text\n{columns}", encoding="utf-8")
    guard, taxonomy = load_guard("llama-guard-3-1b"), load_taxonomy("llama-guard-3")
    labelled = read_labelled(path, taxonomy, guard, mapping=str(mapping))
    assert [record.labels for record in labelled.records] == [["hate"]]
    assert labelled.notes[0] == "1 of 2 records was not judged on any label of the guard and left out"
    write_jsonl(tmp_path / "ours.jsonl", [{"id": "a", "text": "y", "labels": [], "judged": ["hate"]}])
    assert read_labelled(tmp_path / "ours.jsonl", taxonomy, guard).records[0].judged == ["hate"]
    mapping.write_text("text: text\nlabels: {columns: {code: code_interpreter_abuse}}\n", encoding="utf-8")
    with pytest.raises(InputError, match="no record judges a label of guard llama-guard-3-1b"):
        read_labelled(path, taxonomy, guard, mapping=str(mapping))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("records.jsonl", "--guard", "granite-guardian-3"), "no such file"),
        (("records.jsonl", "--guard", "instruct"), "has no taxonomy of its own"),
        (("records.jsonl", "--model", "http://127.0.0.1:1/v1"), "which an endpoint does not report"),
    ],
)
def test_errors_end_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = marginalia("paper", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_csv_file_is_read_as_its_mapping_says(tmp_path: Path) -> None:
    path, mapping = tmp_path / "records.csv", tmp_path / "mapping.yaml"
    path.write_bytes("nr;text;label\n1;Grüße, und mehr;refund\n".encode("cp1252"))
    mapping.write_text("files: {encoding: cp1252}\nid: nr\ntext: text\nlabels: {column: label, form: text}\n", "utf-8")
    labelled = read_labelled(path, TOPICS, load_guard("support-tickets"), mapping=str(mapping))
    assert [(record.id, record.labels, record.messages[0]["content"]) for record in labelled.records] == [
        ("1", ["refund"], "Grüße, und mehr")
    ]
