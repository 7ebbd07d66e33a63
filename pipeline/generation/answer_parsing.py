"""Finds the text in a model's answer, whether JSON, fenced, quoted, a list item, introduced or plain."""

from __future__ import annotations

import json
import re
from typing import Any

TEXT_KEY = "text"
_KEYS = (TEXT_KEY, "message", "prompt", "request", "query", "content", "question", "ticket")
# the tags around a model's reasoning: <think> and the like; Mistral writes [THINK], Seed-OSS <seed:think>
_MARK = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning)"
_BLOCK = re.compile(rf"<{_MARK}>.*?(?:</{_MARK}>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)", re.DOTALL | re.IGNORECASE)
# when the chat template has the opening tag, the answer has only the closing one
_LONE_END = re.compile(rf"\A.*(?:</{_MARK}>|\[/THINK\])", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[a-z]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)
_STRING_START = r'"(?:' + "|".join(_KEYS) + r')"\s*:\s*'
_STRING_VALUE = re.compile(_STRING_START + r'("(?:[^"\\]|\\.)*")', re.DOTALL)
# a string that ends with a cut answer, without an incomplete escape at its end
_CUT_VALUE = re.compile(
    _STRING_START + r'("(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)(?:\\u?[0-9a-f]{0,3})?\Z', re.DOTALL | re.IGNORECASE
)
_YES = r"(?:sure|certainly|of course|okay|ok|absolutely)(?: thing)?"
_PREAMBLE = re.compile(
    rf"\A(?:{_YES}[!.:]\s*\n|(?:{_YES}[!.,:]\s+)?(?=here|below|the following)(?:here you (?:go|are)[.:!]\s+)?"
    r"(?:(?:here(?:'s|’s| is| are)|below is|the following is)\b[^\n:]{0,100}"
    r"\b(?:messages?|texts?|requests?|examples?|prompts?|quer(?:y|ies)|versions?|json|tickets?|summary)\b"
    r"[^\n:]{0,100}:\s*)?)",
    re.IGNORECASE,
)
# the same in other languages: always with a colon, because a text may begin with the same words
_PREAMBLE_ELSEWHERE = re.compile(
    r"\A(?:(?:natürlich|gerne?|klar|selbstverständlich|bien sûr|claro(?: que sí)?|por supuesto|certo|certamente)"
    r"[!.,:]?\s+)?"
    r"(?:hier (?:ist|sind|kommt)|voici|aquí (?:tienes?|está)|ecco)\b[^\n:]{0,100}"
    r"(?:text|nachricht|anfrage|beispiel|version|message|exemple|demande|mensaje|ejemplo|solicitud|messaggio|testo|esempio)"
    r"[^\n:]{0,100}:\s*"
    r"|\A(?:(?:もちろん(?:です)?|はい|承知(?:いた)?しました|かしこまりました)[、。！!\s]*)?"
    r"(?:以下|こちら)(?:は|が|に)[^\n：:。]{0,60}(?:[：:]\s*|。\s*\n)"
    r"|\A(?:(?:好的|当然(?:可以)?)[，。！!\s]*)?(?:以下是|这是)[^\n：:。]{0,60}[：:]\s*"
    r"|\A(?:물론(?:입니다|이죠)[.!,\s]*)?(?:다음은|여기)[^\n:.]{0,60}:\s*"
    r"|\A(?:конечно[!.,]?\s+)?вот [^\n:.]{0,60}:\s*"
    r"|\A(?:(?:ज़?रूर|बेशक)[!,।.\s]*)?(?:यहाँ|यहां|यह रहा)[^\n:।]{0,60}:\s*"
    r"|\A(?:(?:بالتأكيد|بالطبع|حسن[اً]+)[!،.\s]*)?(?:إليك|هذه|فيما يلي)[^\n:.]{0,60}:\s*",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"\A(?:\*\*|#+ *)?(?:(?:the |a |new |user |customer )*"
    r"(?:message|text|prompt|request|query|customer|user|ticket|body)(?: \d+)?"
    r"|nachricht|anfrage|frage|mensaje|texto|texte|demande|messaggio|testo|本文|メッセージ|テキスト|正文|文本|消息|메시지|сообщение|संदेश|الرسالة)"
    r"(?:\*\*)?[:：](?:\*\*)?\s*",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"\A(?:\*\*)?(?:subject(?: line)?|betreff|objet|asunto|oggetto|件名|主题)(?:\*\*)?[:：][^\n]*\n+", re.IGNORECASE
)
_FIRST_ITEM = re.compile(r"\A(?:1[.)]|[-*•])\s+(.*?)(?=\n\s*(?:\d+[.)]|[-*•])\s+|\Z)", re.DOTALL)
_REMARK = re.compile(
    r"\n\s*[(*\[（]*(?:(?:note|explanation|please note|(?:in )?this (?:message|text|request|example|version))\b"
    r"|hinweis:|anmerkung:|erklärung:|remarque ?:|nota:|備考|注[：:]|说明[：:]).*\Z",
    re.DOTALL | re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "‘": "’", "'": "'", "「": "」", "『": "』", "»": "«"}


def without_reasoning(answer: str) -> str:
    """The answer without the model's reasoning, trimmed; empty when the answer was cut during the reasoning."""
    return _LONE_END.sub("", _BLOCK.sub("", answer)).strip()


def parse(answer: str, *, cut: bool = False) -> str | None:
    """The text in `answer`, trimmed; None when there is none (broken JSON, an empty answer).

    `cut`: the answer reached its token limit; then the last JSON string may be incomplete."""
    text = without_reasoning(answer)
    if fenced := _FENCE.search(text):
        text = fenced[1].strip()
    text = _PREAMBLE_ELSEWHERE.sub("", _PREAMBLE.sub("", text, count=1), count=1).strip()
    if text.startswith(("{", "[{", '["', "[]")):
        value = _from_json(text, cut=cut)
        return _plain(value) if value is not None else None
    return _plain(text)


def _from_json(text: str, *, cut: bool) -> str | None:
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        value = _string_in_broken_json(text, cut=cut)
    return _string_in(value)


def _string_in_broken_json(text: str, *, cut: bool) -> Any:
    whole_value, cut_value = _STRING_VALUE.search(text), _CUT_VALUE.search(text) if cut else None
    string = whole_value[1] if whole_value else f'{cut_value[1]}"' if cut_value else "null"
    try:
        return json.loads(string, strict=False)
    except ValueError:
        return None  # an escape that is not valid in JSON


def _string_in(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        strings = {str(key).lower(): item for key, item in value.items() if isinstance(item, str)}
        known = next((strings[key] for key in _KEYS if key in strings), None)
        value = known if known is not None else next(iter(strings.values()), None) if len(strings) == 1 else None
    return value if isinstance(value, str) else None


def _plain(text: str) -> str | None:
    for pattern in (_SUBJECT, _HEADING):
        text = pattern.sub("", text.strip(), count=1)
    if item := _FIRST_ITEM.match(text):
        text = item[1]
    text = _unquoted(_REMARK.sub("", text).strip())
    lines = [line.strip() for line in text.replace("**", "").split("\n")]
    return "\n".join(line for line in lines if line) or None


def _unquoted(text: str) -> str:
    closing = _QUOTES.get(text[:1])
    if closing is None:
        return text
    end = text.find(closing, 1)
    while end > 0 and text[end + 1 : end + 2].isalnum():  # the apostrophe of "don't"
        end = text.find(closing, end + 1)
    if end < 0:
        return text[1:].strip()
    # words after a quoted text are a remark about it; a short quotation at the start is a part of the text
    return text[1:end].strip() if end >= len(text) // 3 else text
