from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.writer_requests import RequestBuilder
from marginalia.pipeline.generation.writer_templates import SHIPPED, load_templates, template_folder
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy

SLOT: dict[str, Any] = {
    "slot_id": "slot-1",
    "labels": ["parcel", "invoice"],
    "difficulty": "veiled",
    "near_miss_of": None,
    "language": "de",
    "tone": "polite",
}
NEAR = {**SLOT, "labels": [], "difficulty": "look-alike", "near_miss_of": "voucher"}
FREE = {**SLOT, "labels": [], "difficulty": "unrelated"}


def _asker(taxonomy: Taxonomy, folder: Path = SHIPPED / "default", **changes: Any) -> RequestBuilder:
    return RequestBuilder(GenerateSection.model_validate(changes), taxonomy, load_templates(folder), seed=7)


def _prompt(taxonomy: Taxonomy, slot: dict[str, Any], **changes: Any) -> str:
    payload = _asker(taxonomy, **changes).question(slot, 1, ["A text that was written before."]).payload
    return "\n".join(message["content"] for message in payload["messages"])


def test_the_default_prompt_says_all_that_the_slot_asks_for(taxonomy: Taxonomy) -> None:
    prompt = _prompt(taxonomy, SLOT)
    for expected in ("Parcel: The text is about the parcel", "Invoice: ", "German", "Tone: polite", "indirectly"):
        assert expected in prompt
    assert "not be about any of: Password, Voucher, Repair." in prompt
    assert prompt.count("<example>") == 4
    assert "<written>A text that was written before.</written>" in prompt


def test_a_near_miss_shows_what_it_must_not_be(taxonomy: Taxonomy) -> None:
    prompt = _prompt(taxonomy, NEAR)
    assert 'must look like "Voucher"' in prompt
    assert "about none of: Parcel, Invoice, Password, Voucher, Repair." in prompt
    assert "What is NOT wanted" in prompt


@pytest.mark.parametrize("folder", ["default", "small-model"])
@pytest.mark.parametrize("slot", [SLOT, NEAR, FREE])
def test_no_prompt_names_a_withheld_label(taxonomy: Taxonomy, folder: str, slot: dict[str, Any]) -> None:
    for attempt in range(1, 6):
        messages = _asker(taxonomy, SHIPPED / folder).question(slot, attempt, []).payload["messages"]
        assert not any("forbidden" in message["content"].lower() for message in messages)


def test_a_taxonomy_with_a_content_notice_forbids_answers_and_detail(taxonomy: Taxonomy) -> None:
    notice = taxonomy.model_copy(update={"content_notice": "Hard to read."})
    assert "Never answer it" in _prompt(notice, SLOT)
    assert "no steps, quantities" in _prompt(notice, SLOT)


def test_examples_may_be_turns(taxonomy: Taxonomy) -> None:
    slot = {**SLOT, "language": "en"}
    messages = _asker(taxonomy, SHIPPED / "small-model", few_shot=1).question(slot, 1, []).payload["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[1]["content"] == "Write one about: Parcel"
    assert "my parcel" in messages[2]["content"]
    assert messages[-1]["content"] == "Write one about: Parcel and Invoice"


@pytest.mark.parametrize(
    ("own", "asked", "examples_are", "text_is"),
    [("en", "en", "", ""), ("en", "de", " in English", " in German"), ("ja", None, " in Japanese", " in Japanese")],
)
def test_a_small_model_gets_the_language(
    taxonomy: Taxonomy, own: str, asked: str | None, examples_are: str, text_is: str
) -> None:
    asker = _asker(taxonomy.model_copy(update={"language": own}), SHIPPED / "small-model", few_shot=1)
    turns = [message["content"] for message in asker.question({**SLOT, "language": asked}, 1, []).payload["messages"]]
    assert turns[1] == f"Write one{examples_are} about: Parcel"
    assert turns[-1] == f"Write one{text_is} about: Parcel and Invoice"
    safe = {**SLOT, "labels": [], "language": asked}
    assert asker.question(safe, 1, []).payload["messages"][-1]["content"].startswith(f"Write one{text_is} about some")


def test_structured_output_asks_for_json(taxonomy: Taxonomy) -> None:
    payload = _asker(taxonomy, structured_output=True).question(SLOT, 1, []).payload
    assert payload["response_format"]["json_schema"]["schema"]["required"] == ["text"]
    assert '{"text": "…"}' in payload["messages"][0]["content"]


def test_settings_of_the_request(taxonomy: Taxonomy) -> None:
    plain = _asker(taxonomy).question(SLOT, 1, []).payload
    assert (plain["temperature"], plain["max_tokens"], plain["model"]) == (0.9, 256, "smollm2-135m-instruct")
    other = _asker(taxonomy, temperature=None, send_seed=False, token_limit_key="max_completion_tokens")
    bare = other.question(SLOT, 1, []).payload
    assert set(bare) == {"model", "messages", "max_completion_tokens"}


def test_each_attempt_at_each_slot_has_its_own_seed_and_key(taxonomy: Taxonomy) -> None:
    asker = _asker(taxonomy)
    questions = [
        asker.question({**SLOT, "slot_id": slot}, attempt, []) for slot in ("slot-1", "slot-2") for attempt in (1, 2)
    ]
    assert len({question.payload["seed"] for question in questions}) == 4
    assert len({question.key for question in questions}) == 4


def test_the_key_does_not_depend_on_the_texts_shown_for_diversity(taxonomy: Taxonomy) -> None:
    asker = _asker(taxonomy)
    bare, with_written = asker.question(SLOT, 1, []), asker.question(SLOT, 1, ["Something."])
    assert bare.key == with_written.key
    assert bare.payload != with_written.payload


@pytest.mark.parametrize("change", [{"temperature": 0.1}, {"max_tokens": 99}, {"few_shot": 1}])
def test_the_key_depends_on_all_else(taxonomy: Taxonomy, change: dict[str, Any]) -> None:
    assert _asker(taxonomy).question(SLOT, 1, []).key != _asker(taxonomy, **change).question(SLOT, 1, []).key


def _folder(path: Path, user: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "system.j2").write_text("Write.", encoding="utf-8")
    (path / "user.j2").write_text(user, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("{{ labls }}", "user.j2: UndefinedError: 'labls' is undefined"),
        ("ok\n{% for x %}", "user.j2: line 2: not a template"),
        ("", "user.j2: renders to an empty text"),
        ("{{ ''.__class__.__mro__ }}", "user.j2: SecurityError"),
        ("{{ labels.append(1) }}", "user.j2: SecurityError"),
        ("{{ 1 / 0 }}", "user.j2: ZeroDivisionError"),
    ],
)
def test_a_broken_template_is_named(taxonomy: Taxonomy, tmp_path: Path, user: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        _asker(taxonomy, _folder(tmp_path / "mine", user)).question(SLOT, 1, [])
    assert message in str(error.value)


def test_texts_are_values_and_never_templates(taxonomy: Taxonomy, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mine", "Unlike: {{ written | join }}")
    question = _asker(taxonomy, folder, show_written=1).question(SLOT, 1, ["{{ 7 * 7 }} <b>&"])
    assert question.payload["messages"][-1]["content"] == "Unlike: {{ 7 * 7 }} <b>&"


def test_where_templates_lie(tmp_path: Path) -> None:
    assert template_folder("default", relative_to=tmp_path) == SHIPPED / "default"
    own = _folder(tmp_path / "mine", "x")
    assert template_folder("mine", relative_to=tmp_path) == own
    with pytest.raises(InputError, match=r"template folder not found \(generate\.templates: default, small-model, or"):
        template_folder("yours", relative_to=tmp_path)


def test_the_hash_is_of_the_texts(tmp_path: Path) -> None:
    first, same = _folder(tmp_path / "a", "x"), _folder(tmp_path / "b", "x")
    other = _folder(tmp_path / "c", "y")
    assert load_templates(first).sha256 == load_templates(same).sha256 != load_templates(other).sha256
