"""Names of languages for prompts, and whether a text is clearly in another language than requested."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# ISO 639-1; an unknown code is shown unchanged
_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian",
    "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian",
    "ms": "Malay", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "ta": "Tamil", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu",
    "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
# languages that cannot be distinguished by a short text
_CLOSE = (
    {"no", "nn", "da"}, {"zh", "yue", "wuu"}, {"hr", "sr", "bs"}, {"id", "ms"}, {"en", "pcm"}, {"gl", "pt"},
    {"tl", "bcl"},
)  # fmt: skip
_MIN_WIDTH = 20  # shorter texts cannot be identified reliably
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\U00020000-\U0003fffd]"
)
# letters of languages that do not use the Latin script; sr is written in two scripts, so it is not checked
_LETTERS = {
    **dict.fromkeys(("ar", "fa", "ur"), "\u0600-\u06ff"), **dict.fromkeys(("bg", "ru", "uk"), "\u0400-\u04ff"),
    "bn": "\u0980-\u09ff", "el": "\u0370-\u03ff", "he": "\u0590-\u05ff", "hi": "\u0900-\u097f", "sr": "",
    "ja": "\u3040-\u30ff\u3400-\u9fff", "ko": "\u1100-\u11ff\uac00-\ud7a3", "ta": "\u0b80-\u0bff",
    "th": "\u0e00-\u0e7f", "zh": "\u3400-\u9fff",
}  # fmt: skip
_LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_FEW = 0.1  # share of a text's letters in the script of the language; a lower share may be only names
_SURE, _UNLIKELY = 0.6, 0.05


def language_name(code: str) -> str:
    """`German` for `de`, `Portuguese (pt-BR)` for `pt-BR`."""
    name = _NAMES.get(_base(code))
    return code if name is None else name if code in _NAMES else f"{name} ({code})"


def width(text: str) -> int:
    """The number of characters; those of Chinese, Japanese and Korean, which say about twice as much, count twice."""
    return len(text) if text.isascii() else len(text) + wide(text)


def wide(text: str) -> int:
    """The number of Chinese, Japanese and Korean characters."""
    return len(_WIDE.findall(text))


def _base(code: str) -> str:
    return re.split("[-_]", code.lower(), maxsplit=1)[0]


def other_language(text: str, expected: str) -> str | None:
    """The code of the language of `text` ("other letters" for another script) when it is clearly not `expected`; None
    otherwise.

    Clearly: the text is in another script, or py3langid gives another language a probability of at least 0.6 and the
    expected one, with similar languages, less than 0.05. An expected language that is not known here is not checked."""
    expected = _base(expected)
    if expected in _NAMES and not _in_letters_of(text, expected):
        return "other letters"
    identifier = _identifier()
    if width(text) < _MIN_WIDTH or expected not in _known():
        return None
    accepted = next((close for close in _CLOSE if expected in close), {expected})
    if identifier.classify(text)[0] in accepted:  # usually; faster than ranking all languages
        return None
    ranked: list[tuple[str, float]] = identifier.rank(text)
    likely = sum(probability for code, probability in ranked if code in accepted)
    code, probability = ranked[0]
    return code if code not in accepted and probability >= _SURE and likely < _UNLIKELY else None


def _in_letters_of(text: str, code: str) -> bool:
    own = _LETTERS.get(code, _LATIN)
    if own == _LATIN and text.isascii():
        return True
    letters = sum(letter.isalpha() for letter in text)
    return not own or letters < 5 or len(re.findall(f"[{own}]", text)) >= _FEW * letters


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _known() -> frozenset[str]:
    return frozenset(_identifier().labels)
