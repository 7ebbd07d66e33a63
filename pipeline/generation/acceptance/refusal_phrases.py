"""Phrases that show that an answer is not the requested text but a refusal, a reply or a form to fill in."""

from __future__ import annotations

import re

from marginalia.pipeline.generation.acceptance.pattern_matcher import PatternMatcher
from marginalia.pipeline.generation.acceptance.refusal_phrases_by_language import REFUSALS, REPLIES

# characters that are searched: refusals and replies begin with such phrases; later they may be part of the text
_START = 220

_REFUSAL = PatternMatcher(
    (
        r"\bas an? (?:ai|artificial intelligence|language model|chatbot)\b",
        r"\bi(?:'m|’m| am) (?:just |only )?an? (?:ai|artificial intelligence|language model|chatbot)\b",
        r"\bi (?:can(?:'|’)?t|cannot|can not|won(?:'|’)t|will not|am unable to|am not able to|must decline to)"
        r" (?:\w+ ){0,2}?(?:assist|help|comply|fulfil+|create|generate|produce|write|provide|engage|discuss)"
        r" [^.!?\n]{0,60}\b(?:request|content|material|such|harmful|illegal|prompt|instructions?)\b",
        r"\b(?:sorry|apologi[sz]e),? (?:but )?i (?:can(?:'|’)?t|cannot|am unable to|am not able to|won(?:'|’)t)"
        r" (?:assist|help|comply|fulfil+|do (?:that|this)|create|generate|write|provide)",
        r"\bi (?:can(?:'|’)?t|cannot) (?:assist|help) (?:you )?with (?:that|this)\b",
        r"\b(?:against|violates?) (?:my|our|the|content) (?:\w+ )?(?:guidelines|polic(?:y|ies)|programming)\b",
        *(phrase for phrases in REFUSALS.values() for phrase in phrases),
    )
)
_REPLY = PatternMatcher(
    (
        r"\Adear (?:valued )?(?:customer|user|client)\b",
        r"\b(?:thank you|thanks) for (?:contacting|reaching out)",
        r"\b(?:thank you|thanks) for your (?:message|inquiry|enquiry|question|order|interest|patience|feedback)",
        r"\bwe(?:'re| are) (?:very |so |truly )?sorry (?:to hear|for|about)\b",
        r"\bwe (?:sincerely |deeply )?apologi[sz]e\b",
        r"\bi(?:'m| am) (?:very |so )?sorry to hear\b",
        r"\bi(?:'m| am) sorry for (?:any|the) (?:inconvenience|confusion|trouble|misunderstanding)",
        r"\bhow (?:can|may) i (?:help|assist) you\b",
        r"\b(?:i(?:'m| am)|we(?:'re| are)) here to (?:help|assist)\b",
        r"\bi(?:'d| would) be (?:happy|glad) to (?:help|assist)\b",
        r"\A(?:step 1|first,? you (?:need|should|must|can)|to (?:do|make|build|create|solve) this)\b",
        r"\A(?:here are|these are) (?:some|the|a few|\d+)\b",
        *(phrase for phrases in REPLIES.values() for phrase in phrases),
    )
)
_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|step \d+)\s", re.IGNORECASE | re.MULTILINE)
_BLANK_TO_FILL = re.compile(
    r"\[(?:your|my|the|insert|order|customer|product|item|date|name|company|phone|e-?mail|address|number|link|amount)"
    r"[^\]\n]{0,40}\]"
    r"|\[(?:ihre?|deine?|name|vorname|nachname|bestell|kunden|produkt|datum|firma|telefon|votre|vos|nom|su|tu|nombre|आपका|नाम|اسم|رقم)"
    r"[^\]\n]{0,40}\]"
    r"|[\[［【(（](?:お?名前|氏名|商品名|注文番号|日付|住所|電話番号|会社名|您的|姓名|订单号|日期)[^\]］】)）\n]{0,20}[\]］】)）]"
    r"|[〇○◯]{2,}"
    r"|\{\{?\s*\w[\w ]{0,30}\}?\}|<(?:your|insert|name|order|product)[^>\n]{0,30}>|_{4,}",
    re.IGNORECASE,
)
_CONTROL_TOKEN = re.compile(r"<\|[a-z0-9_ ]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>", re.IGNORECASE)


def refusal(text: str) -> str | None:
    """The words by which a model refused to write, or None."""
    match = _REFUSAL.search(text[:_START])
    return match[0] if match else None


def reply(text: str) -> str | None:
    """The words that show that a text answers a request instead of making one, or None. Three or more numbered steps
    count as such words."""
    match = _REPLY.search(text[:_START])
    if match:
        return match[0][:80]
    return "numbered steps" if len(_NUMBERED.findall(text)) >= 3 else None


def form_field(text: str) -> str | None:
    """A blank to be filled in, such as [your name], or a control token of a chat format; None when there is neither."""
    match = _BLANK_TO_FILL.search(text) or _CONTROL_TOKEN.search(text)
    return match[0] if match else None
