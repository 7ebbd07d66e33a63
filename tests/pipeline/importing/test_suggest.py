"""import --suggest: four kinds of files that people publish are imported with at most three edits."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest

from marginalia.pipeline.commands.import_command import import_records
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.importing import column_profiles
from marginalia.pipeline.importing.import_stage import STAGE, prepare
from marginalia.pipeline.importing.label_matching import match_label
from marginalia.pipeline.importing.suggested_mapping import Suggestion, suggest
from marginalia.pipeline.importing.suggestion_summary import shown_examples
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import Answer, GoldRecord, PromptRecord

MOST_EDITS = 3


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "shop"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("taxonomy: support-tickets\n", encoding="utf-8")
    return open_run(folder)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, names: list[str], rows: list[list[Any]], delimiter: str = ",") -> Path:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([names, *rows])
    path.write_text(file.getvalue(), encoding="utf-8")
    return path


def imported(run: Run, path: Path, answers: dict[str, str]) -> Suggestion:
    """Suggests a mapping, answers its questions (key → value), and imports the file with it."""
    suggestion = suggest([str(path)], run.taxonomy)
    assert [key for _, key in suggestion.questions] == list(answers)
    assert len(answers) <= MOST_EDITS
    mapping = run.path("mapping.yaml")
    mapping.write_text(suggestion.text, encoding="utf-8")
    for line, key in suggestion.questions:
        message = re.escape(f"{mapping}: line {line}: '{key}' still needs your answer (replace EDIT; the comment")
        with pytest.raises(InputError, match=message):
            prepare(run, [str(path)], str(mapping))
        assert not run.path("import.yaml").exists()
        lines = mapping.read_text(encoding="utf-8").split("\n")
        lines[line - 1] = lines[line - 1].replace("EDIT", answers[key])
        mapping.write_text("\n".join(lines), encoding="utf-8")
    prepare(run, [str(path)], str(mapping))
    run_stage(STAGE, run)
    return suggestion


def gold_of(run: Run) -> list[tuple[Any, ...]]:
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    return gold.select("id", "labels", "judged").rows()


def test_flags_with_blanks(run: Run, tmp_path: Path) -> None:
    names = ["", "ticket_id", "comment_text", "late_delivery", "Refund", "faulty_item", "spam_folder"]
    rows = [
        [0, "a1", 'Where is it, "soon"?', 1, 0, "", 0],
        [1, "a2", "Broken, and I want my money back", 0, 1, 1, 0],
        [2, "a3", "Thanks!\nAll good", 0, 0, 0, 1],
        [3, "a4", "Nobody read this one", "", "", "", ""],
    ]
    suggestion = imported(run, table(tmp_path / "flags.csv", names, rows), {"faulty_item": "damaged_or_faulty"})
    assert gold_of(run) == [
        ("a1", ["late_delivery"], ["late_delivery", "refund"]),
        ("a2", ["damaged_or_faulty", "refund"], ["late_delivery", "damaged_or_faulty", "refund"]),
        ("a3", [], ["late_delivery", "damaged_or_faulty", "refund"]),
        ("a4", None, None),
    ]
    assert "faulty_item: EDIT  # which label? nearest: damaged_or_faulty" in suggestion.text
    assert "    # not read, because no label has a similar name; to read one, " in suggestion.text
    assert "\n    # spam_folder: LABEL\n" in suggestion.text


def test_a_text_column_of_labels(run: Run, tmp_path: Path) -> None:
    names = ["Message", "Category", "agent"]
    kinds = ["Late Delivery", "Damaged/faulty item", "None", "Sales talk", ""]
    rows = [[f"message {at}; with, commas", kinds[at % 5], f"agent {at}"] for at in range(25)]
    imported(run, table(tmp_path / "texts.csv", names, rows, ";"), {"Sales talk": "product_question"})
    found = gold_of(run)
    named = ["late_delivery", "damaged_or_faulty", "product_question"]
    assert [labels for _, labels, _ in found[:5]] == [[named[0]], [named[1]], [], [named[2]], None]
    assert len(found) == 25
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["messages"].to_list()[0] == [{"role": "user", "content": "message 0; with, commas"}]


def test_nested_answers_of_several_annotators(run: Run, tmp_path: Path) -> None:
    people = ["anna", "ben", "cem"]
    rows = [
        {
            "doc_id": 100 + at,
            "text": f"ticket number {at}",
            "annotations": [
                {"annotator_id": person, "labels": ["refund"] if at % 2 else [], "seconds": 4.5 + at}
                for person in people
            ],
        }
        for at in range(8)
    ]
    rows[3]["annotations"][0]["labels"] = ["refund", "return"]  # type: ignore[index]
    imported(run, jsonl(tmp_path / "nested.jsonl", rows), {})
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by="x")
    assert answers.height == 24
    assert answers["annotator"].n_unique() == 3
    labels = {record: answers.filter(answers["record_id"] == record)["labels"].to_list() for record in ("103", "104")}
    assert labels == {"103": [["return", "refund"], ["refund"], ["refund"]], "104": [[], [], []]}


def test_prompts_and_responses_with_several_values_for_one_label(run: Run, tmp_path: Path) -> None:
    cells = ["Late Delivery, Missing item", "Wrong item", "", "Missing item", "Late Delivery", "Wrong item, Refunds"]
    rows = [
        {
            "prompt": f"question {at}",
            "response": f"reply {at}" if at % 3 else None,
            "violated_categories": cells[at % 6],
        }
        for at in range(18)
    ]
    answers = {"blank": "none", "Missing item": "wrong_or_missing_item", "Wrong item": "wrong_or_missing_item"}
    suggestion = imported(run, jsonl(tmp_path / "pairs.jsonl", rows), answers)
    found = [labels for _, labels, _ in gold_of(run)]
    assert found[:6] == [
        ["late_delivery", "wrong_or_missing_item"], ["wrong_or_missing_item"], [], ["wrong_or_missing_item"],
        ["late_delivery"], ["wrong_or_missing_item", "refund"]]  # fmt: skip
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert [len(messages) for messages in prompts["messages"].to_list()[:3]] == [1, 2, 2]
    assert "  separator: ','" in suggestion.text
    assert "column: response, optional: true" in suggestion.text


def test_scores_need_a_threshold(run: Run, tmp_path: Path) -> None:
    names = ["text", "refund", "invoice"]
    rows = [[f"text {at}", at / 10, 1 - at / 10] for at in range(10)]
    imported(run, table(tmp_path / "scores.csv", names, rows), {"threshold": "0.75"})
    found = [labels for _, labels, _ in gold_of(run)]
    assert found[:4] == [["invoice"], ["invoice"], ["invoice"], []]
    assert found[8:] == [["refund"], ["refund"]]


def test_scores_of_names_that_are_no_labels_are_not_classes(run: Run, tmp_path: Path) -> None:
    rows = [[at, f"text {at}", 0.1 * (at % 5), 0.25 * (at % 4)] for at in range(20)]
    path = table(tmp_path / "scores.csv", ["id", "text", "toxicity", "late"], rows)
    suggestion = imported(run, path, {"threshold": "0.5", "late": "late_delivery"})
    assert "\n    # toxicity: LABEL\n" in suggestion.text
    assert [labels for _, labels, _ in gold_of(run)][:4] == [[], [], ["late_delivery"], ["late_delivery"]]


def test_words_for_true_and_false_in_other_languages(run: Run, tmp_path: Path) -> None:
    rows = [[at, f"Satz {at}", "wahr" if at % 2 else "falsch", ("ja", "nein", "")[at % 3]] for at in range(6)]
    path = table(tmp_path / "de.csv", ["Nr", "Text", "late_delivery", "refund"], rows, delimiter=";")
    suggestion = imported(run, path, {})
    assert "  true: [wahr, ja]\n  false: [falsch, nein]\n" in suggestion.text
    assert gold_of(run)[:3] == [
        ("0", ["refund"], ["late_delivery", "refund"]),
        ("1", ["late_delivery"], ["late_delivery", "refund"]),
        ("2", [], ["late_delivery"]),
    ]


def test_codes_in_one_text_are_separated(run: Run, tmp_path: Path) -> None:
    rows = [[f"text {at}", ("O1, O3", "O1", "O2, O4", "O5")[at % 4]] for at in range(12)]
    suggestion = suggest([str(table(tmp_path / "codes.csv", ["text", "categories"], rows))], run.taxonomy)
    assert "separator: ','" in suggestion.text
    assert [key for _, key in suggestion.questions] == ["O1", "O3", "O2", "O4", "O5"]


def test_one_or_two_letters_are_near_no_label(run: Run) -> None:
    assert match_label("R", run.taxonomy).near == match_label("re", run.taxonomy).near == []


def test_rows_without_the_list_of_labels_are_asked_for(run: Run, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"t{at}", "labels": ["refund"]} for at in range(4)]
    suggestion = imported(run, jsonl(tmp_path / "r.jsonl", [*rows, {"text": "u"}]), {"blank": "none"})
    assert "1 blank cell: none (no category applies) or unlabelled" in suggestion.text
    assert sorted(labels for _, labels, _ in gold_of(run)) == [[], *[["refund"]] * 4]


def test_a_file_per_person_is_recognised_by_its_records(run: Run, tmp_path: Path) -> None:
    for person, label in (("ann", "refund"), ("bob", "none")):
        rows = [[at, f"text {at}", label] for at in range(4)]
        table(tmp_path / f"{person}.csv", ["id", "text", "label"], rows)
    source = str(tmp_path / "*.csv")
    suggestion = suggest([source], run.taxonomy)
    assert not suggestion.questions
    assert "annotators:\n  files: true  # 2 files with the same records" in suggestion.text
    assert "id: id  # another one in every row of a file\n" in suggestion.text
    assert "answer  none of the judged ones; judged 1 of 12: refund (bob)" in "\n".join(
        shown_examples(suggestion, run.taxonomy)
    )
    mapping = run.path("mapping.yaml")
    mapping.write_text(suggestion.text, encoding="utf-8")
    prepare(run, [source], str(mapping))
    run_stage(STAGE, run)
    assert read_frame(run.path("annotations.parquet"), Answer, made_by="x").height == 8


def test_a_table_without_a_header_is_read_from_its_first_row(run: Run, tmp_path: Path) -> None:
    rows = [["spam" if at % 3 else "ham", f"text number {at} of these"] for at in range(1, 12)]
    path = table(tmp_path / "sms.csv", ["ham", "text number 0 of these"], rows)
    suggestion = suggest([str(path)], run.taxonomy)
    assert suggestion.files.facts[0].rows == 12
    assert "files:\n  header: false  # values" in suggestion.text
    assert "text: column_2" in suggestion.text
    assert "#   column_1 has the values ham, spam\n" in suggestion.text


def test_an_export_of_label_studio(run: Run, tmp_path: Path) -> None:
    def task(at: int, *answers: list[str]) -> dict[str, Any]:
        results = [[{"type": "choices", "value": {"choices": choices}}] for choices in answers]
        annotations = [{"completed_by": person, "result": result} for person, result in enumerate(results, start=7)]
        return {"id": at, "data": {"text": f"text {at}"}, "annotations": annotations}

    tasks = [task(1, ["Refund"], ["None"]), task(2, ["Refund", "Invoice"], ["Invoice"])]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    imported(run, path, {})
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by="x")
    assert answers.select("record_id", "labels").rows() == [
        ("1", ["refund"]),
        ("1", []),
        ("2", ["refund", "invoice"]),
        ("2", ["invoice"]),
    ]


def test_a_list_of_all_options_is_not_what_was_chosen(run: Run, tmp_path: Path) -> None:
    options = [{"id": "a", "text": "Refund"}, {"id": "b", "text": "Invoice"}]
    chosen: list[list[str]] = [["refund"], [], ["refund", "invoice"]]
    rows = [{"text": f"t{at}", "options": options, "accept": accept} for at, accept in enumerate(chosen)]
    imported(run, jsonl(tmp_path / "r.jsonl", rows), {})
    assert sorted(labels for _, labels, _ in gold_of(run)) == sorted(chosen)


def test_ticked_columns_ask_what_a_blank_cell_means(run: Run, tmp_path: Path) -> None:
    rows = [[at, f"text {at}", "x" if at % 2 else "", "x" if at % 3 else ""] for at in range(6)]
    path = table(tmp_path / "t.csv", ["ID", "Comment", "Refund", "Invoice"], rows)
    suggestion = imported(run, path, {"blank": "none"})
    assert "  true: [x]\n  blank: EDIT  # some columns have only true and blank cells" in suggestion.text
    assert gold_of(run)[0] == ("0", [], ["refund", "invoice"])


def test_people_without_labels_and_columns_of_people_are_pointed_out(run: Run, tmp_path: Path) -> None:
    rows: list[list[Any]] = [[at // 3, at % 3, f"text {at // 3}", at % 5] for at in range(30)]
    path = table(tmp_path / "p.csv", ["item_id", "worker_id", "text", "mood"], rows)
    suggestion = imported(run, path, {})
    assert "# worker_id could be the annotator: 3 people in 30 rows" in suggestion.text
    assert "#   mood has the values 0, 1, 2, 3, 4\n" in suggestion.text
    wide = [[f"text {at}", *(("refund", "invoice")[(at + person) % 2] for person in range(3))] for at in range(9)]
    found = suggest([str(table(tmp_path / "w.csv", ["text", "anna", "ben", "carla"], wide))], run.taxonomy)
    assert "  # ben, carla: the same values, not read. If these are answers of several people, " in found.text


def test_ids_as_values_do_not_say_that_the_other_labels_were_judged(run: Run, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"t{at}", "tags": [["refund"], [], ["invoice"]][at % 3]} for at in range(9)]
    suggestion = imported(run, jsonl(tmp_path / "r.jsonl", rows), {})
    assert "  judged: [refund, invoice]\n  # not named by this file, so not judged: late_delivery, " in suggestion.text
    assert all(judged == ["refund", "invoice"] for _, _, judged in gold_of(run))


def test_one_answer_per_row(run: Run, tmp_path: Path) -> None:
    names = ["id", "text", "worker_id", "label"]
    rows = [[at // 2, f"text {at // 2}", "w1" if at % 2 else "w2", ["refund", "invoice"][at % 2]] for at in range(12)]
    imported(run, table(tmp_path / "rows.tsv", names, rows, "\t"), {})
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by="x")
    assert answers.height == 12
    assert answers["record_id"].n_unique() == 6


@pytest.mark.parametrize("as_text", [False, True], ids=["lists", "JSON in text"])
def test_lists_of_labels_and_conversations(run: Run, tmp_path: Path, as_text: bool) -> None:
    labels = [["refund", "None"][at % 2 : at % 2 + 1] for at in range(6)]
    conversation = [{"from": "human", "value": "where is it"}, {"from": "gpt", "value": "on its way"}]
    rows = [
        {"nr": at, "turns": [*conversation, {"from": "human", "value": f"thanks {at}"}],
         "tags": json.dumps(labels[at]) if as_text else labels[at]} for at in range(6)]  # fmt: skip
    imported(run, jsonl(tmp_path / "lists.jsonl", rows), {})
    assert [labels for _, labels, _ in gold_of(run)] == [["refund"], []] * 3
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert [message["role"] for message in prompts["messages"].to_list()[0]] == ["user", "assistant", "user"]


def test_a_column_of_judged_labels(run: Run, tmp_path: Path) -> None:
    """As in a release of partly judged records: without it, labels that nobody judged would become negative."""
    rows = [
        {
            "id": f"r{number}",
            "text": f"text number {number}",
            "labels": ["refund"] if number % 3 else [],
            "judged": ["refund", "invoice"] if number % 2 else None,
        }
        for number in range(12)
    ]
    imported(run, jsonl(tmp_path / "released.jsonl", rows), {})
    assert gold_of(run) == [(row["id"], row["labels"], row["judged"]) for row in rows]
    other = [{**row, "judged": ["yes"]} for row in rows]
    assert "judged: {" not in suggest([str(jsonl(tmp_path / "other.jsonl", other))], run.taxonomy).text


def test_the_names_of_classes_are_read(run: Run, tmp_path: Path) -> None:
    names = ["Late delivery", "none", "refund"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows = [{"text": f"text {at}", "label": at % 3 if at else -1} for at in range(9)]
    path = tmp_path / "r.parquet"
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)
    suggestion = imported(run, path, {})
    assert [labels for _, labels, _ in gold_of(run)][:4] == [None, [], ["refund"], ["late_delivery"]]
    assert "labels  late_delivery" in "\n".join(shown_examples(suggestion, run.taxonomy))


def test_flags_in_the_answers_of_several_people(run: Run, tmp_path: Path) -> None:
    people = ["ann", "bob"]
    rows = [
        {"text": f"text {at}",
         "ratings": json.dumps([{"rater": who, "refund": at % 2, "invoice": None, "pace": 3} for who in people])}
        for at in range(6)
    ]  # fmt: skip
    imported(run, table(tmp_path / "r.csv", ["text", "ratings"], [list(row.values()) for row in rows]), {})
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by="x")
    assert answers.height == 12
    assert set(map(tuple, answers["labels"].to_list())) == {(), ("refund",)}
    assert answers["judged"].to_list() == [["refund"]] * 12


def test_the_number_of_values_that_are_compared_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "r.csv", ["id", "text"], [[at, f"text {at}"] for at in range(50)])
    assert "id: id  # another one in every row" in suggest([str(path)], None).text
    monkeypatch.setattr(column_profiles, "MOST_DISTINCT", 60)
    text = suggest([str(path)], None).text
    assert "# no id: no column that could be one has another value in every row" in text
    assert "at least 30  'text 0'; " in text
    assert "duplicates" not in text


def test_an_encoding_is_asked_for(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_bytes("id;text;label\n1;Grüße;refund\n2;Tschüß;invoice\n3;x;refund\n4;y;invoice\n".encode("cp1252"))
    imported(run, path, {"encoding": "cp1252"})
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["messages"].to_list()[0] == [{"role": "user", "content": "Grüße"}]


def test_labels_without_a_taxonomy_are_left_to_the_user(tmp_path: Path) -> None:
    rows = [[f"text {at}", ["refund", "safe"][at % 2]] for at in range(8)]
    suggestion = suggest([str(table(tmp_path / "r.csv", ["text", "label"], rows))], None)
    assert "    refund: EDIT  # which label?" in suggestion.text
    assert "    safe: null  # guessed from the word: no category applies" in suggestion.text


def test_hostile_names_and_values_stay_in_their_lines(run: Run, tmp_path: Path) -> None:
    """A name cannot end its comment or its YAML value, nor move the cursor."""
    name = "text\ninjected: true #"
    values = ["refund", "x: &a [*a]\n- y\x1b[2J", "EDIT"]
    rows = [{name: f"a rather long text {at}\nsource: /etc/passwd", "label": values[at % 3]} for at in range(9)]
    suggestion = suggest([str(jsonl(tmp_path / "r.jsonl", rows))], run.taxonomy)
    assert not any(line.startswith(("injected", "source")) for line in suggestion.text.split("\n"))
    assert not {"\x1b", "\x07"} & set(suggestion.text)
    answered = suggestion.text.replace(": EDIT", ": null")
    run.path("mapping.yaml").write_text(answered, encoding="utf-8")
    prepare(run, [str(tmp_path / "r.jsonl")], str(run.path("mapping.yaml")))
    run_stage(STAGE, run)
    assert gold_of(run)[0][1] == ["refund"]


def test_the_command_writes_the_mapping_and_shows_records(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    rows = [[f"text {at}", ["refund", "a compliment", "Invoices"][at % 3]] for at in range(9)]
    table(tmp_path / "my data.csv", ["text", "label"], rows)
    assert import_records(run.folder, ["my data.csv"], suggest=True) == 0
    shown = capsys.readouterr().out
    assert (tmp_path / "mapping.yaml").read_text() == suggest(["my data.csv"], run.taxonomy).text
    assert "   labels  refund; judged 2 of 12: refund, invoice" in shown
    step = (
        f"mapping.yaml: 1 line to edit, then: marginalia import 'my data.csv' --run {run.folder} --mapping mapping.yaml"
    )
    assert step in shown
    assert re.search(r"\n  line \d+: a compliment\n$", shown)
    with pytest.raises(InputError, match=r"mapping\.yaml: exists already"):
        import_records(run.folder, ["my data.csv"], suggest=True)
    assert import_records(None, ["my data.csv"], suggest=True, taxonomy="support-tickets", out=Path("other.yaml")) == 0
    assert Path("other.yaml").read_text() == Path("mapping.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": ["r.csv"]}, "--run is missing"),
        ({"source": ["r.csv"], "taxonomy": "x"}, "--taxonomy and --out need --suggest"),
        ({"suggest": True}, "--suggest needs files"),
        ({"source": ["hub:a/b"], "suggest": True}, "--suggest needs files"),
        ({"source": ["r.csv"], "suggest": True, "out": Path("r.csv"), "force": True}, "is the input"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "r.csv", ["text", "label"], [["a", "b"]])
    with pytest.raises(InputError, match=message):
        import_records(**{"run": None, **options})


def test_examples_without_any_answer(run: Run, tmp_path: Path) -> None:
    rows = [[f"text {at}", ["x", "y"][at % 2]] for at in range(8)]
    suggestion = suggest([str(table(tmp_path / "r.csv", ["text", "label"], rows))], run.taxonomy)
    blocks = shown_examples(suggestion, run.taxonomy)
    assert blocks[0] == "5 records as they would be imported without the lines to edit:"
    assert blocks[1].split("\n")[1:] == ["   user    text 0", "   labels  not labelled"]
    assert "  # not named by this file, so not judged, unless you name them above: late_delivery, " in suggestion.text


@pytest.mark.parametrize("name", ["id", "ticket_no", "ticketId", "order.number", "case-key", "rowNr"])
def test_a_column_that_is_called_an_id(tmp_path: Path, name: str) -> None:
    path = table(tmp_path / "r.csv", [name, "text"], [[f"T{at}", f"text {at}"] for at in range(8)])
    assert f"id: {name}  # another one in every row" in suggest([str(path)], None).text


@pytest.mark.parametrize("name", ["valid", "volcano", "paid", "monkey"])
def test_a_unique_column_with_another_name_is_mentioned(tmp_path: Path, name: str) -> None:
    path = table(tmp_path / "r.csv", [name, "text"], [[f"T{at}", f"text {at}"] for at in range(8)])
    text = suggest([str(path)], None).text
    assert f"Another value in every row: {name}. If that is the id:\n# id: {name}\n" in text


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("late_delivery", "late_delivery"),
        ("Late Delivery", "late_delivery"),
        ("lateDelivery", "late_delivery"),
        ("is_refund", "refund"),
        ("Invoices", "invoice"),
        ("Account access", "account_access"),
        ("Payment problems", "payment_problem"),
        ("parcel", None),
        ("weather", None),
    ],
)
def test_which_label_a_value_means(run: Run, value: str, label: str | None) -> None:
    assert match_label(value, run.taxonomy).label == label


@pytest.mark.parametrize("value", ["safe", "None", "no_label", "non-toxic", "OK"])
def test_words_for_nothing(run: Run, value: str) -> None:
    assert match_label(value, run.taxonomy).is_nothing


def test_words_of_the_definition_are_suggested(run: Run) -> None:
    assert "late_delivery" in match_label("parcel tracking", run.taxonomy).near
    assert match_label("weather", run.taxonomy).near == []
