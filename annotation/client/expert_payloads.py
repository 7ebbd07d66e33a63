"""What an expert sees of a record that needs a decision: the record, and how people voted, as counts without names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from marginalia.annotation.client.push_records import payload
from marginalia.schemas.taxonomy import Taxonomy


def to_adjudicate(gold: pl.DataFrame) -> pl.DataFrame:
    """The gold records that need an expert."""
    return gold.filter(pl.col("status") == "needs_adjudication")


def votes_text(votes: list[dict[str, Any]], answers: pl.DataFrame, taxonomy: Taxonomy) -> str:
    """One line a label that anybody ticked, most votes first, then who skipped, then the notes.

    `answers` are the record's rows of annotations.parquet in the round `annotate`."""
    counts = {vote["label"]: vote["yes"] for vote in votes}
    n = max((vote["n"] for vote in votes), default=0)
    ticked = sorted((label for label in taxonomy.ids if counts.get(label)), key=lambda label: -counts[label])
    lines = [f"{taxonomy.label(label).name}: {counts[label]} of {n}" for label in ticked]
    given = answers.filter(pl.col("status") == "submitted")
    none = sum(1 for labels in given["labels"].to_list() if not labels)
    if none:
        lines.append(f"{taxonomy.none.name}: {none} of {n}")
    skipped = answers.filter(pl.col("status") == "discarded").height
    if skipped:
        lines.append(f"Skipped by {skipped}")
    lines += [f"Note: {note}" for note in sorted(note for note in given["note"].to_list() if note)]
    return "\n".join(lines) or "Nobody answered."


def adjudication_payloads(gold: pl.DataFrame, answers: pl.DataFrame, taxonomy: Taxonomy) -> Iterator[dict[str, Any]]:
    """What is pushed to the experts' dataset for each record of `gold`."""
    crowd = answers.filter(pl.col("round") == "annotate").partition_by("record_id", as_dict=True)
    nothing = answers.clear()
    for row in gold.select("id", "messages", "votes").iter_rows(named=True):
        text = votes_text(row["votes"], crowd.get((row["id"],), nothing), taxonomy)
        yield payload(row["id"], row["messages"], votes=text)
