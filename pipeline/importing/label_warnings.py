"""Warnings of an import about labels that are missing or were not judged."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.importing.column_mapping import Mapping
from marginalia.pipeline.importing.row_conversion import Conversion

SHOWN = 10  # labels or columns
JUDGED = "judged"  # the column of gold.parquet and of a release


def label_warnings(result: Conversion, mapping: Mapping, taxonomy_ids: Sequence[str]) -> list[str]:
    """Warnings for labels of people; none for intended labels, which nobody judged."""
    if mapping.labels is None or mapping.labels.kind == "intended":
        return []
    warnings = []
    if (unlabelled := result.counts["unlabelled"]) and mapping.annotators is None:
        are = "is" if unlabelled == 1 else "are"
        warnings.append(
            f"{unlabelled:,} of {len(result.records):,} records {are} not labelled and not counted in any result; if a "
            "blank cell means that no category applies, add blank: none to labels in the mapping"
        )
    if mapping.annotators is not None and (ignored := result.counts["only_ignored_values"]):
        answers = "1 answer names" if ignored == 1 else f"{ignored:,} answers name"
        warnings.append(f"{answers} only values in labels.ignore and {'is' if ignored == 1 else 'are'} left out")
    if result.absent:
        columns = "1 label column is" if len(result.absent) == 1 else f"{len(result.absent):,} label columns are"
        cells = sum(result.absent.values())
        blank = "1 cell, counted as blank" if cells == 1 else f"{cells:,} cells, counted as blank"
        warnings.append(f"{columns} absent from some rows or answers ({blank}): {_shown(list(result.absent))}")
    if mapping.labels.judged is None and JUDGED in result.unread:
        warnings.append(
            f"the mapping does not read the column '{JUDGED}'; if it lists the labels that were judged in each row, as "
            f"in a release, add judged: {{column: {JUDGED}}} to labels in the mapping"
        )
    asked = {*mapping.labels.judged_in(taxonomy_ids)}
    if open_labels := [label for label in taxonomy_ids if label not in asked]:
        names = _shown(open_labels)
        labels = "1 label is" if len(open_labels) == 1 else f"{len(open_labels):,} labels are"
        warnings.append(
            f"{labels} counted as not judged, because nothing in the mapping names them: {names}; if the source judged "
            "them, too, add judged: all to labels in the mapping"
        )
    return warnings


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
