"""Guesses from the columns of a file which of them are the text, the id, the people and the labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from marginalia.pipeline.importing.column_profiles import ColumnProfile, Profiles
from marginalia.pipeline.importing.flag_cells import WORDS
from marginalia.pipeline.importing.label_matching import Match, match_label
from marginalia.schemas.taxonomy import Taxonomy

TEXTS = (
    "text", "prompt", "comment_text", "comment", "message", "content", "body", "question", "instruction", "input",
    "query", "user_input", "tweet", "sentence", "utterance", "post", "review", "document", "conversation",
)  # fmt: skip
PROMPTS = ("prompt", "question", "instruction", "input", "query", "user_input", "user", "human")
RESPONSES = ("response", "answer", "output", "completion", "assistant", "reply", "model_response", "bot")
NAMELESS = "column_1"  # the index that pandas writes
PERSON = re.compile(r"(^|_)(annotator|rater|worker|labell?er|coder|judge|reviewer)(_?(id|name|nr|number))?$", re.I)
IDENTIFIER = re.compile(rf"(^|_)(id|uid|uuid|key|idx|index|nr|number)$|^{NAMELESS}$", re.I)
LABELS = re.compile(r"label|categor|class|tag|topic|violat|toxic|harm|hazard|type|verdict", re.I)
SEPARATORS = (";", "|", ",", "/")
MOST_LABELS = 100
MOST_LABEL_CHARACTERS = 60  # on average


@dataclass(frozen=True)
class Guess:
    """A column (or path) and why it was chosen."""

    path: str
    why: str


@dataclass
class LabelGuess:
    """Where the labels are. `meanings`: value or column → what it means. Columns that mean none of the taxonomy's
    labels are in `left_out`. `needs_threshold`: the cells are numbers other than 0 and 1."""

    why: str
    column: str | None = None
    form: str = "list"
    separator: str | None = None
    meanings: list[Match] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    needs_threshold: bool = False
    blank: int = 0


@dataclass
class MappingGuess:
    """A mapping as far as the file shows it. `messages`: (role, column, whether some rows lack it)."""

    text: Guess | None = None
    conversation: Guess | None = None
    messages: list[tuple[str, str, bool]] = field(default_factory=list)
    id: Guess | None = None
    person: Guess | None = None
    items: str | None = None
    labels: LabelGuess | None = None


def guess_mapping(profiles: Profiles, taxonomy: Taxonomy | None) -> MappingGuess:
    """The guess. Its paths inside the answers of several people are relative to one answer, as in a mapping."""
    guess = MappingGuess()
    _guess_people(profiles, guess)
    _guess_texts(profiles, guess)
    inside = f"{guess.items}." if guess.items else ""
    # labels of nested answers are inside them
    columns = [_relative(column, inside) for column in profiles.columns.values() if column.path.startswith(inside)]
    texts = [path for _, path, _ in guess.messages] + [one.path for one in (guess.text, guess.conversation) if one]
    used = {*texts, *([guess.person.path] if guess.person else [])}
    free = [
        column
        for column in columns
        if column.path not in used and not any(column.path.startswith(f"{path}[") for path in texts)
    ]
    rows = sum(column.filled for column in profiles.columns.values() if column.path == guess.items) or profiles.rows
    guess.labels = _guess_labels(free, rows, taxonomy)
    _guess_id(profiles, guess)
    return guess


def _relative(column: ColumnProfile, inside: str) -> ColumnProfile:
    if not inside:
        return column
    copy = ColumnProfile(**vars(column))
    copy.path = column.path.removeprefix(inside)
    return copy


def _guess_people(profiles: Profiles, guess: MappingGuess) -> None:
    for path, column in profiles.columns.items():
        name = re.split(r"[.\]]", path)[-1]
        if not PERSON.search(name) or column.form in ("list", "object") or len(column.distinct) < 2:
            continue
        before, star, key = path.rpartition("[*].")
        if star and "[*]" not in before:
            guess.items = f"{before}[*]"
            guess.person = Guess(key, f"each item of {before} has one person's answer")
            return
        if not star and len(column.distinct) < profiles.rows:
            guess.person = Guess(path, f"{len(column.distinct):,} people in {profiles.rows:,} rows")
            return


def _guess_texts(profiles: Profiles, guess: MappingGuess) -> None:
    for path in profiles.columns:
        keys = {column.path.removeprefix(f"{path}[*].") for column in profiles.under(path)}
        if {"role", "content"} <= keys or {"from", "value"} <= keys:
            guess.conversation = Guess(path, "a list of messages with their speakers")
            return
    texts = [column for column in profiles.columns.values() if column.form == "text" and "[*]" not in column.path]
    by_name = {column.path.lower(): column for column in texts}
    prompt = next((by_name[name] for name in PROMPTS if name in by_name), None)
    response = next((by_name[name] for name in RESPONSES if name in by_name), None)
    if prompt and response:
        found = (("user", prompt), ("assistant", response))
        guess.messages = [(role, column.path, column.filled < profiles.rows) for role, column in found]
        return
    named = next((by_name[name] for name in TEXTS if name in by_name), None)
    if named is not None:
        guess.text = Guess(named.path, "by its name")
    elif texts:
        longest = max(texts, key=lambda column: column.mean_characters)
        guess.text = Guess(longest.path, f"the longest texts, {longest.mean_characters:,.0f} characters on average")


def _guess_id(profiles: Profiles, guess: MappingGuess) -> None:
    used = {guess.person.path} if guess.person and guess.items is None else set()
    for path, column in sorted(profiles.columns.items(), key=lambda item: item[0] == NAMELESS):
        scalar = column.form in ("text", "number") and "[*]" not in path and path not in used
        if not (scalar and IDENTIFIER.search(path.split(".")[-1]) and column.filled == profiles.rows):
            continue
        if len(column.distinct) == profiles.rows:
            guess.id = Guess(path, "another one in every row")
            return
        if guess.person and guess.items is None:
            guess.id = Guess(path, f"{len(column.distinct):,} records in {profiles.rows:,} rows")
            return


def _guess_labels(columns: Sequence[ColumnProfile], rows: int, taxonomy: Taxonomy | None) -> LabelGuess | None:
    flags = _flags(columns, rows, taxonomy)
    ranked = [found for column in columns if (found := _values(column, rows, taxonomy)) is not None]
    best = max(ranked, key=lambda found: found[0], default=None)
    matched = sum(match.label is not None for match in flags.meanings) if flags else 0
    if flags and (best is None or matched >= 2 or (matched and best[0] < 2)):
        return flags
    return best[1] if best else flags


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
    return LabelGuess(
        why=f"{'1 column' if len(read) == 1 else f'{len(read)} columns'} of 0 and 1, or of scores",
        meanings=[_renamed(matches[path], path) for path in meant],
        left_out=[path for path in matches if path not in meant],
        needs_threshold=any(not _are_words(column.values) for column in read),
        blank=sum(column.filled < rows for column in read),
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
    is_share = all(number is not None and 0 <= number <= 1 for number in numbers)
    return match_label(_last(column.path), taxonomy).label is not None or (is_share and taxonomy is None)


def _are_words(values: Counter[str]) -> bool:
    return {value.lower().removesuffix(".0") for value in values} <= {*WORDS["true"], *WORDS["false"]}


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _is_named_label(column: ColumnProfile) -> bool:
    """Whether a column of 0 and 1 is called `label` or the like: then its name is not the name of a label."""
    return re.fullmatch(r"(label|class|category|target|y|verdict)s?", _last(column.path), re.I) is not None


def _values(column: ColumnProfile, rows: int, taxonomy: Taxonomy | None) -> tuple[float, LabelGuess] | None:
    """How well the values of a column fit as labels, and the guess; None if they are not labels."""
    if column.is_open or column.form in ("list", "object", "blank") or not column.cells:
        return None
    if column.mean_characters > MOST_LABEL_CHARACTERS or IDENTIFIER.search(_last(column.path)):
        return None
    if _are_words(column.values) and not _is_named_label(column):
        return None  # a flag, whose name is what it means
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
    is_list = column.path.endswith("[*]")
    guess = LabelGuess(
        why=("1 value" if len(values) == 1 else f"{len(values)} different values")
        + (", by its name" if named else "")
        + (f", {known:.0%} known" if known else ""),
        column=column.path.removesuffix("[*]") if is_list else column.path,
        form="list" if "[*]" in column.path else "text",
        separator=separator,
        meanings=matches,
        blank=0 if "[*]" in column.path else rows - column.filled,
    )
    return 2.0 * known + 0.5 * similar + named + 0.5 * is_list, guess


def _separator(column: ColumnProfile) -> str | None:
    """The character between several labels in one text: most parts also occur alone or in other texts."""
    for separator in SEPARATORS:
        joined = [value for value in column.values if separator in value]
        parts = Counter(part.strip() for value in column.values for part in value.split(separator) if part.strip())
        again = sum(parts[part.strip()] > 1 for value in joined for part in value.split(separator))
        if joined and again >= 0.5 * sum(len(value.split(separator)) for value in joined):
            return separator
    return None


def _last(path: str) -> str:
    return path.rpartition(".")[2]
