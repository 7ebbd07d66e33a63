"""`import --suggest`: writes a mapping for a file, with what was found in it, what was guessed and why, and lines to
edit where the file does not say enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from marginalia.pipeline.importing.class_labels import class_names
from marginalia.pipeline.importing.column_mapping import EDIT, HUB, JUDGED_COLUMN, unanswered
from marginalia.pipeline.importing.column_profiles import ColumnProfile, Profiles, profiles_of
from marginalia.pipeline.importing.label_guess import LabelGuess
from marginalia.pipeline.importing.label_matching import Match
from marginalia.pipeline.importing.mapping_guess import MappingGuess, guess_mapping
from marginalia.schemas.errors import InputError
from marginalia.schemas.source_rows import SourceFiles, files_of
from marginalia.schemas.sources.file_format import TABLES, Encoding, FileFormat, name_without_format
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import displayable, one_line

MOST_LISTED = 60  # columns
MOST_FEW_VALUES = 20  # of a column that could have labels
_NOT_UTF8 = "is not UTF-8; in Windows-1252"
_ANSI: Encoding = "cp1252"


@dataclass(frozen=True)
class Suggestion:
    """`text`: the mapping file. `files`: the files that were read, `guess`: what was guessed from them."""

    text: str
    files: SourceFiles
    guess: MappingGuess

    @property
    def questions(self) -> list[tuple[int, str]]:
        """(line, key) of each line to edit."""
        return list(unanswered(self.text))


def suggest(sources: Sequence[str], taxonomy: Taxonomy | None) -> Suggestion:
    """The suggestion for files or patterns. `taxonomy`: whose labels the values may mean.

    Raises InputError for files that cannot be read, and without any row."""
    if any(source.startswith(HUB) for source in sources) or not sources:
        raise InputError("--suggest needs files", hint="download the data set, then: marginalia import FILE --suggest")
    paths = [path for source in sources for path in files_of(source, Path())]
    files, profiles, how = _read(paths)
    if not profiles.rows:
        raise InputError(f"{files.name}: contains no rows", hint="nothing can be suggested for it")
    for path in paths:
        profiles.name_classes(class_names(path))
    guess = guess_mapping(profiles, taxonomy, len(paths))
    lines = [*_head(files, profiles, taxonomy), *_body(paths, files, profiles, guess, taxonomy, how)]
    return Suggestion("\n".join(lines) + "\n", files, guess)


def _read(paths: Sequence[Path]) -> tuple[SourceFiles, Profiles, FileFormat]:
    """The files, their profiles, and how they were read."""
    how = FileFormat()
    files = SourceFiles(paths, how)
    try:
        profiles = profiles_of(files)
    except InputError as error:
        if _NOT_UTF8 not in error.message:
            raise
        how = FileFormat(encoding=_ANSI)
        files = SourceFiles(paths, how)
        profiles = profiles_of(files)
    if all(facts.format in TABLES for facts in files.facts) and _first_row_is_data(profiles):
        how = FileFormat(encoding=how.encoding, header=False)
        files = SourceFiles(paths, how)
        profiles = profiles_of(files)
    return files, profiles, how


def _first_row_is_data(profiles: Profiles) -> bool:
    """Whether the names of some columns, but not of all, are values in their own columns."""
    again = [column.path in column.values for column in profiles.columns.values()]
    return any(again) and not all(again)


def _head(files: SourceFiles, profiles: Profiles, taxonomy: Taxonomy | None) -> Iterator[str]:
    yield "# Suggested by marginalia import --suggest. Check what was guessed, and answer each line with EDIT:"
    yield "# the import refuses this mapping until no EDIT is left."
    yield from (_comment(str(facts)) for facts in files.facts)
    rows = f"{'' if profiles.is_all else 'the first '}{profiles.rows:,} rows"
    yield f"# Columns of {rows} (share filled, different values, examples):"
    listed = list(profiles.columns.values())[:MOST_LISTED]
    width = min(max(len(one_line(column.path)) for column in listed), 40)
    for column in listed:
        yield _comment(f"  {one_line(column.path):{width}}  {_described(column, profiles.rows)}")
    if len(profiles.columns) > MOST_LISTED:
        yield f"#   and {len(profiles.columns) - MOST_LISTED:,} more"
    if taxonomy is not None:
        yield _comment(f"Labels of the taxonomy {taxonomy.id}: {', '.join(taxonomy.ids)}")
    else:
        yield "# Without --taxonomy NAME or --run FOLDER, no meaning of label values can be suggested."


def _described(column: ColumnProfile, rows: int) -> str:
    share = f"{column.filled / rows:5.0%}"
    if not column.cells:
        return f"{share}  {column.form}"
    shown = "; ".join(repr(one_line(example)[:40]) for example in column.examples)
    different = f"{'' if column.are_all_compared else 'at least '}{len(column.distinct):,}"
    return f"{share}  {different}  {shown}"


def _body(
    paths: Sequence[Path],
    files: SourceFiles,
    profiles: Profiles,
    guess: MappingGuess,
    taxonomy: Taxonomy | None,
    how: FileFormat,
) -> Iterator[str]:
    title = name_without_format(paths[0]) if len(paths) == 1 else Path(files.name).resolve().name
    yield f"title: {_scalar(title)}"
    yield from _files(files, how)
    if guess.id:
        yield f"id: {_scalar(guess.id.path)}  # {guess.id.why}"
    elif guess.unique:
        columns = ", ".join(guess.unique[:MOST_LISTED])
        yield _comment(
            f"no id, so ids are made from the texts. Another value in every row: {columns}. If that is the id:"
        )
        yield _comment(f"id: {_scalar(guess.unique[0])}")
    else:
        yield "# no id: no column that could be one has another value in every row, so ids are made from the texts"
    yield from _texts(profiles, guess)
    yield from _duplicates(profiles, guess)
    if guess.person and guess.labels is None:
        yield _comment(f"{guess.person.path} could be the annotator: {guess.person.why}; annotators need labels")
    elif guess.has_a_file_per_person:
        yield "annotators:"
        yield f"  files: true  # {len(paths)} files with the same records; if they are not one per person, delete this"
    elif guess.person:
        yield "annotators:"
        yield f"  column: {_scalar(guess.person.path)}  # {guess.person.why}"
        if guess.items:
            yield f"  items: {_scalar(guess.items)}"
    if guess.labels is None:
        yield "# no column looks like labels: the records are imported without them. Otherwise add labels: {column: …}"
        used = [one.path for one in (guess.text, guess.id, guess.person) if one]
        few = [column for path, column in profiles.columns.items() if path not in used and _has_few_values(column)]
        yield from (
            _comment(f"  {column.path} has the values {', '.join(map(one_line, column.values))}") for column in few
        )
        return
    judged = profiles.columns.get(f"{JUDGED_COLUMN}[*]")
    has_judged = judged and taxonomy and guess.items is None and judged.values.keys() <= {*taxonomy.ids}
    yield from _labels(guess.labels, taxonomy)
    if has_judged:
        yield f"  judged: {{column: {JUDGED_COLUMN}}}  # the labels that were judged in each row, as in a release"
    else:
        yield from _judged(guess.labels, taxonomy)


def _has_few_values(column: ColumnProfile) -> bool:
    """Whether a column could have labels: short texts or numbers that occur again and again."""
    return 1 < len(column.values) <= MOST_FEW_VALUES and not column.is_open and column.cells >= 3 * len(column.values)


def _files(files: SourceFiles, how: FileFormat) -> Iterator[str]:
    """The dialect, as far as it is the same in all files."""
    delimiters = {facts.delimiter for facts in files.facts}
    records = {facts.records for facts in files.facts if facts.records}
    stated = []
    if len(delimiters) == 1 and (delimiter := delimiters.pop()) not in (None, ","):
        stated.append(f"  delimiter: {_scalar(delimiter)}")
    if len(records) == 1:
        stated.append(f"  records: {_scalar(records.pop())}")
    if how.encoding is not None:
        stated.append(
            f"  encoding: {EDIT}  # not UTF-8: the examples were read as {how.encoding} (Windows); or: latin-1, cp1250"
        )
    if not how.header:
        stated.append("  header: false  # values of the first row are in the same columns below")
    if stated:
        yield "files:"
        yield from stated


def _texts(profiles: Profiles, guess: MappingGuess) -> Iterator[str]:
    if guess.conversation:
        yield f"messages: {_scalar(guess.conversation.path)}  # {guess.conversation.why}"
    elif guess.messages:
        yield "messages:"
        for role, column, is_optional in guess.messages:
            optional = ", optional: true" if is_optional else ""
            yield f"  - {{role: {role}, column: {_scalar(column)}{optional}}}"
    elif guess.text:
        yield f"text: {_scalar(guess.text.path)}  # {guess.text.why}"
        filled = profiles.columns[guess.text.path].filled
        if filled < profiles.rows:
            yield f"unusable: skip  # {profiles.rows - filled:,} rows have no text"
    else:
        yield f"text: {EDIT}  # which column has the text?"


def _duplicates(profiles: Profiles, guess: MappingGuess) -> Iterator[str]:
    if guess.person and guess.labels is None:
        yield "duplicates: first"
        return
    if guess.id or guess.person or guess.has_a_file_per_person or guess.text is None:
        return
    column = profiles.columns[guess.text.path]
    if column.are_all_compared and (repeated := column.filled - len(column.distinct)):
        yield f"duplicates: first  # {repeated:,} rows repeat a text: the first is imported, the others are counted"


def _labels(labels: LabelGuess, taxonomy: Taxonomy | None) -> Iterator[str]:
    yield "labels:"
    yield _comment(labels.why, indent=2)
    if labels.column is not None:
        yield f"  column: {_scalar(labels.column)}"
        yield f"  form: {labels.form}"
        if labels.separator:
            yield f"  separator: {_scalar(labels.separator)}"
    if labels.needs_threshold:
        yield f"  threshold: {EDIT}  # cells are numbers such as 0.4: from which number on does a label apply?"
    for key, words in (("true", labels.true), ("false", labels.false)):
        if words:
            yield f"  {key}: [{', '.join(map(_scalar, words))}]"
    if labels.is_blank_false:
        yield f"  blank: {EDIT}  # some columns have only true and blank cells: none (it does not apply) or unlabelled?"
    elif labels.blank and labels.column is None:
        yield "  # a blank cell: nobody judged this label in the row. If it means 0: blank: none"
    elif labels.blank and not any(match.is_nothing for match in labels.meanings):
        cells = "1 blank cell" if labels.blank == 1 else f"{labels.blank:,} blank cells"
        yield f"  blank: {EDIT}  # {cells}: none (no category applies) or unlabelled (nobody judged it)?"
    elif labels.blank:
        rows = "1 row is" if labels.blank == 1 else f"{labels.blank:,} rows are"
        yield f"  # {rows} blank: unlabelled. If blank means that no category applies: blank: none"
    if labels.alike:
        problem = f"{', '.join(labels.alike)}: the same values, not read."
        columns = ", ".join(map(_scalar, [*([labels.column] if labels.column else []), *labels.alike]))
        how = f"delete column above and add annotators: {{columns: [{columns}]}} at the end"
        yield _comment(f"{problem} If these are answers of several people, {how}", indent=2)
    yield from _meanings(labels, taxonomy)
    if labels.left_out:
        yield "    # not read, because no label has a similar name; to read one, remove its # and name the label:"
        yield from (_comment(f"{_scalar(path)}: LABEL", indent=4) for path in labels.left_out)


def _judged(labels: LabelGuess, taxonomy: Taxonomy | None) -> Iterator[str]:
    named = {match.label for match in labels.meanings}
    others = [label for label in (taxonomy.ids if taxonomy else []) if label not in named]
    if not others:
        return
    if taxonomy is not None and _are_ids(labels):
        yield f"  judged: [{', '.join(label for label in taxonomy.ids if label in named)}]"
    still = "" if all(match.label or match.is_nothing for match in labels.meanings) else ", unless you name them above"
    yield _comment(f"not named by this file, so not judged{still}: {', '.join(others)}", indent=2)
    yield "  # if people could have chosen these, too: judged: all"


def _meanings(labels: LabelGuess, taxonomy: Taxonomy | None) -> Iterator[str]:
    if labels.column is not None and _are_ids(labels):
        yield "  # the values are ids of the taxonomy"
        return
    yield f"  {'values' if labels.column is not None else 'columns'}:"
    for match in labels.meanings:
        yield f"    {_scalar(match.value)}: {_meaning(match, labels.column is not None)}"


def _meaning(match: Match, is_value: bool) -> str:
    if match.label is not None:
        return match.label
    if match.is_nothing:
        return "null  # guessed from the word: no category applies"
    near = f"nearest: {', '.join(match.near)}; " if match.near else ""
    drop = "or move it to ignore: [..]" if is_value else "or delete the line"
    return f"{EDIT}  # which label? {near}null: it means that nothing applies; {drop}"


def _are_ids(labels: LabelGuess) -> bool:
    return labels.column is not None and all(match.label == match.value for match in labels.meanings)


def _scalar(value: str | None) -> str:
    """A text as YAML on one line."""
    style = None if value is None or value.isprintable() else '"'
    dumped = yaml.safe_dump(value, allow_unicode=True, width=1_000_000, default_style=style)
    return dumped.removesuffix("...\n").strip()


def _comment(text: str, indent: int = 0) -> str:
    return f"{' ' * indent}# {displayable(one_line(text))}"
