"""What `score` says of answers outside the format, and that the line it prints makes the guard file accept them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.tables import ScoredRecord
from marginalia.scoring.guard import SHIPPED, Guard, guard_path, load_guard
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import MARGINALS, Limits
from marginalia.scoring.marginal.estimators import estimate
from marginalia.scoring.off_format import off_format_notes
from tests.scoring.scripted import always, run
from tests.scoring.test_guards import own, rows_of
from tests.scoring.tiny import END, save

CODES = {"one": "S1", "two": "S10"}
LLAMA = [["safe"], [{"verdict": "unsafe"}, "\n", {"labels": [","]}]]
JSON = [['{"a": "', {"verdict": "bad"}, '", "b": "', {"labels": [", "]}, '"}'], ['{"a": "ok"}', {"any": ["", "."]}]]
BOTH, ONE = {"one", "two", "unsafe"}, {"one", "unsafe"}


def table(*answers: str | None, off: float = 0.9) -> pl.DataFrame:
    fixed = {"predicted": [], "unexplored": 0.0, "nodes": 1, "forward_passes": 1, "seconds": 0.1, "error": None}
    rows = [{"record_id": f"r{n}", "answer": text, "off_language": off, **fixed} for n, text in enumerate(answers)]
    return ScoredRecord.frame(rows)


def guard_with(folder: Path, answer: list[list[object]]) -> Path:
    """A guard file whose alternatives are one line each, as people write them."""
    path = own(folder, labels=CODES, answer=[])
    lines = [f"- {json.dumps(form)}" for form in answer]
    path.write_text(path.read_text().replace("answer: []", "\n".join(["answer:", *lines])))
    return path


def changed(path: Path, notes: list[str]) -> Guard:
    """The guard file with the lines that the notes say."""
    lines = path.read_text().split("\n")
    for note in notes:
        if (found := re.fullmatch(r"  to accept such answers, change line (\d+) of .* to: (- .*)", note)) is not None:
            lines[int(found[1]) - 1] = found[2]
    path.write_text("\n".join(lines))
    return load_guard(str(path))


@pytest.mark.parametrize(
    ("form", "answer", "rows"),
    [
        (LLAMA, "unsafe\nS1, S10", BOTH),
        (LLAMA, "\n\nunsafe\nS1", ONE),
        (LLAMA, "unsafe\nS1 ", ONE),
        (LLAMA, "unsafe \nS10,S1\n", BOTH),
        (LLAMA, " unsafe\n\n S1\t,\nS10 ", BOTH),
        (LLAMA, "unsafe S1", ONE),
        (LLAMA, "\n\nsafe ", set()),
        ([["\n\nsafe"], ["\n\n", {"verdict": "unsafe"}, "\n", {"labels": [","]}]], "unsafe\nS1", ONE),
        ([["\n\nsafe"], ["\n\n", {"verdict": "unsafe"}, "\n", {"labels": [","]}]], "safe", set()),
        (JSON, '{"a":"bad","b":"S1,S10"}', BOTH),
        (JSON, '{"a":  "ok"}\n', set()),
        ([["k"], [{"space": [" "]}, {"verdict": "n"}, ":", {"labels": ["\n"]}]], "\nn:\nS1 S10", BOTH),
    ],
)
def test_the_line_accepts_the_answer(tmp_path: Path, form: list[list[object]], answer: str, rows: set[str]) -> None:
    path = guard_with(tmp_path, form)
    before = load_guard(str(path))
    assert rows_of(before, answer) is None
    notes = off_format_notes(table(answer, answer), before, path)
    assert f"2 × {answer!r}: only its white space differs from line " in notes[1]
    after = changed(path, notes)
    assert rows_of(after, answer) == rows
    tokens = TokenLanguage(after.language, {byte: bytes([byte]) for byte in range(256)}, [END])
    search = run(tokens, always(answer.encode()), Limits(node_budget=10**6, answer_tokens=10**6))
    for found in estimate(search, MARGINALS).values():
        assert found.probability.tolist() == pytest.approx([float(row in rows) for row in after.rows], abs=1e-9)


def test_three_answers_widen_one_line(tmp_path: Path) -> None:
    path = guard_with(tmp_path, LLAMA)
    answers = ["unsafe\nS1 "] * 3 + ["\nunsafe\nS1, S10"] * 2 + ["unsafe\n\nS1"] * 2 + ["safe\n"]
    notes = off_format_notes(table(*answers), load_guard(str(path)), path)
    assert notes[0].endswith("8 of 8 greedy answers are outside it, most often:")
    assert [note.split(": only")[0] for note in notes[1:4]] == [
        "  3 × 'unsafe\\nS1 '",
        "  2 × '\\nunsafe\\nS1, S10'",
        "  2 × 'unsafe\\n\\nS1'",
    ]
    assert len(notes) == 5
    after = changed(path, notes)
    assert [rows_of(after, answer) for answer in ("unsafe\nS1 ", "\nunsafe\nS1, S10", "unsafe\n\nS1")] == [
        ONE,
        BOTH,
        ONE,
    ]
    assert rows_of(after, "unsafe\nS1,S10") == BOTH


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        ("unsafe\nS1,S1", "it ends too early for the format"),  # on the way to S10
        ("unsafe\nS1,S1,S10", "it leaves the format after 'unsafe\\nS1,S1'"),
        ("unsafe\nS3", "it leaves the format after 'unsafe\\nS'"),
        ("I cannot help", "it differs from the format from the start"),
        ("unsafe", "it ends too early for the format"),
        ("Unsafe\nS1", "it differs from the format from the start"),
    ],
)
def test_what_differs_in_more_than_white_space(tmp_path: Path, answer: str, where: str) -> None:
    path = guard_with(tmp_path, LLAMA)
    notes = off_format_notes(table(answer), load_guard(str(path)), path)
    assert notes[1:] == [f"  1 × {answer!r}: {where}"]


def test_how_much_there_must_be(tmp_path: Path) -> None:
    path = guard_with(tmp_path, LLAMA)
    loaded = load_guard(str(path))
    assert off_format_notes(table("unsafe\nS1 ", off=0.02), loaded, path) == []
    assert off_format_notes(table("unsafe\nS1 ").clear(), loaded, path) == []
    (note,) = off_format_notes(table("safe", "unsafe\nS1", off=0.125), loaded, path)
    assert note.startswith("on average 12.5% of the probability is on answers outside the guard's format")
    assert note.endswith("All 2 greedy answers are in the format; only less probable ones are outside")


def test_a_shipped_file_is_to_be_copied() -> None:
    notes = off_format_notes(table("\n\nunsafe\nS1\n\n"), load_guard("llama-guard-3"), guard_path("llama-guard-3"))
    line = (SHIPPED / "llama-guard-3.yaml").read_text().split("\n")[-2]
    number = (SHIPPED / "llama-guard-3.yaml").read_text().split("\n").index(line) + 1
    place = f"line {number} of a copy of scoring/guards/llama-guard-3.yaml (used as the guard)"
    assert notes[2].startswith(f"  to accept such answers, change {place} to: - ")


def test_the_answers_of_one_policy_a_call() -> None:
    path = guard_path("granite-guardian-3")
    answer = "social_bias: Yes\nviolence: No\n\nunsafe: Yes."
    notes = off_format_notes(table(answer), load_guard(str(path)), path)
    assert [note.strip().split(": ")[0] for note in notes[1:3]] == ["1 × 'No\\n'", "1 × 'Yes.'"]
    assert notes[0].endswith("2 of 3 greedy answers are outside it, most often:")
    assert notes[3].endswith(' to: - ["No", {space: ["\\n"]}]')


@pytest.mark.parametrize("texts", [["x"], [""], [" ", "-"], []])
def test_white_space_is_white_space(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(InputError, match="is a list of spaces, tabs and line breaks"):
        load_guard(str(own(tmp_path, answer=[["safe", {"space": texts}], LLAMA[1]])))


def test_an_alternative_is_more_than_white_space(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs at least one piece"):
        load_guard(str(own(tmp_path, answer=[[{"space": [" "]}], LLAMA[1]])))


def test_many_choices_are_no_product(tmp_path: Path) -> None:
    """2^40 answers, which were written out one by one when the file was read."""
    choices = [{"any": ["a", "b"]}, {"any": ["", "-"]}] * 20
    made = load_guard(str(own(tmp_path, answer=[["safe"], [{"verdict": "unsafe"}, *choices, {"labels": [","]}]])))
    assert rows_of(made, "unsafe" + "ab-" * 10 + "A,B") == BOTH
    assert rows_of(made, "unsafe" + "ab-" * 9 + "A,B") is None
    with pytest.raises(InputError, match="an alternative has 202 pieces; at most 200 are allowed"):
        load_guard(str(own(tmp_path, answer=[["safe"], [{"verdict": "unsafe"}, *choices * 5, {"labels": [","]}]])))


def test_white_space_that_fits_in_many_ways_is_tried_once(tmp_path: Path) -> None:
    path = guard_with(tmp_path, [["safe"], [*[{"space": [" ", "  "]}] * 25, {"verdict": "unsafe"}, {"labels": [","]}]])
    notes = off_format_notes(table(" " * 90 + "no"), load_guard(str(path)), path)
    assert notes[1].endswith("it leaves the format after " + repr(" " * 50))


def test_the_command_says_so(tmp_path: Path) -> None:
    """A random model never keeps to the format."""
    model = save(tmp_path / "model", 4, sharpness=3.0)
    (tmp_path / "r.jsonl").write_text('{"id": "r1", "text": "Where is my parcel?"}\n')
    command = [sys.executable, "-m", "scoring", str(tmp_path / "r.jsonl"), "--model", str(model), "--guard", "instruct"]
    command += ["--taxonomy", "support-tickets", "--tolerance", "0.3", "--node-budget", "8"]
    command += ["--out", str(tmp_path / "s.parquet")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"note: on average [\d.]+% of the probability is on answers outside the guard's format", done.stderr
    )
    assert re.search(r"note:   1 × .*: it (leaves|differs from|ends)", done.stderr)
