"""Seeded splits whose shares hold for every label as well as feasible, and which no text crosses.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011), a label at a time: the rarest label is dealt out first,
each split getting what it still wants of it; texts without labels fill up what is left. What is dealt out is a text
with all records that have it: one in both calibration and test would be judged by what was fitted on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from marginalia.annotation.config import Splits
from marginalia.annotation.gold.answer_arrays import Bools, Floats, Ints
from marginalia.schemas.text_equality import same_text

NAMES = ("train", "calibration", "test")


def assign_splits(records: pl.DataFrame, labels: Sequence[str], shares: Splits, seed: int) -> pl.Series:
    """The split of each record of a frame with id, messages and labels (null where they are not settled).

    Records with settled labels are stratified by them; the others follow a settled record of the same text or are
    only dealt out. The order of the records changes nothing."""
    texts: dict[str, int] = {}
    text_of = np.array(
        [texts.setdefault(same_text(row), len(texts)) for row in records["messages"].to_list()], dtype=np.int64
    )
    settled = records["labels"].is_not_null().to_numpy()
    carried = [records["labels"].list.contains(label).fill_null(False).to_numpy() for label in labels]
    counts = np.stack([np.bincount(text_of, weights=each, minlength=len(texts)) for each in carried], axis=1)
    order = _order(records["id"].to_list(), text_of, len(texts), seed)
    sizes = np.bincount(text_of[settled], minlength=len(texts))
    split = np.full(len(texts), -1, dtype=np.int64)
    _stratify(order[sizes[order] > 0], counts.astype(np.int64), sizes, shares, split)
    _stratify(order[sizes[order] == 0], counts.astype(np.int64), np.bincount(text_of), shares, split)
    return pl.Series("split", [NAMES[at] for at in split[text_of]], dtype=pl.String)


def _order(ids: list[str], text_of: Ints, n_texts: int, seed: int) -> Ints:
    """The texts in a seeded order: that of the hashes of their records' ids, for each text the first of them."""
    first: list[bytes] = [b""] * n_texts
    for identifier, text in zip(ids, text_of.tolist(), strict=True):
        digest = hashlib.sha256(f"{seed}:{identifier}".encode()).digest()
        first[text] = min(first[text] or digest, digest)
    return np.array(sorted(range(n_texts), key=first.__getitem__), dtype=np.int64)


def _stratify(order: Ints, counts: Ints, sizes: Ints, shares: Splits, split: Ints) -> None:
    """Writes the split of the texts in `order`. `counts`: (texts, labels), records of the text that carry the label;
    `sizes`: (texts,), records of the text."""
    wanted = np.array([getattr(shares, name) for name in NAMES])
    open_counts = counts[order].sum(axis=0)
    want_labels = wanted[:, None] * open_counts[None, :]  # splits x labels
    want_all = wanted * sizes[order].sum()
    while (open_counts > 0).any():
        label = int(np.argmin(np.where(open_counts > 0, open_counts, np.iinfo(np.int64).max)))
        members = order[(counts[order, label] > 0) & (split[order] < 0)]
        _deal(members, counts[members, label], want_labels[:, label], want_all, wanted > 0, split)
        for at in range(len(NAMES)):
            here = members[split[members] == at]
            want_labels[at] -= counts[here].sum(axis=0)
            want_all[at] -= sizes[here].sum()
        open_counts = counts[order[split[order] < 0]].sum(axis=0)
    rest = order[split[order] < 0]
    _deal(rest, sizes[rest], want_all, want_all, wanted > 0, split)


def _deal(members: Ints, weights: Ints, want: Floats, tie_break: Floats, allowed: Bools, split: Ints) -> None:
    """Writes the split of `members`: to each split as much weight as it wants, rounded so that all are dealt. A member
    that lies across the border of two splits goes where its middle is."""
    want = np.where(allowed, np.maximum(want, 0.0), 0.0)
    if want.sum() <= 0:
        want = np.where(allowed, np.maximum(tie_break, 0.0) + 1e-9, 0.0)
    total = int(weights.sum())
    exact = want / want.sum() * total
    counts = np.floor(exact).astype(np.int64)
    rest = np.where(allowed, exact - counts, -1.0)
    for at in np.lexsort((-tie_break, -np.round(rest, 9)))[: total - int(counts.sum())]:
        counts[at] += 1
    middles = np.cumsum(weights) - weights / 2
    split[members] = np.searchsorted(np.cumsum(counts), middles, side="right")
