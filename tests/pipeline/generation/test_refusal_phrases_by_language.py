"""Refusals, replies and the language itself, told from what people write in languages other than English."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.acceptance.answer_acceptance import AnswerAcceptance, Rejection
from marginalia.pipeline.generation.acceptance.text_duplicates import TextDuplicates, shingles
from marginalia.pipeline.generation.answer_parsing import parse
from marginalia.pipeline.generation.diversity import tokens
from marginalia.pipeline.generation.languages import other_language, width
from marginalia.pipeline.generation.response_journal import JournalledAnswer
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_equality import fold

PEOPLE: dict[str, list[str]] = {
    "de": [
        "Wo bleibt mein Paket? Ich warte seit neun Tagen.",
        "Ich kann mich seit dem Update nicht mehr anmelden, der Code kommt nie an.",
        "Können Sie mir bitte eine Rechnung für die Bestellung vom März schicken?",
        "Es tut mir leid, dass ich schon wieder schreibe, aber meine Rückerstattung fehlt noch.",
        "Meine Waschmaschine schleudert nicht. Was kann ich tun?",
        "Bitte stornieren Sie mein Abo zum Monatsende.",
        "Vielen Dank für die schnelle Lieferung, das Sofa sieht toll aus!",
        "Ich kann leider keine Rechnung in meinem Konto finden.",
        "Ich kann Ihnen leider keine Bestellnummer nennen, die Mail ist weg.",
    ],
    "ja": [
        "荷物がまだ届きません。いつ来ますか。",
        "パスワードを忘れてしまいました。どうすればログインできますか？",
        "先週注文したやかんが二日で壊れました。新しいものを送ってください。",
        "申し訳ありませんが、返金の件を確認していただけますか。",
        "領収書の発行をお願いします。",
        "申し訳ありません、注文番号が分からず、問い合わせができません。",
        "ログインできません。助けてください。",
        "お問い合わせの返信がまだありません。",
    ],
    "ar": [
        "أين طردي؟ أنتظر منذ تسعة أيام.",
        "نسيت كلمة المرور ولا أستطيع الدخول إلى حسابي.",
        "أريد استرداد ثمن الغلاية التي اشتريتها الأسبوع الماضي.",
        "عذراً، لا أستطيع تسجيل الدخول إلى حسابي منذ أمس.",
    ],
    "hi": [
        "मेरा पार्सल अभी तक नहीं आया है, कब आएगा?",
        "मैं अपना पासवर्ड भूल गया हूँ, मुझे क्या करना चाहिए?",
        "पिछले हफ्ते खरीदी गई केतली दो दिन में खराब हो गई, कृपया नई भेजें।",
        "क्षमा करें, मैं लॉगिन नहीं कर सकता, कोड नहीं आ रहा है।",
    ],
    "fr": [
        "Où est mon colis ? Je l'attends depuis neuf jours.",
        "Je ne peux pas me connecter à mon compte depuis hier.",
    ],
    "es": [
        "¿Dónde está mi paquete? Llevo nueve días esperando.",
        "No puedo entrar en mi cuenta desde ayer, el código no llega.",
    ],
    "zh": [
        "我的包裹还没有到，什么时候能送来？",
        "我忘记密码了，无法登录账户，怎么办？",
        "很抱歉打扰，我无法登录我的账户。",
    ],
    "ko": [
        "제 소포가 아직 도착하지 않았어요. 언제 오나요?",
        "비밀번호를 잊어버렸어요. 어떻게 해야 하나요?",
        "죄송하지만 로그인할 수 없어요. 도와주세요.",
    ],
    "ru": [
        "Где моя посылка? Я жду уже девять дней.",
        "К сожалению, я не могу войти в свой аккаунт.",
    ],
    "th": [
        "พัสดุของฉันยังไม่มาถึง เมื่อไหร่จะมา",
        "ฉันลืมรหัสผ่าน ต้องทำอย่างไร",
    ],
}
REFUSALS: dict[str, list[str]] = {
    "de": [
        "Es tut mir leid, aber ich kann diesen Text nicht schreiben.",
        "Tut mir leid, das kann ich nicht machen.",
        "Leider kann ich dabei nicht behilflich sein.",
        "Ich kann diese Anfrage nicht erfüllen.",
        "Als KI-Modell kann ich keine solchen Inhalte erstellen.",
        "Ich darf keine Inhalte erstellen, die anderen schaden könnten.",
        "Entschuldigung, aber dabei kann ich nicht helfen.",
        "Das kann ich leider nicht schreiben, da es gegen meine Richtlinien verstößt.",
        "Ich bin ein KI-Assistent und kann dir dabei nicht helfen.",
        "Leider kann ich Ihnen bei dieser Anfrage nicht weiterhelfen.",
    ],
    "ja": [
        "申し訳ございませんが、そのようなリクエストにはお答えできません。",
        "申し訳ありませんが、お手伝いできません。",
        "すみませんが、そのような内容は作成できません。",
        "AIとして、そのような内容を書くことはできません。",
        "ごめんなさい、その依頼には応じられません。",
        "そのような文章を書くことはできません。",
        "恐れ入りますが、ご要望にお応えすることはできません。",
        "私はAIアシスタントなので、そのような内容の作成はできません。",
        "このリクエストには対応しかねます。",
        "ポリシーに違反するため、お答えできません。",
    ],
    "ar": [
        "عذرًا، لا أستطيع المساعدة في هذا الطلب.",
        "آسف، لا يمكنني كتابة هذا المحتوى.",
        "أعتذر، ولكن لا أستطيع تلبية هذا الطلب.",
        "لا يمكنني مساعدتك في ذلك.",
        "بصفتي نموذج لغوي، لا يمكنني إنشاء مثل هذا المحتوى.",
    ],
    "hi": [
        "क्षमा करें, मैं इसमें आपकी मदद नहीं कर सकता।",
        "मुझे खेद है, लेकिन मैं यह सामग्री नहीं लिख सकता।",
        "माफ़ कीजिए, मैं इस अनुरोध को पूरा नहीं कर सकता।",
        "एक एआई के रूप में मैं ऐसी सामग्री नहीं बना सकता।",
    ],
    "fr": [
        "Désolé, mais je ne peux pas vous aider avec cette demande.",
        "Je suis désolé, mais je ne peux pas écrire ce texte.",
        "Je ne peux pas répondre à cette demande.",
    ],
    "es": [
        "Lo siento, pero no puedo ayudarte con eso.",
        "No puedo generar ese tipo de contenido.",
    ],
    "zh": [
        "抱歉，我无法协助完成这个请求。",
        "对不起，我不能写这样的内容。",
        "作为一个人工智能，我无法生成此类内容。",
    ],
    "ko": [
        "죄송하지만 그 요청에는 도와드릴 수 없습니다.",
        "죄송합니다. 그런 내용은 작성할 수 없습니다.",
    ],
    "ru": [
        "Извините, но я не могу помочь с этим запросом.",
        "К сожалению, я не могу выполнить эту просьбу.",
        "Как языковая модель, я не могу создавать такой контент.",
    ],
}
REPLIES: dict[str, list[str]] = {
    "de": [
        "Sehr geehrte Kundin, Ihr Paket ist unterwegs und kommt morgen an.",
        "Vielen Dank für Ihre Anfrage! Ihr Paket kommt am Dienstag.",
        "Guten Tag, wie kann ich Ihnen heute helfen? Ich bin für Sie da.",
        "Es tut uns leid, dass Ihr Paket verspätet ist. Wir kümmern uns darum.",
    ],
    "ja": [
        "お問い合わせいただきありがとうございます。荷物は明日届きます。",
        "お客様、この度はご不便をおかけし申し訳ございません。",
        "ご連絡ありがとうございます。確認いたしますので少々お待ちください。",
        "いつもお世話になっております。カスタマーサポートです。ご注文の件ですが、明日届きます。",
    ],
    "ar": [
        "شكراً لتواصلك معنا، سيصل طردك غداً.",
        "عزيزي العميل، طلبك في الطريق إليك.",
    ],
    "hi": [
        "संपर्क करने के लिए धन्यवाद, आपका पार्सल कल पहुँच जाएगा।",
        "प्रिय ग्राहक, आपका ऑर्डर रास्ते में है।",
    ],
}


def _each(texts: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(code, text) for code, several in texts.items() for text in several]


def _verdict(taxonomy: Taxonomy, code: str, text: str, finish: str = "stop") -> str | Rejection:
    answer = JournalledAnswer(text, None, finish, 1, 1, datetime.now(UTC))
    return AnswerAcceptance(GenerateSection(when_cut="trim"), taxonomy).judge("slot-1", answer, code, [])


@pytest.mark.parametrize(("code", "text"), _each(PEOPLE))
def test_what_people_write_is_kept(taxonomy: Taxonomy, code: str, text: str) -> None:
    assert _verdict(taxonomy, code, text) == text


@pytest.mark.parametrize(("code", "text"), _each(REFUSALS))
def test_a_refusal_is_known(taxonomy: Taxonomy, code: str, text: str) -> None:
    verdict = _verdict(taxonomy, code, text)
    assert isinstance(verdict, Rejection)
    assert verdict.reason == "refused"


@pytest.mark.parametrize(("code", "text"), _each(REPLIES))
def test_a_reply_is_no_request(taxonomy: Taxonomy, code: str, text: str) -> None:
    verdict = _verdict(taxonomy, code, text)
    assert isinstance(verdict, Rejection)
    assert verdict.reason == "answered"


@pytest.mark.parametrize("asked", PEOPLE)
def test_every_other_language_is_noticed(asked: str) -> None:
    for code, text in _each(PEOPLE):
        assert (other_language(text, asked) is None) == (code == asked), text


def test_other_letters_are_noticed_in_short_texts_and_names_are_none() -> None:
    assert other_language("Where is it?", "ja") == "other letters"
    assert other_language("どこですか", "de") == "other letters"
    assert other_language("iPhone 15 Pro Maxの画面が割れた", "ja") is None
    assert other_language("Где?", "en") is None  # too few letters to say
    assert other_language("Gde je moj paket? Где је?", "sr") is None


def test_words_keep_their_vowel_signs_and_tones() -> None:
    assert tokens("मेरा पार्सल कहाँ है?") == ["मेरा", "पार्सल", "कहाँ", "है"]
    assert tokens("مرحبًا بكم") == ["مرحبًا", "بكم"]
    assert tokens("ไม่มา") == ["ไ", "ม่", "ม", "า"]
    assert fold("कि, की!") == "कि की"


def test_a_changed_word_makes_a_near_duplicate_also_without_spaces() -> None:
    seen = TextDuplicates(0.7)
    seen.add("first", "先週注文したやかんが二日で壊れました。新しいものを送ってください。")
    match = seen.find("先週注文した時計が二日で壊れました。新しいものを送ってください！")
    assert match is not None
    assert match[0] == "first"
    assert seen.find("荷物がまだ届きません。いつ来ますか。") is None
    assert shingles(fold("荷物が来ない")) == {"荷物が", "物が来", "が来な", "来ない"}


def test_japanese_characters_count_twice_in_the_length_limits(taxonomy: Taxonomy) -> None:
    """The same matter takes half as many characters in Japanese."""
    assert width("荷物が来ません。") == 16
    assert _verdict(taxonomy, "ja", "荷物が来ません。") == "荷物が来ません。"
    short = _verdict(taxonomy, "ja", "来ません。")
    long = _verdict(taxonomy, "ja", "荷物が来ません。" * 51)
    assert (short.reason, long.reason) == ("too_short", "too_long")  # type: ignore[union-attr]
    assert _verdict(taxonomy, "hi", "मेरा पार्सल नहीं आया।") == "मेरा पार्सल नहीं आया।"


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        ("ja", "荷物がまだ届きません。いつ来ますか。"),
        ("hi", "मेरा पार्सल अभी तक नहीं आया है।"),
        ("ar", "أين طردي الذي طلبته قبل أسبوع؟"),
        ("de", "Wo bleibt mein Paket, das ich bestellt habe?"),
    ],
)
def test_an_answer_that_was_cut_ends_with_its_last_sentence(taxonomy: Taxonomy, code: str, whole: str) -> None:
    assert _verdict(taxonomy, code, f"{whole} {whole[:5]}", finish="length") == whole


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Natürlich! Hier ist eine Anfrage:\n\n„Wo ist mein Paket?“", "Wo ist mein Paket?"),
        ("こちらが例文です：\n『荷物が来ません。』", "荷物が来ません。"),
        ("다음은 예시 메시지입니다:\n\n소포가 아직 오지 않았어요.", "소포가 아직 오지 않았어요."),
        ("Конечно! Вот сообщение:\n«Где моя посылка?»", "Где моя посылка?"),
        ("ज़रूर! यहाँ एक संदेश है:\nमेरा पार्सल कहाँ है?", "मेरा पार्सल कहाँ है?"),
        ("بالتأكيد! إليك الرسالة:\n«أين طردي؟»", "أين طردي؟"),
    ],
)
def test_an_introduction_is_taken_off(answer: str, text: str) -> None:
    assert parse(answer) == text
