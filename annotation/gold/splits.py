"""Seeded splits whose shares hold for each label as closely as possible. No text is in two splits.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011), one label at a time: the records of the rarest label are
assigned first, to the splits that still need most of it; records without labels fill what is left. All records with the
same text are assigned together: a text in both calibration and test would be judged by what was fitted on it.

A label that only some of the records judge would by chance have few negatives in a split. So the records that judge it
and do not have it are stratified like those of one more label."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from marginalia.annotation.config import Splits
from marginalia.annotation.gold.votes import Bools, Floats, Ints
from marginalia.schemas.judged_labels import judged_cells
from marginalia.schemas.text_equality import same_text

NAMES = ("train", "calibration", "test")


def assign_splits(records: pl.DataFrame, labels: Sequence[str], shares: Splits, seed: int) -> pl.Series:
    """The split of each record of a frame with id, messages, labels (null where they are not settled) and judged.

    Records with settled labels are stratified by them. Another record goes where a settled record with the same text
    is, or to a split by the shares alone. The order of the records does not matter."""
    texts: dict[str, int] = {}
    text_of = np.array(
        [texts.setdefault(same_text(row), len(texts)) for row in records["messages"].to_list()], dtype=np.int64
    )
    settled = records["labels"].is_not_null().to_numpy()
    indicators = [records["labels"].list.contains(label).fill_null(False).to_numpy() for label in labels]
    judged = judged_cells(records["judged"], labels)[settled]
    for at in np.flatnonzero(judged.any(axis=0) & ~judged.all(axis=0)):
        without = np.zeros(len(settled), dtype=np.bool_)
        without[settled] = judged[:, at] & ~indicators[at][settled]
        indicators.append(without)
    counts = np.stack([np.bincount(text_of, weights=column, minlength=len(texts)) for column in indicators], axis=1)
    order = _order(records["id"].to_list(), text_of, len(texts), seed)
    sizes = np.bincount(text_of[settled], minlength=len(texts))
    split = np.full(len(texts), -1, dtype=np.int64)
    _stratify(order[sizes[order] > 0], counts.astype(np.int64), sizes, shares, split)
    _stratify(order[sizes[order] == 0], counts.astype(np.int64), np.bincount(text_of), shares, split)
    return pl.Series("split", [NAMES[at] for at in split[text_of]], dtype=pl.String)


def _order(ids: list[str], text_of: Ints, n_texts: int, seed: int) -> Ints:
    """The texts in a seeded order: by the smallest hash of their records' ids."""
    smallest: list[bytes] = [b""] * n_texts
    for identifier, text in zip(ids, text_of.tolist(), strict=True):
        digest = hashlib.sha256(f"{seed}:{identifier}".encode()).digest()
        smallest[text] = min(smallest[text] or digest, digest)
    return np.array(sorted(range(n_texts), key=smallest.__getitem__), dtype=np.int64)


def _stratify(order: Ints, counts: Ints, sizes: Ints, shares: Splits, split: Ints) -> None:
    """Writes into `split` (texts) the split of the texts in `order`. `counts` (texts x labels): records of the text
    that have the label; `sizes` (texts): records of the text."""
    share = np.array([getattr(shares, name) for name in NAMES])
    open_counts = counts[order].sum(axis=0)
    needed_of_label = share[:, None] * open_counts[None, :]  # splits x labels
    needed = share * sizes[order].sum()
    while (open_counts > 0).any():
        label = int(np.argmin(np.where(open_counts > 0, open_counts, np.iinfo(np.int64).max)))
        members = order[(counts[order, label] > 0) & (split[order] < 0)]
        _assign(members, counts[members, label], needed_of_label[:, label], needed, share > 0, split)
        for at in range(len(NAMES)):
            assigned = members[split[members] == at]
            needed_of_label[at] -= counts[assigned].sum(axis=0)
            needed[at] -= sizes[assigned].sum()
        open_counts = counts[order[split[order] < 0]].sum(axis=0)
    rest = order[split[order] < 0]
    _assign(rest, sizes[rest], needed, needed, share > 0, split)


def _assign(members: Ints, weights: Ints, needed: Floats, tie_break: Floats, allowed: Bools, split: Ints) -> None:
    """Writes into `split` the split of the texts `members`, so that each split gets `weights` in proportion to what it
    needs, rounded to whole records. A text across the border of two splits goes where its middle is."""
    needed = np.where(allowed, np.maximum(needed, 0.0), 0.0)
    if needed.sum() <= 0:
        needed = np.where(allowed, np.maximum(tie_break, 0.0) + 1e-9, 0.0)
    total = int(weights.sum())
    exact = needed / needed.sum() * total
    counts = np.floor(exact).astype(np.int64)
    rest = np.where(allowed, exact - counts, -1.0)
    for at in np.lexsort((-tie_break, -np.round(rest, 9)))[: total - int(counts.sum())]:
        counts[at] += 1
    middles = np.cumsum(weights) - weights / 2
    split[members] = np.searchsorted(np.cumsum(counts), middles, side="right")
