"""Searches over a scripted model: a function gives the next-token probabilities after each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from marginalia.scoring.language.answer_language import AnswerLanguage, LabelList, Text
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import Limits, NextTokens, Search
from tests.scoring.tiny import END

Script = Callable[[bytes], dict[bytes | None, float]]


def token_language(codes: Sequence[str], *separators: bytes) -> TokenLanguage:
    """safe | unsafe\\n codes, over single bytes; None in a script is the end of the answer."""
    unsafe = (Text(b"unsafe", len(codes)), Text(b"\n"), LabelList(separators or (b",",)))
    language = AnswerLanguage(codes, [(Text(b"safe"),), unsafe])
    return TokenLanguage(language, {byte: bytes([byte]) for byte in range(256)}, [END])


def run(language: TokenLanguage, script: Script, limits: Limits) -> Search:
    """A finished search; `script` maps the bytes so far to the probabilities of single next bytes (None: the end)."""
    search = Search(language, limits)
    while nodes := search.ask():
        for node in nodes:
            search.tell(node, _answer(language, node, script(language.text(node.path()))))
    return search


def _answer(language: TokenLanguage, node, probabilities: dict[bytes | None, float]) -> NextTokens:
    by_id = {END if text is None else text[0]: value for text, value in probabilities.items()}
    ids = language.moves(node.state).ids if node.state is not None else []
    with np.errstate(divide="ignore"):
        allowed = np.log(np.array([by_id.get(int(token), 0.0) for token in ids], dtype=float))
    top = max(by_id, key=by_id.__getitem__)
    return NextTokens(allowed, top, float(np.log(by_id[top])))


def always(answer: bytes) -> Script:
    """A model that gives this answer with certainty."""

    def script(so_far: bytes) -> dict[bytes | None, float]:
        assert answer.startswith(so_far)
        return {answer[len(so_far) : len(so_far) + 1] or None: 1.0}

    return script


def run_ids(language: TokenLanguage, ids: Sequence[int], limits: Limits) -> Search:
    """The finished search of a model that writes these token ids with certainty."""
    search = Search(language, limits)
    while nodes := search.ask():
        for node in nodes:
            following = ids[node.depth]
            allowed = language.moves(node.state).ids if node.state is not None else np.array([])
            logarithms = np.where(allowed == following, 0.0, -np.inf)
            search.tell(node, NextTokens(logarithms, following, 0.0))
    return search
