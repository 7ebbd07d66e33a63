"""The search box: what its text means, and the condition it puts on records."""

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

# A sign, then a phrase in quotes or a word. A quote without its partner is a part of a word.
_PIECE = re.compile(r'([-+]?)(?:"([^"]*)"|(\S+))')


def parse(text: str) -> tuple[list[str], list[str]]:
    """The phrases that a record must hold, and those that it must not: `bomb "how to" -film`.

    Words are joined by AND; `+` says nothing new; no other character has a meaning, so that `%`, `_`, `*` or a lone
    quote are looked for as they stand. The phrases are folded as the text is that they are compared with.
    """
    wanted: list[str] = []
    unwanted: list[str] = []
    for sign, phrase, word in _PIECE.findall(text):
        folded = fold(phrase or word)
        if folded:
            (unwanted if sign == "-" else wanted).append(folded)
    return wanted, unwanted


async def condition(session: AsyncSession, dataset: Dataset, query: TextQuery | str) -> ColumnElement[bool]:
    """The condition on Record that its fields (or the one that the query names) match."""
    asked = TextQuery(q=query) if isinstance(query, str) else query
    if len(asked.q) > LONGEST_QUERY:
        raise UnprocessableEntityError(f"The search text has {len(asked.q)} characters; {LONGEST_QUERY} are the most.")
    wanted, unwanted = parse(asked.q)
    fields = await session.scalars(select(Field).where(Field.dataset_id == dataset.id))
    names = [field.name for field in fields if not field.is_image and asked.field in (None, field.name)]
    # JSON leaves only ASCII in the SQL parameter, also of NUL and lone surrogates.
    return func.has_text(Record.fields, json.dumps({"fields": names, "wanted": wanted, "unwanted": unwanted})) == 1
