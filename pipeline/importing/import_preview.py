"""What an import would do, without writing anything: counts, labels, and some records as they would be imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_summary import warning_lines
from marginalia.pipeline.importing.hub_source import SNAPSHOT
from marginalia.pipeline.importing.import_source import ImportSource, open_source
from marginalia.pipeline.importing.import_stage import resolve
from marginalia.pipeline.importing.label_warnings import label_warnings
from marginalia.pipeline.importing.row_answers import ImportedAnswer
from marginalia.pipeline.importing.row_conversion import Conversion, ImportedRecord, convert
from marginalia.schemas.errors import InputError
from marginalia.schemas.progress import progress
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.terminal import PIPED_WIDTH, fitted, table, terminal_width, wrapped

EXAMPLES = 5
TEXT_LINES = 3  # of each message of an example
INDENT, NAME_WIDTH = 3, 11  # columns before a text: "attribute" and a gap
NO_LABEL = "no label applies"
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


@dataclass(frozen=True)
class ImportPreview:
    """What an import would do. `str()` is the text for the terminal, with some records as they would be imported;
    `data` has the counts and warnings for `--json`."""

    source: ImportSource
    taxonomy: Taxonomy
    result: Conversion

    @property
    def data(self) -> dict[str, Any]:
        """The files, the counts of rows and records, those of each label, and the warnings."""
        return {
            "files": [str(facts) for facts in self.source.files.facts],
            "counts": dict(self.result.counts),
            "labels": [
                {"label": count.label, "applies": count.applies, "judged": count.judged}
                for count in _label_counts(self.result, self.taxonomy.ids)
            ],
            "warnings": self._warnings,
        }

    @property
    def _warnings(self) -> list[str]:
        return label_warnings(self.result, self.source.mapping, self.taxonomy.ids)

    def __str__(self) -> str:
        labels = _label_counts(self.result, self.taxonomy.ids)
        rows = [(count.label or NO_LABEL, f"{count.applies:,}", f"{count.judged:,}") for count in labels]
        blocks = [
            wrapped("\n".join(str(facts) for facts in self.source.files.facts)),
            table([], [("rows", f"{self.result.counts['rows']:,}"), *_counts(self.result)], indent=0),
            table(["label", "applies", "judged"], rows, indent=0) if rows else "",
            *map("\n".join, examples(self.result, self.taxonomy.ids)),
            wrapped("\n".join(warning_lines(self._warnings))),
        ]
        return "\n\n".join(filter(None, blocks))


@dataclass(frozen=True)
class _LabelCount:
    """In how many records (or answers) a label applies, of how many in which it was judged. `label` None: no label
    applies, of those in which this is known."""

    label: str | None
    applies: int
    judged: int


def preview(run: Run, source: Sequence[str], mapping: str | None) -> ImportPreview:
    """What the import would do. `source`, `mapping`: as for `resolve`.

    Raises InputError as the import would, and for a data set on the Hub that has not been downloaded."""
    _, loaded, has_source = resolve(run, source, mapping)
    if loaded.repository is not None and not (has_source and run.path(SNAPSHOT).exists()):
        hint = "import it without --preview, which downloads it; then look at it with --preview"
        raise InputError(f"{loaded.sources[0]} has not been downloaded yet", hint=hint)
    opened = open_source(run, loaded)
    rows = progress(opened.rows(), what="preview", unit="row")
    return ImportPreview(opened, run.taxonomy, convert(rows, opened.mapping, run.taxonomy, opened.name))


def _counts(result: Conversion) -> Iterator[tuple[str, str]]:
    for name, shown in _COUNTS.items():
        if result.counts[name]:
            yield shown, f"{result.counts[name]:,}"


def _label_counts(result: Conversion, labels: Sequence[str]) -> list[_LabelCount]:
    """One per label, then one for no label; empty when nothing is labelled. Whether no label applies is not known where
    a label was not judged."""
    labelled: list[ImportedRecord | ImportedAnswer] = [*(result.answers or result.records)]
    labelled = [item for item in labelled if item.labels is not None]
    if not labelled:
        return []
    applies = Counter(label for item in labelled for label in item.labels or [])
    judged = Counter(label for item in labelled for label in (labels if item.judged is None else item.judged))
    none = sum(not item.labels and _are_all(item.judged, labels) for item in labelled)
    known = none + sum(bool(item.labels) for item in labelled)
    return [*(_LabelCount(label, applies[label], judged[label]) for label in labels), _LabelCount(None, none, known)]


def examples(result: Conversion, labels: Sequence[str]) -> Iterator[list[str]]:
    """The lines of each of EXAMPLES records from the first to the last. `labels`: the taxonomy's ids."""
    width = terminal_width() or PIPED_WIDTH
    records = result.records
    last = len(records) - 1
    chosen = sorted({round(at * last / (EXAMPLES - 1)) for at in range(EXAMPLES)})
    for at in chosen:
        record = records[at]
        fields = [
            (name if not number else "", line)
            for name, text in _example(record, result.answers, labels)
            for number, line in enumerate(fitted(text, width - INDENT - NAME_WIDTH, TEXT_LINES) or [""])
        ]
        yield [*fitted(f"{at + 1}. {record.id}", width, 1), table([], fields, indent=INDENT)]


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
