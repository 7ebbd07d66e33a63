"""What an import would do, without writing anything: counts, labels, and some records as they would be imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_summary import warning_lines
from marginalia.pipeline.importing.hub_source import SNAPSHOT
from marginalia.pipeline.importing.import_source import ImportSource, open_source
from marginalia.pipeline.importing.import_stage import resolve
from marginalia.pipeline.importing.label_warnings import label_warnings
from marginalia.pipeline.importing.row_answers import ImportedAnswer
from marginalia.pipeline.importing.row_conversion import Conversion, ImportedRecord, convert
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.terminal import fitted, table

EXAMPLES = 5
TEXT_LINES = 3  # of each message of an example
_INDENT = 3
_NAME_WIDTH = 11
_COUNTS = {
    "records": "records",
    "answers": "answers of annotators",
    "skipped": "left out: values in skip",
    "unusable": "left out: no usable text",
    "duplicates": "left out: the same id or text as before",
    "conflicting_duplicates": "  of these, with other labels",
    "only_ignored_values": "left out: only values in labels.ignore",
    "unlabelled": "without labels",
    "partly_labelled": "some labels not judged",
    "ignored_values": "ignored label values",
    "stripped": "texts with white space removed",
}


def preview(run: Run, source: Sequence[str], mapping: str | None, width: int) -> str:
    """The text of `import --preview`, in lines of at most `width` characters. `source`, `mapping`: as for `resolve`.

    Raises InputError as the import would, and for a data set on the Hub that has not been downloaded."""
    _, loaded, has_source = resolve(run, source, mapping)
    if loaded.repository is not None and not (has_source and run.path(SNAPSHOT).exists()):
        hint = "import it without --preview, which downloads it; then look at it with --preview"
        raise InputError(f"{loaded.sources[0]} has not been downloaded yet", hint=hint)
    return preview_of(open_source(run, loaded), run.taxonomy, width)


def preview_of(source: ImportSource, taxonomy: Taxonomy, width: int) -> str:
    """The same for an opened source."""
    result = convert(source.rows(), source.mapping, taxonomy, source.name)
    blocks = [
        _cut([str(facts) for facts in source.files.facts], width),
        _cut(table([("rows", f"{result.counts['rows']:,}"), *_counts(result)]), width),
        _cut(table(_label_rows(result, taxonomy.ids)), width),
        *examples(result, taxonomy.ids, width),
        _cut(warning_lines(label_warnings(result, source.mapping, taxonomy.ids)), width),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _counts(result: Conversion) -> Iterator[tuple[str, str]]:
    for name, shown in _COUNTS.items():
        if result.counts[name]:
            yield shown, f"{result.counts[name]:,}"


def _label_rows(result: Conversion, labels: Sequence[str]) -> list[tuple[str, ...]]:
    """A header, and for each label in how many records (or answers) it applies and was judged. The last row counts
    those to which no label applies, of all for which this is known: with labels that were not judged it is not."""
    labelled: list[ImportedRecord | ImportedAnswer] = [*(result.answers or result.records)]
    labelled = [item for item in labelled if item.labels is not None]
    if not labelled:
        return []
    applies = Counter(label for item in labelled for label in item.labels or [])
    judged = Counter(label for item in labelled for label in (labels if item.judged is None else item.judged))
    none = sum(not item.labels and _are_all(item.judged, labels) for item in labelled)
    known = none + sum(bool(item.labels) for item in labelled)
    rows = [(label, f"{applies[label]:,}", f"{judged[label]:,}") for label in labels]
    return [("label", "applies", "judged"), *rows, ("no label applies", f"{none:,}", f"{known:,}")]


def examples(result: Conversion, labels: Sequence[str], width: int) -> Iterator[list[str]]:
    """The lines of each of EXAMPLES records from the first to the last. `labels`: the taxonomy's ids."""
    records = result.records
    last = len(records) - 1
    chosen = sorted({round(at * last / (EXAMPLES - 1)) for at in range(EXAMPLES)})
    for at in chosen:
        record = records[at]
        lines = list(_fields(_example(record, result.answers, labels), width))
        yield [*fitted(f"{at + 1}. {record.id}", width, 1), *lines]


def _example(
    record: ImportedRecord, answers: Iterable[ImportedAnswer], labels: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """(name, text) of everything that is imported of a record."""
    for message in record.messages:
        yield message["role"], message["content"]
    of_record = [answer for answer in answers if answer.record_id == record.id]
    for answer in of_record:
        yield "answer", _labels(answer.labels, answer.judged, labels) + f" ({answer.person})"
    if not of_record:
        yield "labels", _labels(record.labels, record.judged, labels)
    for attribute in record.attributes:
        yield "attribute", f"{attribute['name']}: {attribute['value']}"


def _labels(applying: Sequence[str] | None, judged: Sequence[str] | None, labels: Sequence[str]) -> str:
    if applying is None:
        return "not labelled"
    if judged is None or _are_all(judged, labels):
        return ", ".join(applying) or "none applies"
    named = ", ".join(applying) or "none of the judged ones"
    return f"{named}; judged {len(judged)} of {len(labels)}: {', '.join(judged)}"


def _are_all(judged: Sequence[str] | None, labels: Sequence[str]) -> bool:
    return judged is None or len(judged) == len(labels)


def _fields(fields: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    for name, text in fields:
        lines = fitted(text, width - _INDENT - _NAME_WIDTH, TEXT_LINES)
        for number, line in enumerate(lines or [""]):
            yield " " * _INDENT + (name if not number else "").ljust(_NAME_WIDTH) + line


def _cut(lines: Iterable[str], width: int) -> list[str]:
    """Lines that may be too long for the terminal; the further parts of each are indented."""
    cut = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        parts = fitted(line, width - len(indent) - 4, len(line))
        cut += [indent + ("    " if number else "") + part for number, part in enumerate(parts)]
    return cut
