"""Guesses which columns of a file have its labels, in which form, and what their values mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from marginalia.pipeline.importing.column_profiles import ColumnProfile
from marginalia.pipeline.importing.flag_cells import WORDS
from marginalia.pipeline.importing.label_matching import Match, match_label
from marginalia.schemas.taxonomy import Taxonomy

NAMELESS = "column_1"  # the index that pandas writes
IDENTIFIER = re.compile(
    rf"(?i:(^|[_\W])(id|uid|uuid|guid|key|idx|index|nr|number)$|[_\W](no|num)$|^{NAMELESS}$)|[a-z](I[Dd]|No|Nr|Number|Key)$"
)
LABELS = re.compile(r"label|category|categories|class|tag|topic|violat|toxic|harm|hazard|type|verdict", re.I)
SEPARATORS = (";", "|", ",", "/")
CODE = re.compile(r"[A-Za-z]{1,3}\d{1,3}")
# words for true and false that an import knows only if the mapping names them
FURTHER_WORDS = {
    "true": ("x", "wahr", "ja", "oui", "vrai", "si", "sí", "verdadero", "sim", "verdadeiro", "vero", "waar"),
    "false": ("falsch", "nein", "non", "faux", "falso", "não", "nao", "onwaar", "nee"),
}
MOST_LABELS = 100
MOST_LABEL_CHARACTERS = 60  # on average


@dataclass
class LabelGuess:
    """Where the labels are. `meanings`: value or column → what it means. Columns that mean none of the taxonomy's
    labels are in `left_out`. `needs_threshold`: the cells are numbers other than 0 and 1. `true`, `false`: further
    words in the cells. `is_blank_false`: some column has no other cells than true and blank ones.
    `alike`: other columns with the values of `column`."""

    why: str
    column: str | None = None
    form: str = "list"
    separator: str | None = None
    meanings: list[Match] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    needs_threshold: bool = False
    true: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    blank: int = 0
    is_blank_false: bool = False
    alike: list[str] = field(default_factory=list)


def guess_labels(columns: Sequence[ColumnProfile], rows: int, taxonomy: Taxonomy | None) -> LabelGuess | None:
    """The labels, from the columns that are not used otherwise; `rows` have them. None if no column looks like
    labels."""
    flags = _flags(columns, rows, taxonomy)
    lists = {column.path: rows - column.filled for column in columns if column.form == "list"}
    ranked = [found for column in columns if (found := _values(column, rows, lists, taxonomy)) is not None]
    best = max(ranked, key=lambda found: found[0], default=None)
    matched = sum(match.label is not None for match in flags.meanings) if flags else 0
    if flags and (best is None or matched >= 2 or (matched and best[0] < 2)):
        return flags
    if best:
        best[1].alike = _alike(best[1], columns)
    return best[1] if best else flags


def _alike(guess: LabelGuess, columns: Sequence[ColumnProfile]) -> list[str]:
    values = next(({*column.values} for column in columns if column.path == guess.column), set())
    others = [column for column in columns if column.path != guess.column and not column.is_open]
    return [column.path for column in others if len(values) > 1 and {*column.values} == values]


def _flags(columns: Sequence[ColumnProfile], rows: int, taxonomy: Taxonomy | None) -> LabelGuess | None:
    """The columns of 0 and 1, or of scores, one per label."""
    found = [column for column in columns if "[*]" not in column.path and _is_flag(column, taxonomy)]
    found = [column for column in found if not _is_named_label(column)]
    if not found:
        return None
    matches = {column.path: match_label(_last(column.path), taxonomy) for column in found}
    meant = [path for path, match in matches.items() if match.label or match.near or match.is_nothing]
    meant = meant or list(matches)
    read = [column for column in found if column.path in meant]
    seen = {value.lower() for column in read for value in column.values}
    return LabelGuess(
        why=f"{'1 column' if len(read) == 1 else f'{len(read)} columns'} of 0 and 1, or of scores",
        meanings=[_renamed(matches[path], path) for path in meant],
        left_out=[path for path in matches if path not in meant],
        needs_threshold=any(not _are_words(column.values) for column in read),
        true=[word for word in FURTHER_WORDS["true"] if word in seen],
        false=[word for word in FURTHER_WORDS["false"] if word in seen],
        blank=sum(column.filled < rows for column in read),
        is_blank_false=any(_is_ticked(column) and column.filled < rows for column in read),
    )


def _renamed(match: Match, path: str) -> Match:
    return Match(path, match.label, match.near, match.is_nothing)


def _is_flag(column: ColumnProfile, taxonomy: Taxonomy | None) -> bool:
    if column.form in ("list", "object") or not column.cells:
        return False
    if not column.is_open and _are_words(column.values):
        return True
    numbers = [_number(value) for value in column.values]
    if any(number is None for number in numbers):
        return False
    if all(number is not None and 0 <= number <= 1 for number in numbers):
        return True
    return match_label(_last(column.path), taxonomy).label is not None


def _is_ticked(column: ColumnProfile) -> bool:
    """Whether every cell that is filled is true."""
    return {value.lower().removesuffix(".0") for value in column.values} <= {*WORDS["true"], *FURTHER_WORDS["true"]}


def _are_words(values: Counter[str]) -> bool:
    known = {*WORDS["true"], *WORDS["false"], *FURTHER_WORDS["true"], *FURTHER_WORDS["false"]}
    return {value.lower().removesuffix(".0") for value in values} <= known


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _is_named_label(column: ColumnProfile) -> bool:
    """Whether a column of 0 and 1 is called `label` or the like: then its name is not the name of a label."""
    return re.fullmatch(r"(label|class|category|target|y|verdict)s?", _last(column.path), re.I) is not None


def _values(
    column: ColumnProfile, rows: int, lists: Mapping[str, int], taxonomy: Taxonomy | None
) -> tuple[float, LabelGuess] | None:
    """How well the values of a column fit as labels, and the guess; None if they are not labels. `lists`: the columns
    with lists → in how many rows they are blank."""
    if not _can_be_labels(column):
        return None
    separator = _separator(column) if "[*]" not in column.path else None
    values = Counter[str]()
    for value, count in column.values.items():
        for part in value.split(separator) if separator else [value]:
            if part.strip():
                values[part.strip()] += count
    if not values or len(values) > MOST_LABELS or len(values) > max(3, 0.5 * sum(values.values())):
        return None
    matches = [match_label(value, taxonomy) for value, _ in values.most_common()]
    total = sum(values.values())
    known = sum(values[match.value] for match in matches if match.label) / total
    similar = sum(values[match.value] for match in matches if match.near or match.is_nothing) / total
    named = LABELS.search(column.path) is not None
    if not (known or similar or named):
        return None
    is_list, base = column.path.endswith("[*]"), column.path.removesuffix("[*]")
    guess = LabelGuess(
        why=("1 value" if len(values) == 1 else f"{len(values)} different values")
        + (", by its name" if named else "")
        + (f", {known:.0%} known" if known else ""),
        column=base if is_list and "[*]" not in base else column.path,
        form="list" if "[*]" in column.path else "text",
        separator=separator,
        meanings=matches,
        blank=lists.get(column.path.removesuffix("[*]"), 0) if "[*]" in column.path else rows - column.filled,
    )
    return 2.0 * known + 0.5 * similar + named + 0.5 * is_list, guess


def _can_be_labels(column: ColumnProfile) -> bool:
    if column.is_open or column.form in ("list", "object", "blank") or not column.cells:
        return False
    if column.mean_characters > MOST_LABEL_CHARACTERS or IDENTIFIER.search(_last(column.path)):
        return False
    if _are_words(column.values) and not _is_named_label(column):
        return False  # a flag, whose name is what it means
    counts = column.values.values()
    if "[*]" in column.path and len(counts) > 1 and all(count == column.filled for count in counts):
        return False  # the same list in every row: what could be chosen
    return all((_number(value) or 0.0).is_integer() for value in column.values)  # others are scores


def _separator(column: ColumnProfile) -> str | None:
    """The character between several labels in one text: most parts also occur alone or in other texts."""
    for separator in SEPARATORS:
        joined = [value for value in column.values if separator in value]
        parts = Counter(part.strip() for value in column.values for part in value.split(separator) if part.strip())
        again = sum(parts[part.strip()] > 1 for value in joined for part in value.split(separator))
        if joined and again >= 0.5 * sum(len(value.split(separator)) for value in joined):
            return separator
        if joined and all(CODE.fullmatch(part) for part in parts):
            return separator
    return None


def _last(path: str) -> str:
    return path.rpartition(".")[2]
