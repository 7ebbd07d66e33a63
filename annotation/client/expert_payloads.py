"""What an expert sees of a record that needs a decision: the record, and the votes as counts without names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from marginalia.annotation.client.push_records import payload
from marginalia.schemas.judged_labels import judged_cells
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import one_line

NOTE_SHOWN = 1_000  # characters
UNASKED = "nobody was asked"


def to_adjudicate(gold: pl.DataFrame) -> pl.DataFrame:
    """The gold records that need an expert."""
    return gold.filter(pl.col("status") == "needs_adjudication")


def votes_text(votes: list[dict[str, Any]], answers: pl.DataFrame, taxonomy: Taxonomy) -> str:
    """One line per label that somebody ticked, most votes first, and per label that fewer annotators judged than
    another one; then how many say that none applies, of those who judged all labels; then how many skipped the record;
    then the notes, each on one line and in quotation marks, so that none can look like votes.

    `votes`: the record's votes in gold.parquet; `answers`: its `Answer` rows of the round `annotate`."""
    yes = {vote["label"]: vote["yes"] for vote in votes}
    n = {vote["label"]: vote["n"] for vote in votes}
    most = max(n.values(), default=0)
    listed = [label for label in taxonomy.ids if yes.get(label) or n.get(label, most) < most]
    lines = [
        f"{one_line(taxonomy.label(label).name)}: {f'{yes[label]} of {n[label]}' if n[label] else UNASKED}"
        for label in sorted(listed, key=lambda label: -yes[label])
    ]
    submitted = answers.filter(pl.col("status") == "submitted")
    judges_all = pl.Series(judged_cells(submitted["judged"], taxonomy.ids).all(axis=1), dtype=pl.Boolean)
    complete = submitted.filter(judges_all)
    none_applies = sum(1 for labels in complete["labels"].to_list() if not labels)
    if none_applies:
        asked = most if complete.height == submitted.height else complete.height
        lines.append(f"{one_line(taxonomy.none.name)}: {none_applies} of {asked}")
    skipped = answers.filter(pl.col("status") == "discarded").height
    if skipped:
        lines.append(f"Skipped by {skipped}")
    notes = sorted(one_line(" ".join(note.split())) for note in submitted["note"].to_list() if note)
    lines += [f"Note: {_quoted(note)}" for note in notes if note]
    return "\n".join(lines) or "Nobody answered."


def _quoted(note: str) -> str:
    more = len(note) - NOTE_SHOWN
    return f"“{note}”" if more <= 0 else f"“{note[:NOTE_SHOWN]} …” ({more:,} more characters)"


def adjudication_payloads(gold: pl.DataFrame, answers: pl.DataFrame, taxonomy: Taxonomy) -> Iterator[dict[str, Any]]:
    """The payloads of the records of `gold` (GoldRecord) for the experts' dataset; `answers`: `Answer` rows."""
    by_record = answers.filter(pl.col("round") == "annotate").partition_by("record_id", as_dict=True)
    no_answers = answers.clear()
    for row in gold.select("id", "messages", "votes").iter_rows(named=True):
        text = votes_text(row["votes"], by_record.get((row["id"],), no_answers), taxonomy)
        yield payload(row["id"], row["messages"], votes=text)
