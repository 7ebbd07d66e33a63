"""How probable each label is, given the answers: by counting heads, Dawid-Skene or MACE, label by label (binary
relevance)."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from annotation.ticks import Floats, Ints, Ticks

Method = Literal["majority", "dawid_skene", "mace"]
METHODS: tuple[Method, ...] = ("majority", "dawid_skene", "mace")


def posteriors(ticks: Ticks, method: Method, *, iterations: int = 100, seed: int = 0) -> Floats:
    """The probability of each label for each record with an answer (R x L), in [0, 1].

    majority: the share of answers that carry it. dawid_skene: Dawid & Skene 1979, one confusion matrix per annotator
    and label, fitted by EM. mace: Hovy et al. 2013, an annotator either knows or answers by habit. A label that all
    answers carry, or none, has nothing to fit and gets 1 or 0."""
    if method == "majority" or not ticks.answers:
        return ticks.yes / np.maximum(ticks.counts, 1)[:, None]
    found = np.zeros((len(ticks.records), len(ticks.labels)))
    for at in range(len(ticks.labels)):
        ticked = ticks.ticked[:, at]
        if ticked.all() or not ticked.any():
            found[:, at] = float(ticked[0])
        else:
            fit = _dawid_skene(ticks, at, iterations) if method == "dawid_skene" else _mace(ticks, at, seed)
            found[:, at] = fit
    return np.clip(found, 0.0, 1.0)


def _dawid_skene(ticks: Ticks, at: int, iterations: int) -> Floats:
    from crowdkit.aggregation import DawidSkene

    data = _frame(ticks.record, ticks.annotator, ticks.ticked[:, at].astype(np.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit 1.4 uses arguments that pandas 3 calls outdated
        probabilities = DawidSkene(n_iter=iterations).fit_predict_proba(data)
    return _in_order(probabilities, 1, len(ticks.records))


def _mace(ticks: Ticks, at: int, seed: int) -> Floats:
    from crowdkit.aggregation import MACE

    # crowd-kit 1.4.1 numbers annotators and answers by first appearance in one place and sorts them in another;
    # numbered by first appearance both are the same. Its restarts all begin at the same point: one does.
    annotator = _by_appearance(ticks.annotator)
    ticked = ticks.ticked[:, at].astype(np.int64)
    yes = int(ticked[0] == 0)
    data = _frame(ticks.record, annotator, _by_appearance(ticked))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probabilities = MACE(n_restarts=1, random_state=seed % 2**32).fit_predict_proba(data)
    return _in_order(probabilities, yes, len(ticks.records))


def _frame(task: Ints, worker: Ints, label: Ints) -> Any:
    import pandas as pd

    return pd.DataFrame({"task": task, "worker": worker, "label": label})


def _in_order(probabilities: Any, label: int, records: int) -> Floats:
    column: Floats = probabilities[label].reindex(range(records)).to_numpy(dtype=float)
    return column


def _by_appearance(codes: Ints) -> Ints:
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.ravel()]
