"""Guesses from the columns of a file which of them are the text, the id, the people and the labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from marginalia.pipeline.importing.column_profiles import ColumnProfile, Profiles
from marginalia.pipeline.importing.label_guess import IDENTIFIER, NAMELESS, LabelGuess, guess_labels
from marginalia.schemas.taxonomy import Taxonomy

TEXTS = (
    "text", "prompt", "comment_text", "comment", "message", "content", "body", "question", "instruction", "input",
    "query", "user_input", "tweet", "sentence", "utterance", "post", "review", "document", "conversation",
)  # fmt: skip
PROMPTS = ("prompt", "question", "instruction", "input", "query", "user_input", "user", "human")
RESPONSES = ("response", "answer", "output", "completion", "assistant", "reply", "model_response", "bot")
PERSON = re.compile(
    r"(^|_)(annotator|rater|worker|labell?er|coder|judge|reviewer)(_?(id|name|nr|number))?$|^completed_by$", re.I
)


@dataclass(frozen=True)
class Guess:
    """A column (or path) and why it was chosen."""

    path: str
    why: str


@dataclass
class MappingGuess:
    """A mapping as far as the file shows it. `messages`: (role, column, whether some rows lack it).
    `unique`: columns with one word in each row, another one in every row, whose name does not say that it is an id."""

    text: Guess | None = None
    conversation: Guess | None = None
    messages: list[tuple[str, str, bool]] = field(default_factory=list)
    id: Guess | None = None
    unique: list[str] = field(default_factory=list)
    person: Guess | None = None
    items: str | None = None
    has_a_file_per_person: bool = False
    labels: LabelGuess | None = None


def guess_mapping(profiles: Profiles, taxonomy: Taxonomy | None, files: int = 1) -> MappingGuess:
    """The guess for this number of `files`. Its paths inside the answers of several people are relative to one answer,
    as in a mapping."""
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
    guess.labels = guess_labels(free, rows, taxonomy)
    if guess.text and guess.labels and not guess.person and profiles.is_all and files > 1:
        each_in_all = len(profiles.columns[guess.text.path].distinct) * files == profiles.rows
        guess.has_a_file_per_person = each_in_all
    _guess_id(profiles, guess, files)
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


def _guess_id(profiles: Profiles, guess: MappingGuess, files: int) -> None:
    used = {guess.person.path} if guess.person and guess.items is None else set()
    for path, column in sorted(profiles.columns.items(), key=lambda item: item[0] == NAMELESS):
        scalar = column.form in ("text", "number") and "[*]" not in path and path not in used
        if not (scalar and IDENTIFIER.search(path.split(".")[-1]) and column.filled == profiles.rows):
            continue
        if len(column.distinct) == profiles.rows:
            guess.id = Guess(path, "another one in every row")
            return
        if guess.has_a_file_per_person and len(column.distinct) * files == profiles.rows:
            guess.id = Guess(path, "another one in every row of a file")
            return
        if guess.person and guess.items is None:
            guess.id = Guess(path, f"{len(column.distinct):,} records in {profiles.rows:,} rows")
            return
    texts = {one.path for one in (guess.text, guess.conversation) if one} | {path for _, path, _ in guess.messages}
    guess.unique = [
        path
        for path, column in profiles.columns.items()
        if column.form in ("text", "number") and "[*]" not in path and path not in texts | used
        if column.filled == len(column.distinct) == profiles.rows > 1 and column.are_all_compared
        if not any(re.search(r"\s", value) for value in column.examples)
    ]
