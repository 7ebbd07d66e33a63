"""Argilla's filters and sort orders as SQL over its own tables.

Argilla has already checked that the questions and metadata properties exist. Values are unchecked, and always strings,
also for numbers. A value that no record can have matches nothing; a filter that makes no sense raises
UnprocessableEntityError, which Argilla turns into HTTP 422.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from uuid import UUID

from argilla_server.enums import RecordStatus, ResponseStatus, ResponseStatusFilter, SuggestionType
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Question, Record, Response, Suggestion
from argilla_server.search_engine.base import (
    AndFilter,
    Filter,
    MetadataFilterScope,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)
from sqlalchemy import ColumnElement, String, and_, cast, exists, func, or_, select, true
from sqlalchemy.orm import aliased

_ENUMS = {"status": RecordStatus, "type": SuggestionType}


def condition(filter: Filter) -> ColumnElement[bool]:
    """`filter` as a SQL condition on Record."""
    if isinstance(filter, AndFilter):
        return and_(true(), *(condition(part) for part in filter.filters))
    if isinstance(filter.scope, RecordFilterScope):
        return _column_matches(getattr(Record, filter.scope.property), filter)
    if isinstance(filter.scope, MetadataFilterScope):
        return _document_matches(Record.metadata_, (filter.scope.metadata_property,), filter)
    if isinstance(filter.scope, SuggestionFilterScope):
        return _suggestion_matches(filter.scope, filter)
    if filter.scope.question:
        return _responses(filter.scope, lambda response: _answer_matches(response, filter))
    return _response_status_is(filter)


def sort_keys(order: Order) -> list[ColumnElement]:
    """The ORDER BY expressions of `order`. Records without a value come last, in either direction."""
    scope = order.scope
    if isinstance(scope, RecordFilterScope):
        key = getattr(Record, scope.property)
    elif isinstance(scope, MetadataFilterScope):
        key = func.sort_key_at(Record.metadata_, _path(scope.metadata_property))
    elif isinstance(scope, SuggestionFilterScope):
        suggestion = aliased(Suggestion)
        value = getattr(suggestion, _property(scope))
        in_document = _property(scope) in ("value", "score")
        key = (
            select(func.sort_key_at(value, _path()) if in_document else cast(value, String))
            .join(Question, Question.id == suggestion.question_id)
            .where(suggestion.record_id == Record.id, Question.name == scope.question)
            .scalar_subquery()
        )
    else:
        response = aliased(Response)
        answer = func.sort_key_at(response.values, _path(scope.question, "value"))
        number = func.number_at(response.values, _path(scope.question, "value"))
        mean_or_largest = func.coalesce(func.avg(number), func.max(answer))
        key = (
            select(mean_or_largest if scope.question else func.max(cast(response.status, String)))
            .where(response.record_id == Record.id, _of_user(response, scope))
            .scalar_subquery()
        )
    return [(key.desc() if order.order == "desc" else key.asc()).nulls_last()]


def number_at(column: ColumnElement, *keys: str) -> ColumnElement:
    """The number under the path `keys` of a JSON column; NULL when there is none."""
    return func.number_at(column, _path(*keys))


def term_counts(documents: Iterable[dict | None], name: str) -> Counter[str]:
    """How often each value occurs under `name`; of a list, each item is counted."""
    values = [(document or {}).get(name) for document in documents]
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return Counter(str(item) for item in items if item is not None)


def _column_matches(column: ColumnElement, filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
    """A filter on a plain column. Only values of the column's own type may reach the database driver."""
    if isinstance(filter, TermsFilter):
        values = [_converted(column.key, value) for value in filter.values]
        return column.in_([value for value in values if value is not None])
    if column.key not in ("inserted_at", "updated_at", "external_id"):
        raise UnprocessableEntityError(f"`{column.key}` cannot be filtered by a range; use terms.")
    bounds = [_converted(column.key, bound) for bound in (filter.ge, filter.le)]
    if any(value is None and bound is not None for value, bound in zip(bounds, (filter.ge, filter.le), strict=True)):
        raise UnprocessableEntityError(
            f"The range {filter.ge!r} to {filter.le!r} does not have the type of `{column.key}`."
        )
    return _between(column, *bounds)


def _converted(column: str, value: object) -> object:
    """`value` converted to the type of the column, or None when that is not possible."""
    text = str(value)
    try:
        if column == "id":
            return UUID(text)
        if column in _ENUMS:
            return _ENUMS[column](text)
        if column in ("inserted_at", "updated_at"):
            moment = datetime.fromisoformat(text)  # stored in UTC, without a zone
            return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
    return None if value is None else text


def _document_matches(
    column: ColumnElement, keys: tuple[str, ...], filter: TermsFilter | RangeFilter
) -> ColumnElement[bool]:
    """A filter on the value under the path `keys` of a JSON column."""
    if isinstance(filter, TermsFilter):
        return func.has_term(column, _path(*keys), json.dumps(filter.values)) == 1
    return _between(func.number_at(column, _path(*keys)), _number(filter.ge), _number(filter.le))


def _suggestion_matches(scope: SuggestionFilterScope, filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
    suggestion = aliased(Suggestion)
    column = getattr(suggestion, _property(scope))
    if _property(scope) in ("agent", "type"):
        matches = _column_matches(column, filter)
    else:
        matches = _document_matches(column, (), filter)
    return exists(
        select(suggestion.id)
        .join(Question, Question.id == suggestion.question_id)
        .where(suggestion.record_id == Record.id, Question.name == scope.question, matches)
    )


def _answer_matches(response: type[Response], filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
    return _document_matches(response.values, (filter.scope.question, "value"), filter)


def _response_status_is(filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
    """A filter on the status of responses. Argilla's `pending` is not stored: it means that the user has no response
    (or, without a user, that nobody has)."""
    if not isinstance(filter, TermsFilter) or filter.scope.property != "status":
        raise UnprocessableEntityError("Responses can be filtered by a question, or by terms of their `status`.")
    statuses = [ResponseStatus(value) for value in filter.values if value in list(ResponseStatus)]
    answered = _responses(filter.scope, lambda response: response.status.in_(statuses))
    if ResponseStatusFilter.pending in filter.values:
        return or_(answered, ~_responses(filter.scope, lambda response: true()))
    return answered


def _responses(
    scope: ResponseFilterScope, matches: Callable[[type[Response]], ColumnElement[bool]]
) -> ColumnElement[bool]:
    """Whether the record has a response (of the scope's user, if it names one) that `matches`."""
    response = aliased(Response)
    return exists(
        select(response.id).where(response.record_id == Record.id, _of_user(response, scope), matches(response))
    )


def _of_user(response: type[Response], scope: ResponseFilterScope) -> ColumnElement[bool]:
    return response.user_id == scope.user.id if scope.user else true()


def _property(scope: SuggestionFilterScope) -> str:
    """The suggestion's property. Argilla passes it as a string, also when it is None, which means the value."""
    return "value" if scope.property in (None, "None") else str(scope.property)


def _between(value: ColumnElement, smallest: object, largest: object) -> ColumnElement[bool]:
    bounds = [value >= smallest] if smallest is not None else []
    return and_(true(), *bounds, *([value <= largest] if largest is not None else []))


def _number(bound: float | str | None) -> float | None:
    try:
        number = None if bound is None else float(bound)
    except ValueError:
        number = math.nan
    if number is not None and math.isnan(number):
        raise UnprocessableEntityError(f"The bound {bound!r} of a range is not a number.")
    return number


def _path(*keys: str | None) -> str:
    return json.dumps(keys)
