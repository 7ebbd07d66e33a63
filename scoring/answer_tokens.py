"""Whether a guard file's answers fit a tokenizer's special (control) tokens.

A model writes a special token as one token that has no bytes. As plain text in `answer`, it would be looked for among
the ordinary tokens, and the guard's real verdict would count as outside the format."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from marginalia.schemas.errors import did_you_mean
from marginalia.scoring.answer_pieces import (
    WHITE_SPACE,
    CodeList,
    Levels,
    Location,
    PieceSpec,
    Space,
    SpecialToken,
    VerdictWord,
    Word,
    list_labels,
    located_pieces,
    rows_of,
)
from marginalia.scoring.guard import Guard
from marginalia.scoring.language.token_language import special_tokens


def answer_tokens(guard: Guard, tokenizer: Any, end_ids: Collection[int]) -> dict[str, int]:
    """Text → id of the tokenizer's special tokens. Raises InputError, with the line of the guard file, when its
    answers name a special token that there is not or that ends answers, or contain the text of one."""
    ids = special_tokens(tokenizer)
    for at, text in _named(guard):
        _check_named(guard, text, at, ids, tokenizer, end_ids)
    # Gemma has tokens for white space among its added tokens; a single character may be any text
    looked_for = [text for text in ids if len(text) > 1 and text.strip(f"{WHITE_SPACE}\u2581")]
    for at, kind, text in _texts(guard):
        found = [special for special in looked_for if special in text]
        if found:
            raise guard.refused(
                f"'answer' has the text {text!r}, but {max(found, key=len)} is a special token of this tokenizer",
                *at,
                hint=_instead(kind, text, max(found, key=len)),
            )
    return ids


def _check_named(
    guard: Guard, text: str, at: Location, ids: dict[str, int], tokenizer: Any, end_ids: Collection[int]
) -> None:
    if text not in ids:
        ordinary = {content.content for content in tokenizer.added_tokens_decoder.values()}
        hint = f"it is an ordinary token: write it as text, {text!r}" if text in ordinary else None
        near = "" if hint else did_you_mean(text, ids)
        problem = f"this tokenizer has no special token '{text}'{near}"
        raise guard.refused(problem, *at, hint=hint or "the tokenizer's special tokens are in its tokenizer.json")
    if ids[text] in end_ids:
        problem = f"the token '{text}' ends this model's answers"
        raise guard.refused(problem, *at, hint="leave it out: an answer ends with the model's end token in any case")


def _named(guard: Guard) -> Iterator[tuple[Location, str]]:
    """The special tokens that the answers name."""
    for at, piece in located_pieces(guard.file.answer):
        if isinstance(piece, SpecialToken):
            yield ("answer", *at, "token"), piece.token
        for number, text in enumerate(piece.levels if isinstance(piece, Levels) else ()):
            if not isinstance(text, str):
                yield ("answer", *at, "levels", number), text.token


def _texts(guard: Guard) -> Iterator[tuple[Location, str, str]]:
    """(keys in the file, kind of piece, text) of every plain text of the answers, and of the codes in their lists."""
    pieces = list(located_pieces(guard.file.answer))
    lists = [piece for _, piece in pieces if isinstance(piece, CodeList)]
    for at, piece in pieces:
        yield from ((("answer", *at, *inside), kind, text) for inside, kind, text in _texts_of(piece))
    in_words = {row for _, piece in pieces if not isinstance(piece, CodeList) for row in rows_of(piece)}
    codes = {category.id: category.code for category in guard.categories} if lists else {}
    for label in dict.fromkeys(label for piece in lists for label in list_labels(piece, lists, codes, in_words)):
        yield ("labels", label) if guard.file.labels is not None else ("codes",), "code", codes[label]


def _texts_of(piece: PieceSpec) -> Iterator[tuple[Location, str, str]]:
    """(keys below the piece, kind, text)."""
    if isinstance(piece, str):
        yield (), "text", piece
    elif isinstance(piece, VerdictWord):
        yield (), "verdict", piece.verdict
    elif isinstance(piece, Word):
        yield (), "word", piece.word
    elif isinstance(piece, Levels):
        yield from ((("levels", n), "level", text) for n, text in enumerate(piece.levels) if isinstance(text, str))
    elif isinstance(piece, CodeList):
        yield from ((("labels", n), "separator", text) for n, text in enumerate(piece.labels))
    elif isinstance(piece, Space):
        yield from ((("space", n), "separator", text) for n, text in enumerate(piece.space))


def _instead(kind: str, text: str, special: str) -> str:
    """What to write in the file instead of the text."""
    rows = {"verdict": ", rows: [unsafe]", "word": ", rows: […]"}.get(kind, "")
    token = f'{{token: "{special}"{rows}}}'
    if kind == "code":
        return f'a list cannot contain it: write the label\'s token as a piece, {{token: "{special}", rows: […]}}'
    if kind == "separator":
        return "a separator cannot contain it"
    before, _, after = text.partition(special)
    parts = [f'"{before}"' if before else "", token, f'"{after}"' if after else ""]
    return "write it as " + ", ".join(part for part in parts if part).replace("\n", "\\n")
