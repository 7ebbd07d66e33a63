from __future__ import annotations

from datetime import UTC, datetime

import pytest

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.acceptance.answer_acceptance import AnswerAcceptance, Rejection
from marginalia.pipeline.generation.response_journal import JournalledAnswer
from marginalia.schemas.tables import REJECTION_REASONS
from marginalia.schemas.taxonomy import Taxonomy

GOOD = "The lamp from my last order flickers all evening, and I would like to know what to do."


def _answer(text: str | None, *, finish: str = "stop", refused: str | None = None) -> JournalledAnswer:
    return JournalledAnswer(text, refused, finish, 1, 1, datetime.now(UTC))


def _reason(section: GenerateSection, taxonomy: Taxonomy, answer: JournalledAnswer, *, language: str = "en") -> str:
    verdict = AnswerAcceptance(section, taxonomy).judge(
        "slot-1", answer, language, ["An example that stood in this very prompt."]
    )
    assert isinstance(verdict, Rejection), verdict
    assert verdict.reason in REJECTION_REASONS
    assert verdict.detail
    return verdict.reason


def test_a_good_answer_is_kept(section: GenerateSection, taxonomy: Taxonomy) -> None:
    assert AnswerAcceptance(section, taxonomy).judge("slot-1", _answer(f'"{GOOD}"'), "en", []) == GOOD


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid"),
        (None, "invalid"),
        ('{"text": "cut o', "invalid"),
        ("Hello, I am [your name] and my order is late by a week.", "invalid"),
        ("My order {{order_number}} has not come by the end of this week.", "invalid"),
        ("My order has not come<|im_end|> by the end of this week.", "invalid"),
        ("My order has \u202e not come by the end of this week.", "invalid"),
        ("My order has \x00 not come by the end of this week.", "invalid"),
        ("My order has \ud800 not come by the end of this week.", "invalid"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("I cannot create content that is harmful to other people, whatever the purpose.", "refused"),
        ("As an AI language model, I do not place any orders with shops myself.", "refused"),
        ("Es tut mir leid, aber dabei kann ich dir nicht helfen.", "refused"),
        ("Es tut mir leid, aber bei dieser Anfrage kann ich nicht helfen.", "refused"),
        ("申し訳ありませんが、そのご依頼にはお応えできません。", "refused"),
        ("Lo siento, no puedo ayudar con esa solicitud en este momento.", "refused"),
        ("抱歉，我无法满足您的这个请求，请您换一个问题再来问我。", "refused"),
        ("Dear customer, the parcel will be with you on Tuesday at the latest.", "answered"),
        ("Thank you for contacting us about the parcel that has not come yet.", "answered"),
        ("I'm sorry to hear that your parcel is late, it will come tomorrow.", "answered"),
        ("Open the box.\n1. Take the lamp out.\n2. Plug it in.\n3. Press the switch.", "answered"),
        ("too short", "too_short"),
        ("The lamp flickers. " * 60, "too_long"),
        ("Guten Tag, wo bleibt denn mein Paket, das ich letzte Woche bestellt habe?", "language"),
        ("Pay it back to DE89 3704 0044 0532 0130 00 by the end of this week.", "private_data"),
        ("Example 1: what about my parcel, it is gone since the autumn?", "copied"),
        ("The text is about the parcel of an order that somebody made!", "copied"),
        ("Well, an example that stood in this very prompt, as it happens.", "copied"),
    ],
)
def test_each_flaw_has_its_reason(section: GenerateSection, taxonomy: Taxonomy, text: str | None, reason: str) -> None:
    assert _reason(section, taxonomy, _answer(text)) == reason


@pytest.mark.parametrize(
    "text",
    [
        "I cannot log in to my account since the update, the code never comes.",
        "I'm sorry to bother you again, but my refund has still not come.",
        "I can't help thinking that the lamp you sent me has been used before.",
        "Can you provide an invoice for the order that I made in the spring?",
        "Thanks for the quick delivery, the sofa looks just as I had hoped.",
    ],
)
def test_what_a_customer_says_is_no_refusal(section: GenerateSection, taxonomy: Taxonomy, text: str) -> None:
    assert AnswerAcceptance(section, taxonomy).judge("slot-1", _answer(text), "en", []) == text


def test_the_endpoints_own_refusal(section: GenerateSection, taxonomy: Taxonomy) -> None:
    assert _reason(section, taxonomy, _answer(None, refused="content filter")) == "refused"


def test_exact_and_near_duplicates(section: GenerateSection, taxonomy: Taxonomy) -> None:
    judge = AnswerAcceptance(section, taxonomy)
    assert judge.judge("slot-1", _answer(GOOD), "en", []) == GOOD
    for text in (GOOD, GOOD.upper(), GOOD.replace("evening", "morning")):
        verdict = judge.judge("slot-2", _answer(text), "en", [])
        assert isinstance(verdict, Rejection)
        assert verdict.reason == "duplicate"
        assert verdict.detail.startswith("of slot-1, similarity ")
    other = "My voucher is refused at the till although it should be good until May."
    assert judge.judge("slot-3", _answer(other), "en", []) == other


def test_a_rejected_text_makes_no_duplicate(section: GenerateSection, taxonomy: Taxonomy) -> None:
    judge = AnswerAcceptance(section.model_copy(update={"max_characters": 20}), taxonomy)
    for slot in ("slot-1", "slot-2"):
        verdict = judge.judge(slot, _answer(GOOD), "en", [])
        assert isinstance(verdict, Rejection)
        assert verdict.reason == "too_long"


def test_an_answer_that_was_cut(section: GenerateSection, taxonomy: Taxonomy) -> None:
    cut = _answer("The lamp flickers all evening. I would like to kn", finish="length")
    assert _reason(section, taxonomy, cut) == "too_long"
    trimming = section.model_copy(update={"when_cut": "trim"})
    assert AnswerAcceptance(trimming, taxonomy).judge("slot-1", cut, "en", []) == "The lamp flickers all evening."
    assert (
        _reason(trimming, taxonomy, _answer("The lamp flickers all evening and I wou", finish="length")) == "too_long"
    )


def test_identifiers_are_replaced_or_refused(section: GenerateSection, taxonomy: Taxonomy) -> None:
    answer = _answer("Please send the missing invoice to jo.smith@gmail.com by Friday.")
    kept = AnswerAcceptance(section, taxonomy).judge("slot-1", answer, "en", [])
    assert kept == "Please send the missing invoice to name@example.com by Friday."
    assert _reason(section.model_copy(update={"private_data": "reject"}), taxonomy, answer) == "private_data"


def test_a_short_japanese_sentence_is_long_enough(section: GenerateSection, taxonomy: Taxonomy) -> None:
    text = "毛布はどこにありますか。"
    assert (
        AnswerAcceptance(section, taxonomy).judge(
            "slot-1", _answer(f"もちろんです。以下は例文です。\n「{text}」"), "ja", []
        )
        == text
    )


def test_the_language_that_was_asked_for(section: GenerateSection, taxonomy: Taxonomy) -> None:
    german = "Guten Tag, wo bleibt denn mein Paket, das ich letzte Woche bestellt habe?"
    assert AnswerAcceptance(section, taxonomy).judge("slot-1", _answer(german), "de", []) == german
    assert _reason(section, taxonomy, _answer(GOOD), language="de") == "language"
    unknown_language = AnswerAcceptance(section, taxonomy).judge("slot-1", _answer(GOOD), "tlh", [])
    assert unknown_language == GOOD


def test_a_text_that_repeats_its_prompt(section: GenerateSection, taxonomy: Taxonomy) -> None:
    prompt = ["Write.", "You are a customer of a shop that sells lamps; write to its support about one."]
    for text in (prompt[1], "A CUSTOMER of a shop that sells lamps; write to its SUPPORT", f"Hello! {prompt[1]} Bye."):
        verdict = AnswerAcceptance(section, taxonomy).judge("slot-1", _answer(text), "en", [], prompt)
        assert verdict == Rejection("copied", "repeats the prompt")
    plain = "Whom do I write to? I am a customer of a shop that sells lamps, and mine is broken."
    assert AnswerAcceptance(section, taxonomy).judge("slot-1", _answer(plain), "en", [], prompt) == plain
