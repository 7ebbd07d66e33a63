"""Answers of several people to the same records: one row per answer, several answers in a row, one column or one file
per person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marginalia.pipeline.importing.column_mapping import Mapping as ImportMapping
from marginalia.pipeline.importing.row_labels import labels_of
from marginalia.pipeline.importing.row_paths import FILE, AbsentColumns, cells_of
from marginalia.schemas.errors import InputError
from marginalia.schemas.label_cells import is_blank, listed
from marginalia.schemas.messages import rows_of
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import check_text


@dataclass(frozen=True)
class ImportedAnswer:
    """One person's labels of one record. `person` is the source's name of the person. `judged` is None when the person
    judged all labels."""

    record_id: str
    person: str
    labels: list[str]
    judged: list[str] | None


class AnswerReader:
    """Reads the answers of a mapping with annotators, and counts those that are left out."""

    def __init__(
        self,
        mapping: ImportMapping,
        taxonomy: Taxonomy,
        counts: Counter[str],
        ignored: Counter[str],
        absent: AbsentColumns,
    ) -> None:
        """`counts` and `ignored`: of the Conversion, to which the reader adds. `absent`: of the whole source."""
        assert mapping.labels is not None and mapping.annotators is not None  # the model requires both
        self._labels, self._annotators = mapping.labels, mapping.annotators
        self._columns = {name: self._labels.model_copy(update={"column": name}) for name in self._annotators.columns}
        self._mapping, self._taxonomy = mapping, taxonomy
        self._counts, self._ignored, self._absent = counts, ignored, absent
        self._first: dict[tuple[str, str], tuple[str, ImportedAnswer]] = {}

    def read(
        self, record_id: str, row: Mapping[str, Any], cells: Mapping[str, Any], where: str
    ) -> Iterator[ImportedAnswer]:
        """The answers in a row, whose cells are `cells`. A blank answer, and one with nothing but ignored values, is
        counted and left out.

        Raises InputError, which begins with `where`, for an answer that the mapping does not fit, and for a second one
        of the same person unless the mapping has `duplicates: first`."""
        for answer, place, own_column in self._answers(row, cells, where):
            person = own_column or self._person(answer, place)
            labels = labels_of(self._columns.get(own_column, self._labels), answer, place, self._taxonomy)
            self._ignored.update(labels.ignored)
            self._counts["ignored_values"] += len(labels.ignored)
            self._counts["only_ignored_values"] += labels.only_ignored
            self._counts["unlabelled"] += labels.labels is None
            if labels.labels is None or labels.only_ignored:
                continue
            found = ImportedAnswer(record_id, person, labels.labels, labels.judged)
            if not self._is_repeated(found, place):
                self._counts["partly_labelled"] += labels.partly
                yield found

    def _answers(
        self, row: Mapping[str, Any], cells: Mapping[str, Any], where: str
    ) -> Iterator[tuple[Mapping[str, Any], str, str]]:
        """(cells, location, the person's own column of labels or "") of each answer in the row."""
        if self._columns:
            yield from ((cells, where, column) for column in self._columns)
        else:
            yield from ((answer, place, "") for answer, place in self._items(row, cells, where))

    def _items(
        self, row: Mapping[str, Any], cells: Mapping[str, Any], where: str
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """(cells, location) of each answer in the row."""
        path = self._annotators.items
        if path is None:
            yield ({**cells, FILE: row.get(FILE)} if self._annotators.files else cells), where
            return
        items = cells[path]
        if isinstance(items, dict):  # `datasets` stores a list of answers as a struct of lists
            items = rows_of(items, where, path)
        if not is_blank(items) and (items := listed(items)) is None:
            problem = f"{where}: '{path}' is {str(cells[path])[:80]!r}, expected a list of answers"
            raise InputError(problem, hint="correct annotators.items in the mapping, such as answers[*]")
        for number, item in enumerate(items or []):
            place = f"{where}: {path.removesuffix('[*]')}[{number}]"
            if not isinstance(item, dict):
                problem = f"{place} is {str(item)[:80]!r}, expected an object with the person and the labels"
                raise InputError(problem, hint="correct annotators.items in the mapping, such as answers[*]")
            yield cells_of(self._mapping.answer_paths(), item, place, self._absent), place

    def _person(self, cells: Mapping[str, Any], where: str) -> str:
        column = FILE if self._annotators.files else self._annotators.column
        assert column is not None  # the model requires one of both
        cell = cells[column]
        if isinstance(cell, int) and not isinstance(cell, bool):
            cell = str(cell)
        if not isinstance(cell, str) or not cell.strip():
            problem = f"{where}: '{column}' must name the person, saw {cell!r}"
            raise InputError(problem, hint="fix the row: each answer needs the name or number of who gave it")
        return check_text(cell.strip(), f"{where}: {column}", hint="fix the row")

    def _is_repeated(self, answer: ImportedAnswer, where: str) -> bool:
        """Whether the person has answered the record before; counts or refuses it then."""
        key = (answer.record_id, answer.person)
        if key not in self._first:
            self._first[key] = (where, answer)
            return False
        first_place, first = self._first[key]
        if self._mapping.duplicates == "refuse":
            problem = f"{where}: a second answer of '{answer.person}' to record '{answer.record_id}', first in"
            raise InputError(f"{problem} {first_place}", hint="set duplicates: first in the mapping")
        self._counts["duplicates"] += 1
        self._counts["conflicting_duplicates"] += answer != first
        return True
