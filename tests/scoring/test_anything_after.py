"""Answers after which a guard may write anything: {rest: any}. Their probabilities: test_written_answers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from marginalia.schemas.errors import InputError
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.language import answer_language
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import Limits
from marginalia.scoring.marginal.estimators import decisions, estimate
from marginalia.scoring.off_format import accepting, outside_format
from tests.scoring.scripted import run_ids
from tests.scoring.tiny import END

REST = {"rest": "any"}
LIMITS = Limits(node_budget=1000, answer_tokens=1000)
CODE = {"labels": [], "implies": ["unsafe"]}


def own(folder: Path, answer: list[list[Any]], *, codes: tuple[str, str] = ("A", "B")) -> Guard:
    labels = [{"id": name, "name": name, "definition": "x"} for name in ("one", "two")]
    taxonomy = {"id": "own", "version": "1", "title": "Own", "subject": "texts", "labels": labels}
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    file = {
        "guard": "own",
        "title": "Own",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": dict(zip(("one", "two"), codes, strict=True)),
        "prompt": {"message": "{{ conversation[0].content }}"},
        "answer": answer,
    }
    (folder / "guard.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    return load_guard(str(folder / "guard.yaml"))


def tokens(guard: Guard, *words: str) -> TokenLanguage:
    """All single bytes, and these words from 1000 on."""
    vocabulary = {byte: bytes([byte]) for byte in range(256)}
    vocabulary |= {1000 + number: word.encode() for number, word in enumerate(words)}
    return TokenLanguage(guard.language, vocabulary, [END])


def test_nothing_is_evaluated_after_an_answer_that_anything_may_follow(tmp_path: Path) -> None:
    guard = own(tmp_path, [["fine", REST], [CODE, ":", REST]])
    language = tokens(guard, "fine", "B")
    search = run_ids(language, [1001, ord(":"), ord("b"), ord("y"), END], LIMITS)
    assert search.nodes == 2
    assert [step.ends for step in search.greedy] == [False, True]
    assert [decision.row for decision in decisions(search.greedy, language)] == [1, 2]
    for estimates in estimate(search, ("marginal", "marginal_in_language", "marginal_constrained", "joint")).values():
        assert estimates.probability.tolist() == pytest.approx([0, 1, 1])
    assert search.raw.off == pytest.approx(0)


def test_a_code_may_be_the_last_of_the_answer(tmp_path: Path) -> None:
    guard = own(tmp_path, [["fine", REST], [CODE, REST]])
    search = run_ids(tokens(guard), [ord("A"), ord("!")], LIMITS)
    assert search.nodes == 1
    assert guard.language.decided(b"A", ended=True) == {0: 1}  # by code, whose rows are both
    assert estimate(search, ("marginal",))["marginal"].probability.tolist() == pytest.approx([1, 0, 1])


def test_a_token_that_contains_more_than_the_answer_is_another_word(tmp_path: Path) -> None:
    guard = own(tmp_path, [["no", REST], [CODE, REST]])
    language = tokens(guard, "no", "not", "A", "AB")
    ids = language.moves(guard.language.start).ids.tolist()
    assert {1000, 1002} <= set(ids)
    assert not {1001, 1003} & set(ids)


def test_a_forced_run_stops_before_the_token_that_completes_the_answer(tmp_path: Path) -> None:
    guard = own(tmp_path, [["fine", REST], [CODE, "\n<why>", REST]])
    language = tokens(guard, "\n<why>", "\n<")
    after = guard.language.walk(b"A")[-1]
    assert language.forced(after) is None
    assert tokens(guard, "\n<").forced(after) is not None


def test_what_people_see_may_go_on(tmp_path: Path) -> None:
    guard = own(tmp_path, [["fine", REST], [CODE, "\n", REST]])
    assert not outside_format(guard, "fine")
    assert not outside_format(guard, "A\nbecause of <|this|>")
    assert outside_format(guard, "A")
    assert accepting(guard.file.answer[0], " fine", ["A", "B"]) is not None  # white space is still found
    assert accepting(guard.file.answer[0], "bad", ["A", "B"]) is None


@pytest.mark.parametrize(
    ("answer", "codes", "message"),
    [
        ([["fine"], [CODE, REST, "x"]], ("A", "B"), "must be the last piece"),
        ([["fine"], [CODE, {"optional": [REST]}, "x"]], ("A", "B"), "must be the last piece"),
        ([[REST], [CODE]], ("A", "B"), "needs at least one piece"),
        ([["fine", {"space": [" "]}, REST], [CODE]], ("A", "B"), "must not be optional"),
        ([["fine"], [{"labels": [","], "implies": ["unsafe"]}, REST]], ("A", "B"), "has one code, so no separators"),
        ([["fine"], [CODE, REST]], ("A", "AB"), "no code or text may begin another one"),
        ([["fine"], [CODE, {"any": ["x", "xy"]}, REST]], ("A", "B"), "no code or text may begin another one"),
        ([["fine", {"rest": "some"}], [CODE]], ("A", "B"), "rest"),
    ],
)
def test_refused(tmp_path: Path, answer: list[list[Any]], codes: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        own(tmp_path, answer, codes=codes)


def test_an_answer_that_is_complete_may_not_be_the_start_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "anything may follow a text with which another answer begins"
    with pytest.raises(InputError, match=f"guard.yaml: line 10: .*{message}"):
        own(tmp_path, [["fine", REST], ["finest"], [CODE]])
    monkeypatch.setattr(answer_language, "MOST_CHECKED", 1)  # later texts are found when they are read
    guard = own(tmp_path, [["fine", REST], ["finest"], [CODE]])
    with pytest.raises(InputError, match=message):
        guard.language.walk(b"fine")
