"""Splits a text of label values at a separator that may also be part of a value."""

from __future__ import annotations

from collections.abc import Collection

from marginalia.schemas.errors import InputError


def split_values(text: str, separator: str | None, known: Collection[str], where: str) -> list[str]:
    """The label values in a text. A separator that is part of a known value does not split it.

    Raises InputError when the text can be split into known values in more than one way."""
    if separator is None:
        return [text.strip()]
    pieces = [piece.strip() for piece in text.split(separator)]
    by_pieces = {tuple(part.strip() for part in value.split(separator)): value for value in known if separator in value}
    if not by_pieces:
        return [piece for piece in pieces if piece]
    # ways[end]: in how many ways (0, 1, or 2 for more) the first `end` pieces can be read; starts[end]: where the last
    # value begins in one of them
    ways, starts = [1], [0]
    for end in range(1, len(pieces) + 1):
        lengths = {1, *(len(parts) for parts in by_pieces if tuple(pieces[max(0, end - len(parts)) : end]) == parts)}
        readable = [
            end - n for n in lengths if ways[end - n] and (n > 1 or not pieces[end - 1] or pieces[end - 1] in known)
        ]
        ways.append(min(2, sum(ways[start] for start in readable)))
        starts.append(min(readable, default=0))
    if ways[-1] > 1:
        hint = "use a labels.separator that is not part of a value"
        raise InputError(f"{where}: {text[:80]!r} can be read in more than one way", hint=hint)
    if not ways[-1]:
        parts = {part for value in by_pieces for part in value}
        # unknown values, which the caller refuses
        return [piece for piece in pieces if piece not in known and piece not in parts] or [text.strip()]
    values: list[str] = []
    end = len(pieces)
    while end:
        part = tuple(pieces[starts[end] : end])
        values.append(by_pieces[part] if len(part) > 1 else part[0])
        end = starts[end]
    return [value for value in reversed(values) if value]
