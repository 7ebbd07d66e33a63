"""Any guard file of any pieces: it is refused with a line, or its numbers are those of the written answers."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from marginalia.schemas.errors import InputError
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.scorer import Scorer
from tests.scoring.hashed import HashedModel, byte_level
from tests.scoring.test_written_answers import check, symbols, taxonomy
from tests.scoring.written_answers import Sums, answers

MOST_ANSWERS = 300
LABELS = {"l0": "a", "l1": "ab", "l2": "1"}
VOCABULARY = byte_level((("a", "b"), (",", "a"), ("1", "0"), ("k", ":")), ("b,", "k1"), ("<A>", "<B>"))
ROWS = st.lists(st.sampled_from([*LABELS, "unsafe"]), min_size=1, max_size=2, unique=True)
OWN = st.lists(st.sampled_from([*LABELS]), min_size=1, max_size=2, unique=True)
TEXT = st.sampled_from(["a", "k", ":", "1", "0", "ok", ", "])
TOKEN = st.sampled_from([{"token": "<A>"}, {"token": "<B>"}])


@st.composite
def scales(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        texts = draw(st.lists(TEXT | TOKEN, min_size=2, max_size=3, unique_by=str))
        piece: dict[str, Any] = {"levels": texts, "name": draw(st.sampled_from(["x", "y"]))}
        low, high = 0, len(texts) - 1
    else:
        low = draw(st.integers(0, 9))
        high = draw(st.integers(low + 1, low + 4))
        piece = {"integers": [low, high], "name": "z"}
    return {**piece, "rows": {row: draw(st.integers(low + 1, high)) for row in draw(ROWS)}}


@st.composite
def lists(draw: st.DrawFn) -> dict[str, Any]:
    piece: dict[str, Any] = {"labels": draw(st.sampled_from([[","], [], [",", ";"], ["a"]]))}
    if draw(st.integers(0, 2)):
        piece["rows"] = draw(OWN)
    if draw(st.booleans()):
        piece["implies"] = draw(ROWS)
    return piece


WORDS = st.one_of(
    TEXT,
    st.builds(lambda text: {"verdict": text}, TEXT),
    st.builds(lambda text, rows: {"word": text, "rows": rows}, TEXT, ROWS),
    TOKEN,
    st.builds(lambda token, rows: {**token, "rows": rows}, TOKEN, ROWS),
)
PIECES = st.recursive(
    st.one_of(WORDS, WORDS, scales(), lists(), st.just({"space": [" "]})),
    lambda piece: st.one_of(
        st.builds(lambda inner: {"optional": inner}, st.lists(piece, min_size=1, max_size=2)),
        st.builds(
            lambda options: {"any": options},
            st.lists(piece | st.just("") | st.lists(piece, max_size=2), min_size=2, max_size=3),
        ),
    ),
    max_leaves=4,
)


@st.composite
def whole_answers(draw: st.DrawFn) -> list[list[Any]]:
    """With an alternative for the rows that no other piece completes, and text at the start of every alternative."""
    answer = [["x", *draw(st.lists(PIECES, min_size=1, max_size=3))] for _ in range(draw(st.integers(1, 2)))]
    found = list(pieces_of(answer))
    completed = {row for piece in found for row in (*piece.get("rows", ()), *piece.get("implies", ()))}
    completed |= {"unsafe"} if any("verdict" in piece for piece in found) else set()
    if any("labels" in piece and "rows" not in piece for piece in found):
        completed |= LABELS.keys()
    missing = [row for row in (*LABELS, "unsafe") if row not in completed]
    return [*answer, ["!", {"word": "z", "rows": missing}]] if missing else answer


def pieces_of(answer: Any) -> Iterator[dict[str, Any]]:
    if isinstance(answer, dict):
        yield answer
        answer = [*answer.get("any", ()), *answer.get("optional", ())]
    for part in answer if isinstance(answer, list) else ():
        yield from pieces_of(part)


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.floats()
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["any", "optional", "labels", "rows", "levels", "token", "implies"]), inner)
    ),
    max_leaves=8,
)


def file_with(answer: Any) -> dict[str, Any]:
    return {
        "guard": "any",
        "title": "T",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": LABELS,
        "prompt": {"message": "{{ conversation[0].content }}"},
        "answer": answer,
    }


@contextmanager
def loaded(answer: Any) -> Iterator[Guard | None]:
    """The guard, or None where the file is refused, with its line."""
    folder = Path(tempfile.mkdtemp())
    try:
        taxonomy(folder, "taxonomy", [*LABELS])
        path = folder / "guard.yaml"
        path.write_text(yaml.safe_dump(file_with(answer), sort_keys=False, allow_unicode=True))
        try:
            yield load_guard(str(path))
        except InputError as error:
            assert re.match(rf"{re.escape(str(path))}: line \d+: ", str(error)), error
            yield None
    finally:
        shutil.rmtree(folder)


@given(answer=JUNK | st.lists(st.lists(PIECES | JUNK, max_size=3), max_size=3))
def test_what_cannot_be_an_answer_is_refused_with_its_line(answer: Any) -> None:
    with loaded(answer) as guard:
        if guard is not None:
            assert guard.language.start is not None


@given(answer=whole_answers(), seed=st.integers(0, 10**6))
def test_numbers_are_those_of_the_written_answers(answer: list[list[Any]], seed: int) -> None:
    file = file_with(answer)
    with loaded(answer) as guard:
        assume(guard is not None)
        assert guard is not None
        assume(len(list(itertools.islice(answers(file), MOST_ANSWERS + 1))) <= MOST_ANSWERS)
        own = {row: frozenset({row}) for row in (*LABELS, "unsafe")}
        try:
            sums = Sums(file, symbols(VOCABULARY), own)
        except AssertionError:  # two readings of one answer with as many codes
            assume(False)
        written = frozenset(part for text in sums.done for part in text if isinstance(part, int))
        model = HashedModel(VOCABULARY, seed=seed, favoured=written, favour=6.0)
        check(Scorer(model, guard), sums.run(model), [(row, row) for row in range(len(own))])
