"""How often each label was judged and given in a release, for the data set card."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from marginalia.schemas.judged_labels import judged_cells, verdict_judged
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.taxonomy import Taxonomy


@dataclass(frozen=True)
class LabelCountRow:
    """One label, or "none of these" with an empty `id`: records in which it was judged, and those to which it
    applies."""

    id: str
    name: str
    definition: str
    judged: int
    records: int


@dataclass(frozen=True)
class LabelCounts:
    """`partly`: records in which not all labels were judged. `unknown`: those of them without a label, of which nobody
    knows whether any label applies; they do not count as "none of these"."""

    rows: list[LabelCountRow]
    partly: int
    unknown: int


def label_counts(gold: pl.DataFrame, taxonomy: Taxonomy) -> LabelCounts:
    """Counts of a released gold table (GoldRecord; the column `judged` may be missing: all labels were judged)."""
    if "judged" not in gold.columns:
        gold = gold.with_columns(judged=pl.lit(None, dtype=GoldRecord.polars_schema()["judged"]))
    cells = judged_cells(gold["judged"], taxonomy.ids)
    known = verdict_judged(gold, taxonomy.ids)
    rows = [
        LabelCountRow(
            id=label.id,
            name=label.name,
            definition=label.definition,
            judged=int(cells[:, column].sum()),
            records=int(gold["labels"].list.contains(label.id).sum()),
        )
        for column, label in enumerate(taxonomy.labels)
    ]
    without_label = (gold["labels"].list.len() == 0).to_numpy()
    none = taxonomy.none
    safe = LabelCountRow("", none.name, none.definition, int(known.sum()), int((without_label & known).sum()))
    return LabelCounts([*rows, safe], int((~cells.all(axis=1)).sum()), int((~known).sum()))
