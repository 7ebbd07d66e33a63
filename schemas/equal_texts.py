"""Records whose texts are equal except for case, punctuation and white space, and whether their labels agree."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.text_equality import same_text

SHOWN = 20  # conflicts listed in evaluation.json
JudgedSet = tuple[frozenset[str], frozenset[str] | None]  # a record's labels, and which were judged (None: all)


class LabelConflict(StrictModel):
    """Final records with equal texts and different labels, in the order of gold."""

    ids: list[str]
    labels: list[list[str]] = Field(description="labels of each of these records; empty: no category applies")


class EqualTexts(StrictModel):
    """Counts of equal texts in the gold, and the label conflicts among them."""

    texts: int = Field(description="texts that more than one record has")
    records: int = Field(description="records that have one of these texts")
    conflicting: int = Field(description="texts whose final records have different labels")
    across_splits: int = Field(
        description="texts that are in more than one split; 0 unless an older version made the gold"
    )
    conflicts: list[LabelConflict] = Field(description=f"the first {SHOWN} conflicts")

    @property
    def counts(self) -> dict[str, int]:
        """The counts that are not zero, by their names in a manifest."""
        named = {"records_with_equal_texts": self.records, "texts_labelled_differently": self.conflicting}
        return {name: number for name, number in named.items() if number}

    @property
    def warnings(self) -> list[str]:
        """Sentences that a reader must know before using the labels or numbers computed from them."""
        sentences = []
        if self.conflicting:
            first = self.conflicts[0]
            record_with: dict[str, str] = {}
            for record, labels in zip(first.ids, first.labels, strict=True):
                record_with.setdefault(" + ".join(labels) or "none", record)
            example = ", ".join(f"{record}: {labels}" for labels, record in list(record_with.items())[:3])
            texts_have = "1 text has" if self.conflicting == 1 else f"{self.conflicting:,} texts have"
            sentences.append(f"{texts_have} different labels in different records, first {example}")
        if self.across_splits:
            texts_are = "1 text is" if self.across_splits == 1 else f"{self.across_splits:,} texts are"
            sentences.append(
                f"{texts_are} in more than one split, so fitted maps and thresholds are judged on seen texts"
            )
        return sentences


def equal_texts(gold: pl.DataFrame) -> EqualTexts:
    """Counts equal texts in a frame of GoldRecord rows (the column `judged` may be missing), compared by
    `marginalia.schemas.text_equality.same_text`. Labels conflict where two records differ in a label that was judged in
    both."""
    keys = pl.Series("text", [same_text(messages) for messages in gold["messages"].to_list()], dtype=pl.String)
    judged = pl.col("judged") if "judged" in gold.columns else pl.lit(None, dtype=pl.List(pl.String)).alias("judged")
    frame = gold.select("id", "labels", "split", judged).with_columns(keys)
    repeated = frame.filter(pl.col("text").is_duplicated())
    groups = repeated.group_by("text", maintain_order=True).agg(
        "id",
        "labels",
        "judged",
        pl.col("split").n_unique(),
        partly=pl.col("judged").is_not_null().any(),
        different=pl.col("labels").list.sort().drop_nulls().n_unique() > 1,
    )
    conflicts = groups.filter("different").select("id", "labels", "judged", "partly")
    if conflicts["partly"].any():
        conflicts = conflicts.filter(pl.Series([bool(_conflict(*row).ids) for row in conflicts.iter_rows()]))
    shown = [_conflict(*row) for row in conflicts.head(SHOWN).iter_rows()]
    return EqualTexts(
        texts=groups.height,
        records=repeated.height,
        conflicting=conflicts.height,
        across_splits=groups.filter(pl.col("split") > 1).height,
        conflicts=shown,
    )


def _conflict(
    ids: list[str], label_sets: list[list[str] | None], judged_sets: list[list[str] | None], partly: bool
) -> LabelConflict:
    """The labelled records of equal texts; if some are partly judged, those that differ from another one."""
    sets = [
        (record, labels, frozenset(labels), None if judged is None else frozenset(judged))
        for record, labels, judged in zip(ids, label_sets, judged_sets, strict=True)
        if labels is not None
    ]
    if partly:
        distinct = {(labels, judged) for _, _, labels, judged in sets}
        differing = {one for one in distinct if any(_differ(one, other) for other in distinct)}
        sets = [row for row in sets if row[2:] in differing]
    return LabelConflict(ids=[row[0] for row in sets], labels=[row[1] for row in sets])


def _differ(one: JudgedSet, other: JudgedSet) -> bool:
    """Whether a label that was judged in both applies to only one."""
    judged = [labels for labels in (one[1], other[1]) if labels is not None]
    return bool((one[0] ^ other[0]).intersection(*judged))
