"""Seeded splits whose shares hold for every label as well as feasible.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011), a label at a time: the rarest label is dealt out first,
each split getting what it still wants of it; records without labels fill up what is left."""

from __future__ import annotations

import hashlib

import numpy as np

from annotation.config import Splits
from annotation.ticks import Bools, Floats, Ints

NAMES = ("train", "calibration", "test")


def assign_splits(ids: list[str], labels: Bools, shares: Splits, seed: int) -> list[str]:
    """The split of each record. `labels` (records x labels); the order of the records changes nothing."""
    wanted = np.array([getattr(shares, name) for name in NAMES])
    places = {identifier: at for at, identifier in enumerate(ids)}
    shuffled = sorted(ids, key=lambda identifier: hashlib.sha256(f"{seed}:{identifier}".encode()).digest())
    order = np.array([places[identifier] for identifier in shuffled], dtype=np.int64)
    split = np.full(len(ids), -1, dtype=np.int64)
    want_labels = wanted[:, None] * labels.sum(axis=0)[None, :]  # splits x labels
    want_all = wanted * len(ids)
    open_counts = labels.sum(axis=0)
    while (open_counts > 0).any():
        label = int(np.argmin(np.where(open_counts > 0, open_counts, np.iinfo(np.int64).max)))
        members = order[labels[order, label] & (split[order] < 0)]
        _deal(members, want_labels[:, label], want_all, wanted > 0, split)
        for at in range(len(NAMES)):
            here = members[split[members] == at]
            want_labels[at] -= labels[here].sum(axis=0)
            want_all[at] -= len(here)
        open_counts = labels[split < 0].sum(axis=0)
    _deal(order[split[order] < 0], want_all, want_all, wanted > 0, split)
    return [NAMES[at] for at in split]


def _deal(members: Ints, want: Floats, tie_break: Floats, allowed: Bools, split: Ints) -> None:
    """Writes the split of `members`: as many to each as it wants, rounded so that all are dealt."""
    want = np.where(allowed, np.maximum(want, 0.0), 0.0)
    if want.sum() <= 0:
        want = np.where(allowed, np.maximum(tie_break, 0.0) + 1e-9, 0.0)
    exact = want / want.sum() * len(members)
    counts = np.floor(exact).astype(np.int64)
    rest = np.where(allowed, exact - counts, -1.0)
    for at in np.lexsort((-tie_break, -np.round(rest, 9)))[: len(members) - int(counts.sum())]:
        counts[at] += 1
    split[members] = np.repeat(np.arange(len(NAMES)), counts)
