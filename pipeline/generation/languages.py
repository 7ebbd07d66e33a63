"""Names of languages for prompts, and whether a text is plainly in another one than asked for."""

from __future__ import annotations

from functools import cache
from typing import Any

# ISO 639-1; a code that is not here is shown as it is
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
# varieties that a short text does not tell apart
_CLOSE = (
    {"no", "nn", "da"}, {"zh", "yue", "wuu"}, {"hr", "sr", "bs"}, {"id", "ms"}, {"en", "pcm"}, {"gl", "pt"},
    {"tl", "bcl"},
)  # fmt: skip
_MIN_CHARACTERS = 20  # below that the identifier guesses
_SURE, _UNLIKELY = 0.6, 0.05


def language_name(code: str) -> str:
    """`German` for `de`."""
    return _NAMES.get(code, code)


def other_language(text: str, expected: str) -> str | None:
    """The language (code) that `text` is in when that is plainly not `expected`, else None.

    Plainly: py3langid gives another language at least 0.6 and the expected one, with its close varieties, less than
    0.05. A language that it does not know is never doubted."""
    identifier = _identifier()
    if len(text) < _MIN_CHARACTERS or expected not in identifier.labels:
        return None
    accepted = next((close for close in _CLOSE if expected in close), {expected})
    if identifier.classify(text)[0] in accepted:  # nearly always, and quicker than all ranks
        return None
    ranked: list[tuple[str, float]] = identifier.rank(text)
    likely = sum(probability for code, probability in ranked if code in accepted)
    code, probability = ranked[0]
    return code if code not in accepted and probability >= _SURE and likely < _UNLIKELY else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
