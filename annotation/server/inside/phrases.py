"""The text of the search box as a SQL condition on records."""

import json
import re

from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Dataset, Field, Record
from argilla_server.search_engine.base import TextQuery
from documents import fold
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement

LONGEST_QUERY = 10_000  # characters

# A sign, then a phrase in quotes or a word. A single quotation mark is part of a word.
_PIECE = re.compile(r'([-+]?)(?:"([^"]*)"|(\S+))')


def parse(text: str) -> tuple[list[str], list[str]]:
    """The phrases that a record must contain, and those that it must not: `bomb "how to" -film`.

    Words are joined by AND, with or without `+`. No other character has a meaning: `%`, `_`, `*` or a single quotation
    mark are searched literally. The phrases are folded like the texts they are compared with (see `documents.fold`).
    """
    required: list[str] = []
    excluded: list[str] = []
    for sign, phrase, word in _PIECE.findall(text):
        folded = fold(phrase or word)
        if folded:
            (excluded if sign == "-" else required).append(folded)
    return required, excluded


async def condition(session: AsyncSession, dataset: Dataset, query: TextQuery | str) -> ColumnElement[bool]:
    """The condition that the record's fields (or the one that the query names) match."""
    text_query = TextQuery(q=query) if isinstance(query, str) else query
    if len(text_query.q) > LONGEST_QUERY:
        raise UnprocessableEntityError(
            f"The search text has {len(text_query.q):,} characters; the limit is {LONGEST_QUERY:,}."
        )
    required, excluded = parse(text_query.q)
    fields = await session.scalars(select(Field).where(Field.dataset_id == dataset.id))
    names = [field.name for field in fields if not field.is_image and text_query.field in (None, field.name)]
    # json.dumps escapes everything but ASCII: SQLite would not accept NUL or a lone surrogate in a parameter.
    return func.has_text(Record.fields, json.dumps({"fields": names, "required": required, "excluded": excluded})) == 1
