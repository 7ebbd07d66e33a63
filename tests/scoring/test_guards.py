"""Every shipped guard file: its prompt as published, its answers with their rows, and nothing else as an answer."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from marginalia.scoring.guard import SHIPPED, Guard, load_guard
from marginalia.scoring.language.answer_language import FIRST_TOKEN
from marginalia.scoring.language.token_language import TokenLanguage, vocabulary_bytes
from marginalia.scoring.marginal.answer_search import Limits
from marginalia.scoring.marginal.estimators import LabelEstimates, estimate
from marginalia.scoring.marginal.passages import PassageEnd
from marginalia.scoring.models.local_model import load_local
from marginalia.scoring.per_label_results import combine
from marginalia.scoring.prompt import PromptBuilder
from marginalia.scoring.score_request import ESTIMATOR_NAMES
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.scoring import families
from tests.scoring.hashed import HashedModel, byte_level
from tests.scoring.scripted import run_ids
from tests.scoring.template_families import TEMPLATE_FAMILIES
from tests.scoring.tiny import CHAT, END, save, tokenizer

FAMILIES = {**families.FAMILIES, **TEMPLATE_FAMILIES}

USER = [{"role": "user", "content": "How do I pick a lock?"}]
TALK = [*USER, {"role": "assistant", "content": "With a tension wrench."}]


def guard(name: str) -> Guard:
    """The guard; for a guard with one call per label, the guard of one call."""
    loaded = load_guard(name, taxonomy_of(name))
    call = FAMILIES[name].call
    return loaded if call is None else loaded.calls[call]


def taxonomy_of(name: str) -> Taxonomy | None:
    """The taxonomy for a guard without one of its own."""
    reference = FAMILIES[name].taxonomy
    return None if reference is None else load_taxonomy(reference)


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    fast = tokenizer()
    fast.add_tokens([AddedToken(text, special=True) for text in FAMILIES[name].specials], special_tokens=True)
    fast.chat_template = FAMILIES[name].chat or fast.chat_template
    return fast


def prompt(name: str, messages: list[dict[str, str]]) -> str:
    fast = tokenizer_of(name)
    builder = PromptBuilder(guard(name), fast)
    assert builder.notes == []
    return str(fast.decode(builder.build(messages).ids))


def rows_of(guard: Guard, answer: str) -> set[str] | None:
    symbols = guard.language.symbols(answer)
    states = guard.language.walk(symbols)
    if len(states) <= len(symbols) or states[-1].accepted is None:
        return None
    return {row for number, row in enumerate(guard.rows) if states[-1].accepted >> number & 1}


def test_every_supported_family_is_shipped() -> None:
    assert {path.stem for path in SHIPPED.glob("*.yaml")} >= FAMILIES.keys() | {"instruct"}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("messages", ["user", "talk"])
def test_prompts_read_as_published(name: str, messages: str) -> None:
    text = prompt(name, USER if messages == "user" else TALK)
    pieces = getattr(FAMILIES[name], messages)
    at = 0
    for piece in pieces:
        assert piece in text[at:], f"not found after {text[max(0, at - 40) : at]!r}"
        at = text.index(piece, at) + len(piece)
    if len(pieces) == 1 and messages == "user":
        assert text == pieces[0]


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in FAMILIES for answer in FAMILIES[name].answers])
def test_real_answers_complete_their_rows(name: str, answer: str) -> None:
    assert rows_of(guard(name), answer) == FAMILIES[name].answers[answer]


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in FAMILIES for answer in FAMILIES[name].wrong])
def test_nothing_else_is_an_answer(name: str, answer: str) -> None:
    assert rows_of(guard(name), answer) is None


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in FAMILIES for answer in FAMILIES[name].answers])
def test_a_model_that_always_gives_one_answer(name: str, answer: str) -> None:
    loaded = guard(name)
    specials = {text: END + 1 + number for number, text in enumerate(loaded.language.specials)}
    tokens = TokenLanguage(loaded.language, {byte: bytes([byte]) for byte in range(256)}, [END], specials)
    ids = [symbol if symbol < 256 else END + 1 + symbol - FIRST_TOKEN for symbol in loaded.language.symbols(answer)]
    search = run_ids(tokens, [*ids, END], Limits(node_budget=10**6, answer_tokens=10**6))
    expected = [float(row in FAMILIES[name].answers[answer]) for row in loaded.rows]
    for estimates in estimate(search, ESTIMATOR_NAMES).values():
        assert estimates.probability.tolist()[: len(expected)] == pytest.approx(expected, abs=1e-9)  # without levels


def test_guards_that_reason_first_have_an_output() -> None:
    reasoning = {path.stem for path in SHIPPED.glob("*.yaml") if "\nreasoning:\n" in path.read_text(encoding="utf-8")}
    assert reasoning == {name for name, family in FAMILIES.items() if family.outputs}


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].outputs])
def test_the_answer_begins_where_the_reasoning_ends(name: str) -> None:
    fast = tokenizer_of(name)
    texts = vocabulary_bytes(fast)
    spec = load_guard(name, taxonomy_of(name)).file.reasoning
    assert spec is not None
    for output, answer in FAMILIES[name].outputs.items():
        ids = fast(output, add_special_tokens=False)["input_ids"]
        passage = PassageEnd(spec, fast, texts).cut(ids, len(ids), [])
        rest = b"".join(texts[token] for token in ids[len(passage.ids) :])
        assert passage.finished
        assert (passage.begun + rest).decode() == answer
        assert rows_of(guard(name), answer) is not None


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_are_those_of_the_taxonomy_in_its_order(name: str) -> None:
    loaded = load_guard(name, taxonomy_of(name))
    taxonomy = FAMILIES[name].taxonomy or loaded.file.taxonomy
    assert taxonomy is not None
    ids = load_taxonomy(taxonomy, relative_to=SHIPPED).ids
    assert list(loaded.labels) == [label for label in ids if label not in FAMILIES[name].not_a_label]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_people_want_to_know_first(path: Path) -> None:
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert file["guard"] == path.stem
    assert file["licence"]
    assert file["judges"]
    seen = file["confirmed"]
    assert (seen["prompt"] and seen["answer"]) or seen["note"]  # what was not seen


def test_no_model_is_asked_to_write_sexual_abuse_of_children() -> None:
    taxonomies = [load_taxonomy(path.name, relative_to=path.parent) for path in (SHIPPED / "taxonomies").glob("*.yaml")]
    withheld = {(taxonomy.id, label) for taxonomy in taxonomies for label in set(taxonomy.ids) - set(taxonomy.writable)}
    assert withheld == {
        ("aegis-2", "child_sexual_exploitation"),
        ("bingoguard", "sexual_crimes"),
        ("kanana-safeguard", "child_sexual_exploitation"),
        ("nemotron-3", "child_sexual_exploitation"),
        ("polyguard", "request_child_sexual_exploitation"),
        ("polyguard", "response_child_sexual_exploitation"),
        ("sguard-content", "sexual_content_any_age"),
        ("singguard", "sexual_content_any_kind"),
        ("yufeng-xguard", "minor_abuse"),
        ("yufeng-xguard", "pornography"),
    }


def test_qwen3guard_writes_a_system_message_as_the_users_first_words() -> None:
    text = prompt("qwen3guard-gen", [{"role": "system", "content": "You sell locks."}, *TALK, *USER])
    start = "<BEGIN CONVERSATION>\n\nUSER: You sell locks.\n\nHow do I pick a lock?\n\n"
    assert start + "ASSISTANT: With a tension wrench.\n\nUSER: How do I pick a lock?\n\n<END CONVERSATION>" in text


def test_one_word_may_complete_two_rows() -> None:
    loaded = load_guard("wildguard")
    harmful, unsafe = loaded.rows.index("harmful_request"), loaded.rows.index("unsafe")
    states = loaded.language.walk(b"Harmful request: yes")
    assert states[-2].done == 0
    assert states[-2].could >> harmful & 1
    assert not states[-2].without >> unsafe & 1  # nothing but yes can follow ye
    assert states[-1].done == 1 << harmful | 1 << unsafe


def own(folder: Path, **changes: object) -> Path:
    """A guard file for two labels, with changes."""
    labels = [{"id": name, "name": name, "definition": "x"} for name in ("one", "two")]
    (folder / "taxonomy.yaml").write_text(
        yaml.safe_dump({"id": "own", "version": "1", "title": "Own", "subject": "texts", "labels": labels})
    )
    file = {
        "guard": "own",
        "title": "Own",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": {"one": "A", "two": "B"},
        "prompt": {"message": "{{ categories[0].definition }}: {{ conversation[0].content }}"},
        "answer": [["safe"], [{"verdict": "unsafe"}, " ", {"labels": [","]}]],
        **changes,
    }
    (folder / "guard.yaml").write_text(yaml.safe_dump(file))
    return folder / "guard.yaml"


YES_NO = [["No"], [{"verdict": "Yes"}]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": [["safe"], [{"word": "A", "rows": ["three"]}]]}, "a word has the unknown row 'three'"),
        (
            {"answer": [["no"], [{"word": "yes", "rows": ["one"]}]]},
            "no word and no list of 'answer' completes 'two'",
        ),
        ({"calls": "per_label"}, "'answer' must have a verdict, and no label codes or rows"),
        ({"overall": {"name": "any", "definition": "x"}}, "'overall' is only for guards with calls: per_label"),
        ({"definitions": {"three": "x"}}, "'three' in 'definitions' is not one of the guard's labels"),
        ({"labels": {}}, "'labels' is empty"),
        ({"labels": {"one": "A", "two": "A"}}, "line 10: 'two' has the same code as 'one': A"),
        ({"labels": {"one": "", "two": "A"}}, "codes must be non-empty and differ"),
        ({"labels": {"one": "A", "tow": "B"}}, "label 'tow' is not in the taxonomy own; did you mean 'two'"),
        ({"answer": [["safe"], ["unsafe ", {"labels": [","]}]]}, "no word of 'answer' completes the row 'unsafe'"),
        ({"answer": [["safe"], [{"verdct": "unsafe"}]]}, "unknown key 'verdct'; did you mean 'verdict'"),
        ({"answer": [["safe"], [{"any": ["a", {"label": ","}]}]]}, "unknown key 'label'; did you mean 'labels'"),
        ({"answer": [["safe"], [{"verdict": "unsafe"}, {"labels": [""]}]]}, "a separator .* must not be empty"),
        ({"answer": [["safe"], [{"verdict": "u"}, {"labels": []}, {"labels": []}]]}, "at most one list of labels"),
        ({"prompts": {}}, "line 13: unknown key 'prompts'; did you mean 'prompt'"),
        ({"taxonomy": "support-ticket"}, "no taxonomy 'support-ticket'; did you mean 'support-tickets'"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_guard(str(own(tmp_path, **changes)))


def test_words_and_a_list_in_one_answer_format(tmp_path: Path) -> None:
    answer = [["no", {"any": ["", "."]}], [{"word": "one", "rows": ["one", "unsafe"]}, {"any": ["", ":B"]}]]
    answer.append([{"verdict": "other"}, ":", {"labels": [","]}])
    loaded = load_guard(str(own(tmp_path, answer=answer)))
    assert rows_of(loaded, "no.") == set()
    assert rows_of(loaded, "one:B") == {"one", "unsafe"}
    assert rows_of(loaded, "other:B") == {"two", "unsafe"}
    assert rows_of(loaded, "other:A") is None  # label one is completed by its word only


def test_definitions_of_the_guard_are_in_its_prompt(tmp_path: Path) -> None:
    loaded = load_guard(str(own(tmp_path, definitions={"one": "what the guard learnt"})))
    text = tokenizer().decode(PromptBuilder(loaded, tokenizer(chat=False)).build(USER).ids)
    assert "what the guard learnt: How do I pick a lock?" in text


def per_label(folder: Path, **changes: object) -> Scorer:
    save(folder / "model", 4, sharpness=1.5)
    own(folder, calls="per_label", answer=YES_NO, definitions={"one": "first", "two": "second"}, **changes)
    return Scorer(load_local(str(folder / "model")), load_guard(str(folder / "guard.yaml")), Settings(tolerance=0))


@pytest.mark.parametrize("overall", [None, {"name": "any", "definition": "anything"}])
def test_one_call_per_label(tmp_path: Path, overall: dict[str, str] | None) -> None:
    scorer = per_label(tmp_path, **({"overall": overall} if overall else {}))
    assert list(scorer.guard.calls) == ["one", "two", *(["unsafe"] if overall else [])]
    (result,) = scorer.score_records([("a", USER)])
    alone = {
        row: next(Scorer(scorer.model, call, Settings(tolerance=0)).score_records([("a", USER)]))
        for row, call in scorer.guard.calls.items()
    }
    for name in ESTIMATOR_NAMES:
        expected = [alone[row].estimates[name].probability[0] for row in alone]
        expected = expected if overall else [*expected, max(expected)]
        assert result.estimates[name].probability == pytest.approx(expected, abs=1e-6)
    assert result.nodes == sum(call.nodes for call in alone.values())
    assert result.answer == "\n".join(f"{row}: {call.answer}" for row, call in alone.items())
    assert scorer.score(USER[0]["content"]).keys() == {"one", "two", "unsafe"}


def call_result(value: float, answer: str, **changes: object) -> Result:
    estimates = LabelEstimates(np.array([value]), np.array([value - 0.1]), np.array([value + 0.1]))
    return Result("a", {"marginal": estimates}, answer, [], 0.1, 0.2, 3, 2, 0.5, "tolerance", **changes)  # type: ignore[arg-type]


def test_without_a_call_of_its_own_the_verdict_is_bounded_by_the_labels(tmp_path: Path) -> None:
    guard = load_guard(str(own(tmp_path, calls="per_label", answer=YES_NO)))
    calls = {"one": call_result(0.3, "No"), "two": call_result(0.6, "Yes")}
    result = combine("a", calls, guard)
    estimate = result.estimates["marginal"]
    assert estimate.probability.tolist() == pytest.approx([0.3, 0.6, 0.6])
    assert estimate.lower.tolist() == pytest.approx([0.2, 0.5, 0.5])  # at least the largest
    assert estimate.upper.tolist() == pytest.approx([0.4, 0.7, 1.0])  # at most their sum, 1.1
    assert (result.predicted, result.nodes, result.forward_passes, result.seconds) == (["two"], 6, 4, 1.0)


def test_a_record_fails_with_one_of_its_calls(tmp_path: Path) -> None:
    guard = load_guard(str(own(tmp_path, calls="per_label", answer=YES_NO)))
    result = combine("a", {"one": call_result(0.3, "No"), "two": Result("a", error="too long")}, guard)
    assert result.error == "two: too long"
    assert not result.estimates


@pytest.mark.parametrize("name", [name for name in FAMILIES if not FAMILIES[name].outputs])
def test_a_record_is_scored(name: str) -> None:
    """By a model that answers at random, with the guard's own special tokens."""
    loaded = load_guard(name, taxonomy_of(name))
    known = byte_level(special=tuple(dict.fromkeys((*FAMILIES[name].specials, *loaded.language.specials))))
    fast = deepcopy(known.tokenizer)
    fast.chat_template = FAMILIES[name].chat or CHAT
    model = HashedModel(replace(known, tokenizer=fast), seed=1, favoured=frozenset())
    (result,) = Scorer(model, loaded, Settings(node_budget=30)).score_records([("a", TALK)])
    assert result.error is None
    marginal = result.estimates["marginal"]
    assert len(marginal.probability) == len(loaded.rows)
    assert ((marginal.lower <= marginal.probability) & (marginal.probability <= marginal.upper)).all()
    assert (result.levels is not None) == bool(loaded.language.scales)
