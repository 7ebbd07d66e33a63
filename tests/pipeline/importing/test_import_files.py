"""An import of CSV, of several files, and its preview."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from marginalia.pipeline.commands import import_command
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import StageRun, run_stage, staleness
from marginalia.pipeline.importing.import_preview import preview
from marginalia.pipeline.importing.import_stage import STAGE, detected, prepare
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import Answer, GoldRecord, PromptRecord
from tests.schemas.sources.test_source_files import PACKED

CSV = 'nr;comment;late;lost\n1;"Where, oh where; is it?";1;\n2;Lost;0;1\n3;"two\nlines";0;0\n4;nothing yet;;\n'
MAPPING = "id: nr\ntext: comment\nlabels: {columns: {late: late_delivery, lost: wrong_or_missing_item}}\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "shop"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("taxonomy: support-tickets\n", encoding="utf-8")
    (folder / "mapping.yaml").write_text(MAPPING, encoding="utf-8")
    return open_run(folder)


def written(path: Path, data: str | bytes = CSV) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def run_import(run: Run, *sources: Path | str, mapping: str | None = None) -> StageRun:
    prepare(run, [str(source) for source in sources], mapping or str(run.path("mapping.yaml")))
    return run_stage(STAGE, run)


def gold_of(run: Run) -> list[tuple[object, ...]]:
    gold = read_frame(run.path("gold.parquet"), GoldRecord, made_by="x")
    return gold.select("id", "labels", "judged").rows()


def test_csv_with_blank_flags(run: Run, tmp_path: Path) -> None:
    done = run_import(run, written(tmp_path / "data.csv"))
    assert gold_of(run) == [
        ("1", ["late_delivery"], ["late_delivery"]),
        ("2", ["wrong_or_missing_item"], ["late_delivery", "wrong_or_missing_item"]),
        ("3", [], ["late_delivery", "wrong_or_missing_item"]),
        ("4", None, None),
    ]
    found = "data.csv: CSV, ';' between columns, UTF-8, 4 rows, columns nr, comment, late, lost"
    assert done.manifest.facts["detected"] == detected(run) == [found]


def test_the_format_can_be_stated_in_the_mapping(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path / "data.txt", "1|Grüße|1|0\n2|b|0|0\n".encode("cp1252"))
    files = "files: {format: csv, encoding: cp1252, header: false, columns: [nr, comment, late, lost]}\n"
    run.path("mapping.yaml").write_text(files + MAPPING, encoding="utf-8")
    run_import(run, path)
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["messages"].to_list()[0] == [{"role": "user", "content": "Grüße"}]


@pytest.mark.parametrize("packing", PACKED)
def test_a_compressed_file(run: Run, tmp_path: Path, packing: str) -> None:
    run_import(run, written(tmp_path / f"data.csv.{packing}", PACKED[packing](CSV.encode())))
    assert len(gold_of(run)) == 4


def test_several_files_are_one_source(run: Run, tmp_path: Path) -> None:
    first = written(tmp_path / "a.csv")
    second = written(tmp_path / "b.jsonl", '{"nr": 5, "comment": "x", "late": 1, "lost": null}\n')
    done = run_import(run, first, second)
    assert done.manifest.facts["source"] == [str(first), str(second)]
    assert {str(first), str(second)} < done.manifest.inputs.keys()
    assert len(gold_of(run)) == 5
    prompts = read_frame(run.path("prompts.parquet"), PromptRecord, made_by="x")
    assert prompts["generator"][0] == "imported: records (a.csv and 1 more)"
    second.write_text('{"nr": 1, "comment": "x", "late": 1, "lost": null}\n')
    assert staleness(STAGE, run) == f"{second} changed"
    with pytest.raises(InputError, match=rf"{tmp_path}: b\.jsonl: line 1: duplicate id '1', first in a\.csv: line 2"):
        run_stage(STAGE, run)


def test_a_pattern_finds_files_that_are_added_later(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "odd [parts]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    written(folder / "a.csv")
    run_import(run, "*.csv")
    assert len(gold_of(run)) == 4
    monkeypatch.chdir(tmp_path)
    added = written(folder / "b.csv", re.sub(r"(?m)^(\d);", r"1\1;", CSV))
    assert staleness(STAGE, run) == f"{added} is a new input"
    assert run_import(run).status == "ran"  # the source stays, with the mapping given again
    assert len(gold_of(run)) == 8
    added.unlink()
    assert staleness(STAGE, run) == f"{added} is no longer an input"


def test_files_inside_the_run_move_with_it(run: Run) -> None:
    run.path("parts").mkdir()
    written(run.path("parts/a.csv"))
    run_import(run, str(run.path("parts")) + "/*.csv")
    assert run.path("import.yaml").read_text().startswith("source: parts/*.csv\n")
    moved = run.folder.with_name("moved")
    run.folder.rename(moved)
    assert staleness(STAGE, open_run(moved)) is None


def test_another_file_is_named_as_the_new_input(run: Run, tmp_path: Path) -> None:
    """The message named the file of the earlier import as the one that had changed."""
    run_import(run, written(tmp_path / "a.csv"))
    done = run_import(run, written(tmp_path / "b.csv", CSV.replace("Lost", "Gone")))
    assert (done.status, done.why) == ("ran", f"{tmp_path / 'b.csv'} is a new input")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["no/*.csv"], r"no/\*\.csv: no file fits this pattern \(expected \.csv"),
        (["gone.csv"], r"gone\.csv: no such file \(expected \.csv"),
        (["hub:a/b", "a.csv"], "cannot be combined with another source"),
    ],
)
def test_a_source_that_is_missing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.csv")
    with pytest.raises(InputError, match=message):
        run_import(run, *sources)
    assert not run.path("import.yaml").exists()


def test_one_file_per_person(run: Run, tmp_path: Path) -> None:
    for name, cells in {"anna.csv": "1,0", "ben.smith.csv.gz": "0,1"}.items():
        data = f"id,text,late,lost\n1,where,{cells}\n".encode()
        written(tmp_path / name, PACKED["gz"](data) if name.endswith(".gz") else data)
    mapping = MAPPING.replace("nr", "id").replace("comment", "text") + "annotators: {files: true}\n"
    run.path("mapping.yaml").write_text(mapping, encoding="utf-8")
    run_import(run, tmp_path / "anna.csv", tmp_path / "ben.smith.csv.gz")
    answers = read_frame(run.path("annotations.parquet"), Answer, made_by="x")
    assert answers["labels"].to_list() == [["late_delivery"], ["wrong_or_missing_item"]]
    key = run.path("pseudonyms.json")
    named = key.read_text() if key.exists() else "".join(path.read_text() for path in run.folder.glob("*key*"))
    assert "ben.smith" in named


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_preview_shows_counts_and_records_and_writes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    more = "5;Where oh where;1;1\n6;" + "漢字 and a long text " * 40 + ";0;0\n6;x;0;1\n"
    path = written(tmp_path / "data.csv", CSV + more)
    mapping = MAPPING + "duplicates: first\nskip: {comment: [Lost]}\n"
    run.path("mapping.yaml").write_text(mapping.replace("id: nr\n", ""), encoding="utf-8")
    before = files_in(tmp_path)
    text = str(preview(run, [str(path)], str(run.path("mapping.yaml"))))
    assert files_in(tmp_path) == before
    blocks = text.split("\n\n")
    assert blocks[0] == "data.csv: CSV, ';' between columns, UTF-8, 7 rows, columns nr, comment, late,\n    lost"
    assert blocks[1].splitlines() == [
        "rows                      7",
        "records                   6",
        "left out: values in skip  1",
        "without labels            1",
        "some labels not judged    1",
    ]
    rows = [line.split() for line in blocks[2].splitlines()]
    assert rows[:3] == [
        ["label", "applies", "judged"], ["late_delivery", "2", "5"], ["damaged_or_faulty", "0", "0"]]  # fmt: skip
    assert ["wrong_or_missing_item", "2", "4"] in rows
    assert rows[-1] == ["no", "label", "applies", "0", "3"]  # of two it is not known: ten labels were not judged
    assert len(blocks[3:8]) == 5
    assert blocks[3].splitlines()[1:] == [
        "   user    Where, oh where; is it?",
        "   labels  late_delivery; judged 1 of 12: late_delivery",
    ]
    assert "   user    two lines" in text
    assert "   labels  not labelled" in text
    long = next(block for block in blocks if "漢字" in block).splitlines()
    assert len(long) == 6
    assert long[3].endswith(" …")
    assert all(len(line) + line.count("漢") + line.count("字") <= 80 for line in text.splitlines())


def test_a_preview_of_a_row_that_does_not_fit_says_so(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path / "data.csv", CSV.replace(";0;0\n", ";0;perhaps\n"))
    with pytest.raises(InputError, match=r"data\.csv: line 4: 'lost' is 'perhaps'"):
        preview(run, [str(path)], str(run.path("mapping.yaml")))


def test_control_characters_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path / "data.csv", CSV.replace("Lost", '"\x1b]0;evil\x07"').replace("nr;", "\x1b[2Jnr;"))
    mapping = MAPPING.replace("id: nr\n", "")
    run.path("mapping.yaml").write_text(mapping, encoding="utf-8")
    text = str(preview(run, [str(path)], str(run.path("mapping.yaml"))))
    assert "evil" in text
    assert not {"\x1b", "\x07"} & set(text)


def test_the_command_previews_and_imports(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "data.csv")
    mapping = str(run.path("mapping.yaml"))
    monkeypatch.setenv("COLUMNS", "60")
    assert import_command.import_records(run.folder, [str(path)], mapping, preview=True) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\n\npreview: nothing was written\n")
    assert max(map(len, shown.splitlines())) <= 60
    assert not run.path("import.yaml").exists()
    assert import_command.import_records(run.folder, [str(path)], mapping) == 0
    assert "  read: data.csv: CSV, ';' between columns, UTF-8, 4 rows" in capsys.readouterr().out
