"""Special tokens, lists with rows, levels and sequences in guard files: what is refused, and what people see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import content_hash, read_frame
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.tables import ScoredRecord
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.answer_explanation import explanation
from marginalia.scoring.answer_tokens import answer_tokens
from marginalia.scoring.answer_tree import answer_tree
from marginalia.scoring.guard import SHIPPED, Guard, load_guard
from marginalia.scoring.guard_check import code_tokens
from marginalia.scoring.guard_file import GuardFile
from marginalia.scoring.guard_kinds import GENERATIVE, kind_of
from marginalia.scoring.off_format import off_format_notes, outside_format
from marginalia.scoring.paper.strategies import answer_start
from marginalia.scoring.score_files import journal_path, score_to_journal, tables, write_tables
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.families import FAMILIES
from tests.scoring.hashed import HashedModel, byte_level
from tests.scoring.template_families import TEMPLATE_FAMILIES
from tests.scoring.test_guards import own
from tests.scoring.test_off_format import table
from tests.scoring.tiny import tokenizer
from tests.scoring.written_answers import Text

BAD, LIST = [{"verdict": "bad"}], {"labels": [","]}
HELLO = [{"role": "user", "content": "hello"}]
TOKENS = byte_level(special=("<SAFE>", "<UNSAFE>", "<UNSAFE-S4>"))
TOKEN_ANSWER = [[{"token": "<SAFE>"}], [{"token": "<UNSAFE-S4>", "rows": ["one", "unsafe"]}, ":", LIST]]
SEVERITY = {"levels": ["none", "low", "high"], "rows": {"one": 1, "unsafe": 2}, "name": "severity"}


def loaded(folder: Path, answer: list[list[Any]], **changes: Any) -> Guard:
    return load_guard(str(own(folder, answer=answer, **changes)))


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (
            [{"token": "<A>", "row": ["unsafe"]}],
            "line 4: a piece of an answer has the unknown key 'row'; did you me",
        ),
        ([{"token": "<A>", "name": "x"}], "line 4: {token: …} has the unknown key 'name'; known: token, rows"),
        ([{"token": "<A>", "any": ["a", "b"]}], "line 4: a piece of an answer has one of .*, saw 'token' and 'any'"),
        ([{"rows": ["one"]}], "line 4: a piece of an answer has one of verdict, .*, saw none"),
        ([7], "line 4: a piece of an answer is text or {key: …}, saw 7: put it in quotes"),
        ([["x"]], "line 4: a piece of an answer is text or {key: …}, saw a list: {any: …} and {optional: …} contain"),
        ([{"levels": ["a", "a"], "name": "x"}], "line 4: {levels: …}: the texts of levels must be non-empty and diff"),
        ([{"levels": ["a", 5], "name": "x"}], "line 6: {levels: …}: levels.1: Input should be a valid string, saw '5'"),
        ([{"levels": ["a", "b"]}], "line 4: {levels: …} needs the key 'name'"),
        ([{**SEVERITY, "rows": {"one": 3}}], "line 4: {levels: …}: the row 'one' needs a value from 1 to 2, saw 3"),
        ([{**SEVERITY, "rows": {"oen": 1}}], "line 4: a word has the unknown row 'oen'; did you mean 'one'"),
        ([{"integers": [5, 1], "name": "x"}], "line 4: {integers: …}: integers are the lowest and the highest number"),
        ([{"integers": [-1, 1], "name": "x"}], "line 4: {integers: …}: integers are the lowest .* not negative"),
        ([{"integers": [0, 5000], "name": "x"}], "line 4: {integers: …}: integers have at most 1,000 steps, saw 5,000"),
        ([{"integers": [0, True], "name": "x"}], "line 6: {integers: …}: integers.1: Input should be a valid integer"),
        (
            [{**LIST, "rows": ["one", "tow"]}],
            "line 4: a list of label codes has the unknown row 'tow'; did you mean",
        ),
        ([{**LIST, "rows": ["one", "unsafe"]}], "line 4: a list of label codes has the unknown row 'unsafe'"),
        ([{**LIST, "implies": ["saf"]}], "line 4: a list of label codes has the unknown row 'saf'"),
        ([{**LIST, "rows": ["one"]}], "no word and no list of 'answer' completes 'two'"),
        (
            [{**LIST, "rows": ["one", "two"]}, LIST],
            "line 9: a list of label codes can contain no label: words and other",
        ),
        ([{**LIST, "rows": ["one"]}, LIST, LIST], "an answer may have at most one list of labels without 'rows'"),
        ([LIST, {"optional": ["x", {"verdct": "x"}]}], "line 8: .*unknown key 'verdct'; did you mean 'verdict'"),
        ([LIST, {"any": ["x", ["y", {"verdct": "x"}]]}], "line 9: .*unknown key 'verdct'; did you mean 'verdict'"),
        ([LIST, {"optional": []}], "line 6: {optional: …}: optional: List should have at least 1 item"),
        ([LIST, *[{"optional": ["x"]}] * 9], "with its optional sequences written out, 'answer' has 513 alternatives"),
        ([LIST, SEVERITY, SEVERITY], "an answer has two pieces with the name 'severity'"),
    ],
)
def test_wrong_pieces_are_refused_with_their_line(tmp_path: Path, pieces: list[Any], message: str) -> None:
    message = message.replace("{", r"\{").replace("}", r"\}").replace("(", r"\(")
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, [["ok"], [*BAD, *pieces]])


def test_pieces_inside_pieces_have_a_depth(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = {"optional": [deep]}
    with pytest.raises(InputError, match="pieces inside pieces, more than 20 deep"):
        loaded(tmp_path, [["ok"], [*BAD, deep]])


def test_codes_differ_within_a_list_only(tmp_path: Path) -> None:
    two = [{**LIST, "rows": ["one"]}, ";", {**LIST, "rows": ["two"]}]
    assert loaded(tmp_path, [["ok"], [*BAD, *two]], labels={"one": "A", "two": "A"}).rows == ("one", "two", "unsafe")
    with pytest.raises(InputError, match="'two' has the same code as 'one': A"):
        loaded(tmp_path, [["ok"], [*BAD, {**LIST, "rows": ["one", "two"]}]], labels={"one": "A", "two": "A"})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            [["<SAFE>"], [*BAD, LIST]],
            "line 2: 'answer' has the text '<SAFE>', but <SAFE> is a special token of this tokenizer (write it as "
            '{token: "<SAFE>"})',
        ),
        (
            [["ok"], [{"verdict": "<UNSAFE>"}, LIST]],
            "line 3: 'answer' has the text '<UNSAFE>', but <UNSAFE> is a special token of this tokenizer (write it as "
            '{token: "<UNSAFE>", rows: [unsafe]})',
        ),
        (
            [["ok"], [*BAD, ": <SAFE>!", LIST]],
            "line 4: 'answer' has the text ': <SAFE>!', but <SAFE> is a special token of this tokenizer (write it as "
            '": ", {token: "<SAFE>"}, "!")',
        ),
        (
            [["ok"], [*BAD, {"optional": [{"any": ["x", "<UNSAFE-S4>"]}]}, LIST]],
            "line 7: 'answer' has the text '<UNSAFE-S4>', but <UNSAFE-S4> is a special token of this tokenizer (write "
            'it as {token: "<UNSAFE-S4>"})',
        ),
        (
            [["ok"], [*BAD, {**SEVERITY, "levels": ["none", "<UNSAFE>", "high"]}, LIST]],
            "line 6: 'answer' has the text '<UNSAFE>', but <UNSAFE> is a special token of this tokenizer (write it as "
            '{token: "<UNSAFE>"})',
        ),
        (
            [["ok"], [*BAD, {"labels": ["<SAFE>"]}]],
            "line 5: 'answer' has the text '<SAFE>', but <SAFE> is a special token of this tokenizer (a separator "
            "cannot contain it)",
        ),
        (
            [["ok"], [*BAD, {"token": "<SAVE>"}, LIST]],
            "line 4: this tokenizer has no special token '<SAVE>'; did you mean '<SAFE>'? (the tokenizer's special "
            "tokens are in its tokenizer.json)",
        ),
        (
            [["ok"], [*BAD, {"token": "<|end|>"}, LIST]],
            "line 4: the token '<|end|>' ends this model's answers (leave it out: an answer ends with the model's end "
            "token in any case)",
        ),
    ],
)
def test_texts_of_special_tokens_are_refused(tmp_path: Path, answer: list[list[Any]], message: str) -> None:
    guard = loaded(tmp_path, answer)
    with pytest.raises(InputError) as raised:
        Scorer(HashedModel(TOKENS, 1, frozenset()), guard)
    assert str(raised.value) == f"{tmp_path / 'guard.yaml'}: {message}"


def test_a_code_that_is_a_special_token_is_refused(tmp_path: Path) -> None:
    guard = loaded(tmp_path, [["ok"], [*BAD, LIST]], labels={"one": "A", "two": "<UNSAFE-S4>"})
    with pytest.raises(InputError, match=r"line 9: .*\(a list cannot contain it: write the label's token as a piece"):
        Scorer(HashedModel(TOKENS, 1, frozenset()), guard)


def test_an_added_token_that_is_not_special_is_text(tmp_path: Path) -> None:
    thinks = byte_level((), ("<think>",))
    Scorer(HashedModel(thinks, 1, frozenset()), loaded(tmp_path, [["<think>ok"], [*BAD, LIST]]))
    with pytest.raises(InputError, match=r"no special token '<think>' \(it is an ordinary token: write it as text"):
        Scorer(HashedModel(thinks, 1, frozenset()), loaded(tmp_path, [[{"token": "<think>"}], [*BAD, LIST]]))


GENERATIVE_FILES = sorted(path.stem for path in SHIPPED.glob("*.yaml") if kind_of(path) == GENERATIVE)


@pytest.mark.parametrize("name", GENERATIVE_FILES)
def test_shipped_files_fit_their_tokenizers(name: str) -> None:
    """Special tokens as Llama, Gemma, Mistral and Qwen have them, and white space as a special token."""
    fast = tokenizer()
    special = ["<s>", "</s>", "<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "\n"]
    special += ["\n\n", "▁▁", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<|header_start|>", "S"]
    families = {**FAMILIES, **TEMPLATE_FAMILIES}
    special += [*(families[name].specials if name in families else ())]
    fast.add_tokens([AddedToken(text, special=True) for text in special], special_tokens=True)
    fast.add_tokens([AddedToken(text, special=False) for text in ("<think>", "</think>", "<table>", "Safe", "unsafe")])
    own = load_yaml(SHIPPED / f"{name}.yaml", GuardFile).taxonomy
    guard = load_guard(name, load_taxonomy("support-tickets") if own is None else None)
    for call in guard.calls.values() if guard.per_label else [guard]:
        assert "<|im_start|>" in answer_tokens(call, fast, [fast.eos_token_id])


# ---- what people see -------------------------------------------------------------------------------------------------


def certain(folder: Path, answer: list[list[Any]], written: Text, **changes: Any) -> Scorer:
    """A scorer whose model always gives this answer."""
    return Scorer(Always(TOKENS, 1, frozenset(), script=written), loaded(folder, answer, **changes), Settings())


class Always(HashedModel):
    """A model that gives one answer with certainty."""

    def __init__(self, *arguments: Any, script: Text) -> None:
        super().__init__(*arguments)
        by_text = {text: number for number, text in self.vocabulary.specials.items()}
        self.script = [by_text[part] if isinstance(part, str) else part for part in script] + [self.end_ids[0]]

    def log_probabilities(self, path: Any) -> Any:
        import numpy as np

        values = np.full(len(self.tokenizer), -60.0)
        values[self.script[len(path)] if self.script[: len(path)] == list(path) else self.end_ids[0]] = 0.0
        return values


def test_answers_show_the_texts_of_their_tokens(tmp_path: Path) -> None:
    scorer = certain(tmp_path, TOKEN_ANSWER, ("<UNSAFE-S4>", *b":B"))
    scores = scorer.score("hello")
    assert (scores.answer, scores.predicted) == ("<UNSAFE-S4>:B", ["one", "two"])
    assert scores["one"].probability == pytest.approx(1) and scores["unsafe"].probability == pytest.approx(1)
    assert not outside_format(scorer.guard, str(scores.answer))
    lines = list(answer_tree(scorer.search(HELLO), labels=scorer.guard.rows))
    assert lines[1].endswith("<UNSAFE-S4>:B ■ one, two, unsafe")
    one, two = code_tokens(scorer)
    assert (one.code, one.usual, one.first) == ("<UNSAFE-S4>", ["<UNSAFE-S4>"], ["<UNSAFE-S4>"])
    assert (two.code, two.usual) == ("B", ["B"])


def test_the_text_of_a_token_in_ordinary_characters_is_another_answer(tmp_path: Path) -> None:
    scorer = certain(tmp_path, TOKEN_ANSWER, tuple(b"<SAFE>"))
    result = scorer.score("hello").result
    assert result.answer == r"\<SAFE>"
    assert result.off_language == pytest.approx(1)
    assert outside_format(scorer.guard, result.answer)
    notes = off_format_notes(table(result.answer), scorer.guard, tmp_path / "guard.yaml")
    assert notes[1] == r"  1 × '\\<SAFE>': it differs from the format from the start"


def test_white_space_around_tokens_and_in_optional_sequences(tmp_path: Path) -> None:
    path = tmp_path / "guard.yaml"
    guard = loaded(tmp_path, TOKEN_ANSWER)
    notes = off_format_notes(table("<UNSAFE-S4> :B"), guard, path)
    assert notes[1].startswith("  1 × '<UNSAFE-S4> :B': only its white space differs from line ")
    changed = '- [{token: "<UNSAFE-S4>", rows: ["one", "unsafe"]}, {space: [" "]}, ":", {labels: [","]}]'
    assert notes[2].endswith(f"to: {changed}")
    levels = [{"levels": ["n", {"token": "<UNSAFE>"}], "rows": {"unsafe": 1}, "name": "x"}]
    guard = loaded(tmp_path, [[*levels, {"optional": [":", {**LIST, "implies": ["unsafe"]}]}]])
    notes = off_format_notes(table("<UNSAFE>: A, B"), guard, path)
    added = '{labels: [",", ", "], implies: ["unsafe"]}'
    assert notes[2].startswith("  to accept such answers, add to the alternatives of line ")
    assert notes[2].endswith(
        f': - [{{levels: ["n", {{token: "<UNSAFE>"}}], rows: {{unsafe: 1}}, name: "x"}}, ":", '
        f'{{space: [" "]}}, {added}]'
    )


def test_a_level_is_no_label_in_explanations(tmp_path: Path) -> None:
    level = {"levels": ["none", "low"], "name": "severity"}
    search = certain(tmp_path, [[level], [*BAD, LIST]], tuple(b"low")).search(HELLO)
    labels = [("A", "one"), ("B", "two")]
    assert list(explanation(search, labels)) == ["no label reaches 0.005: the guard says safe (1.00)"]


def test_one_policy_per_call_with_tokens(tmp_path: Path) -> None:
    answer = [[{"token": "<SAFE>"}], [{"token": "<UNSAFE>", "rows": ["unsafe"]}]]
    guard = loaded(tmp_path, answer, calls="per_label")
    scorer = Scorer(Always(TOKENS, 1, frozenset(), script=("<UNSAFE>",)), guard, Settings())
    scores = scorer.score("hello")
    assert (scores.answer, scores.predicted) == ("one: <UNSAFE>\ntwo: <UNSAFE>", ["one", "two"])
    assert scores["two"].probability == pytest.approx(1)


def test_the_papers_procedures_refuse_what_they_cannot_read(tmp_path: Path) -> None:
    for pieces, kind in (
        ([{"token": "<SAFE>"}, LIST], "token"),
        ([{**SEVERITY, "rows": {"unsafe": 1}}, LIST], "levels"),
        ([{"integers": [0, 3], "name": "x"}, LIST], "integers"),
        ([{"optional": ["x"]}, LIST], "optional"),
        ([{"any": ["x", ["y"]]}, LIST], "any"),
        ([{**LIST, "rows": ["one", "two"]}], "rows"),
        ([{**LIST, "implies": ["one"]}], "implies"),
    ):
        guard = loaded(tmp_path, [["ok"], [*BAD, *pieces]])
        with pytest.raises(InputError, match=rf"line 4: its answers contain \{{{kind}: …\}}, which the paper's"):
            answer_start(guard)


# ---- levels in results and files -------------------------------------------------------------------------------------


def test_levels_in_results(tmp_path: Path) -> None:
    scores = certain(tmp_path, [[SEVERITY, {"optional": [":", LIST]}]], tuple(b"high")).score("hello")
    assert scores.levels["severity"] == pytest.approx((2, 2, 2))
    assert scores.to_dict()["levels"] == {"severity": {"expected": 2.0, "lower": 2.0, "upper": 2.0}}
    assert "severity  2.000  [2.000, 2.000] (expected)" in repr(scores)
    assert list(scores) == ["one", "two", "unsafe"]
    assert scores.using("joint").levels == {}
    assert certain(tmp_path, TOKEN_ANSWER, ("<SAFE>",)).score("hello").levels == {}


def test_levels_in_files(tmp_path: Path) -> None:
    scorer = certain(tmp_path, [[SEVERITY, {"optional": [":", LIST]}]], tuple(b"low"))
    out = tmp_path / "scores.parquet"
    list(score_to_journal(scorer, [("r", HELLO)], journal_path(out)))
    list(score_to_journal(scorer, [("r", HELLO)], journal_path(out)))  # a resumed run reads the line
    write_tables(out, ["r"], scorer.settings.estimators)
    (levels,) = read_frame(tmp_path / "scores.records.parquet", ScoredRecord, made_by="score")["levels"].to_list()
    assert [(row["name"], row["estimator"]) for row in levels] == [
        ("severity", "marginal"),
        ("severity", "marginal_in_language"),
        ("severity", "marginal_constrained"),
    ]
    assert [row["expected"] for row in levels] == pytest.approx([1, 1, 1])
    assert all(row["lower"] <= row["expected"] <= row["upper"] for row in levels)
    assert tables(journal_path(out), ["r"], ["marginal"])[0]["label"].to_list() == ["one", "two", "unsafe"]


def test_guards_without_levels_have_journals_and_tables_as_before(tmp_path: Path) -> None:
    scorer = certain(tmp_path, TOKEN_ANSWER, ("<SAFE>",))
    out = tmp_path / "scores.parquet"
    list(score_to_journal(scorer, [("r", HELLO)], journal_path(out)))
    assert '"levels"' not in journal_path(out).read_text()
    records = write_tables(out, ["r"], scorer.settings.estimators)
    assert records["levels"].to_list() == [None]
    older = tmp_path / "older.parquet"
    records.drop("levels").write_parquet(older)
    assert read_frame(older, ScoredRecord, made_by="score")["levels"].to_list() == [None]


def test_levels_of_calls_have_the_label_in_their_name(tmp_path: Path) -> None:
    answer = [[{"integers": [0, 9], "rows": {"unsafe": 5}, "name": "score"}]]
    guard = loaded(tmp_path, answer, calls="per_label")
    scores = Scorer(Always(TOKENS, 1, frozenset(), script=(*b"7",)), guard, Settings()).score("hello")
    assert scores["one"].probability == pytest.approx(1)
    assert {name: level.expected for name, level in scores.levels.items()} == pytest.approx(
        {"one.score": 7, "two.score": 7}
    )


def test_facts_about_a_guard_change_no_fingerprint(tmp_path: Path) -> None:
    answer = [["ok"], [*BAD, LIST]]
    plain = loaded(tmp_path, answer)
    facts = {"licence": "MIT", "judges": ["user"], "sides": {"assistant": ["one"]}}
    described = loaded(tmp_path, answer, **facts, confirmed={"prompt": "its card", "answer": False, "note": "x"})
    assert described.sides == {"one": "assistant"}
    assert described.file.confirmed is not None and described.file.confirmed.answer is False
    assert content_hash(described.file.model_dump(mode="json")) == content_hash(plain.file.model_dump(mode="json"))
    with pytest.raises(InputError, match="'sides' has the unknown row 'oen'; did you mean 'one'"):
        loaded(tmp_path, answer, sides={"assistant": ["oen"]})
    with pytest.raises(InputError, match="'sides' has the unknown row 'oen'; did you mean 'one'"):
        loaded(tmp_path, [["No"], [{"verdict": "Yes"}]], calls="per_label", sides={"user": ["oen"]})
    with pytest.raises(InputError, match="saw 'asistant'; did you mean 'assistant'"):
        loaded(tmp_path, answer, sides={"asistant": ["one"]})
