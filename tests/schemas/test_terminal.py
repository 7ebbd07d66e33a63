"""Tables and text that fit the terminal, and the progress of long work."""

from __future__ import annotations

import io
import re
import sys

import pytest

from marginalia.schemas import progress as progress_module
from marginalia.schemas.progress import progress
from marginalia.schemas.terminal import fitted, table, terminal_width, wrapped

HEADERS = ["label", "records", "share", "what it means"]
ROWS = [
    ["late_delivery", "1,296", "9.5%", "the parcel arrives after the promised day"],
    ["refund", "7", "100.0%", "the customer wants money back [not the goods]"],
    ["日本語", "–", "", ":smile: is not an emoji here"],
]


def words(text: str) -> list[str]:
    return sorted(text.split())


def test_without_a_terminal_each_row_is_one_line_and_numbers_are_to_the_right() -> None:
    assert terminal_width() is None
    assert table(HEADERS, ROWS, indent=0).split("\n") == [
        "label          records   share  what it means",
        "late_delivery    1,296    9.5%  the parcel arrives after the promised day",
        "refund               7  100.0%  the customer wants money back [not the goods]",
        "日本語               –          :smile: is not an emoji here",
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_table_fits_the_terminal_and_loses_nothing(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = table(HEADERS, ROWS)
    assert all(len(line) + sum(line.count(wide) for wide in "日本語") <= columns for line in shown.split("\n"))
    assert set(words(shown)) == set(words(" ".join([*HEADERS, *(cell for row in ROWS for cell in row)])))
    assert "\x1b" not in shown and "…" not in shown


def test_columns_without_room_follow_below_with_the_first_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    names = [f"measure{number}" for number in range(6)]
    shown = table(["run", *names], [["a", *"012345"], ["b", *"678901"]], indent=0)
    assert shown.split("\n") == [
        "run  measure0  measure1  measure2",
        "a           0         1         2",
        "b           6         7         8",
        "",
        "run  measure3  measure4  measure5",
        "a           3         4         5",
        "b           9         0         1",
    ]


def test_a_path_is_broken_only_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/runs/refunds/scores/llama-guard-3.parquet"
    monkeypatch.setenv("COLUMNS", "40")
    lines = table(["file", "rows"], [[path, "7"]], indent=0).split("\n")
    assert "".join(line.split()[0] for line in lines[1:]) == path
    assert max(map(len, lines)) <= 40
    monkeypatch.setenv("COLUMNS", "60")
    assert path in table(["file", "rows"], [[path, "7"]], indent=0)


def test_control_characters_of_a_cell_do_not_reach_the_terminal() -> None:
    assert table([], [["a\x1b[31mb", "c\nd"]], indent=0) == "a [31mb  c d"


def test_no_rows_are_a_header_and_no_columns_are_nothing() -> None:
    assert table(["a", "b"], [], indent=0) == "a  b"
    assert table([], []) == ""


def test_long_lines_are_broken_with_their_indent(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "  warning: " + "word " * 12 + "end\nshort"
    assert wrapped(text) == text
    monkeypatch.setenv("COLUMNS", "40")
    lines = wrapped(text).split("\n")
    assert lines[0] == "  warning: word word word word word word"
    assert lines[1].startswith("      word") and lines[-1] == "short"
    assert words("\n".join(lines)) == words(text)
    assert wrapped("see " + "/a" * 30) == "see\n    " + "/a" * 30


def test_a_text_that_is_too_long_is_marked() -> None:
    assert fitted("one two three four", 9, 2) == ["one two", "three …"]
    assert fitted("one two", 9, 2) == ["one two"]
    assert fitted("", 9, 2) == []
    assert fitted("x" * 30, 10, 3) == ["x" * 10] * 3
    (cut,) = fitted("日本" * 1_000, 9, 1)
    assert cut == "日本日 …"


class Terminal(io.StringIO):
    """A stderr that is a terminal, or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "SHOWN_AFTER", 0)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0)


@pytest.mark.usefixtures("at_once")
def test_a_terminal_shows_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(3), what="score", unit="record", total=3)) == [0, 1, 2]
    assert re.search(r"\rscore: 100%\|[█#]+\| 3/3 \[\d\d:\d\d<\d\d:\d\d,.*record/s\]", stream.getvalue())


@pytest.mark.usefixtures("at_once")
def test_without_a_terminal_each_update_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(what="generate", unit="answer", total=0) as bar:
        bar.total += 40
        bar.set_postfix_str("9 tokens", refresh=False)
        bar.update(10)
    last = stream.getvalue().splitlines()[-1]
    assert re.fullmatch(r"generate: 10 of 40 answers, .*answer/s, \d\d:\d\d left, 9 tokens", last)
    assert "\r" not in stream.getvalue()
    stream.truncate(0)
    assert list(progress(iter("ab"), what="import", unit="row")) == ["a", "b"]
    assert re.fullmatch(r"import: 2 rows, .*row/s", stream.getvalue().splitlines()[-1].strip("\0"))


@pytest.mark.parametrize("terminal", [True, False])
def test_short_work_shows_nothing(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(3), what="score", unit="record", total=3)) == [0, 1, 2]
    assert list(progress(range(3), what="score", unit="record", show=False)) == [0, 1, 2]
    assert stream.getvalue() == ""
