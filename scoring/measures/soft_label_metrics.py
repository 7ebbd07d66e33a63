"""Metrics against soft labels, and how much of the error is the annotators' own disagreement.

Shapes: `soft` (n records, L labels) the probability that an annotator gives the label, NaN where it is not known;
`yes` and `answers` (n, L): how many gave it, of how many; NaN or 0 where nobody answered. Everything is a ratio of sums
over records, so that resamples (weights (b, n)) are matrix products.

Expected counts against an annotator drawn at random: tp = Σ predicted · soft, fp = Σ predicted · (1 - soft),
fn = Σ (1 - predicted) · soft. Against another annotator of the same record, pairs without replacement: both say yes in
y (y - 1) of n (n - 1) ordered pairs, they differ in 2 y (n - y) of them. That is the noise ceiling: no guard agrees
with single annotators better than they with each other, unless it knows which of them it is compared with."""

from __future__ import annotations

import numpy as np

from marginalia.scoring.measures.calibration import clip
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.metrics import Measure, Measured


def against_soft(soft: Array, p: Array, predicted: Flags) -> Measure:
    """Of probabilities `p` (n, L): brier (p - soft)², disagreement soft (1 - soft), their sum brier_against_votes,
    log_loss (nats, clipped) and entropy, the part of it that no forecast can avoid. Of decisions: expected_…."""
    known = np.isfinite(soft)
    s = np.where(known, soft, 0.0)
    clipped = clip(p)
    flagged = predicted & known
    brier, spread = known * (p - s) ** 2, s * (1 - s)
    means = {
        "brier": brier,
        "brier_against_votes": brier + spread,
        "disagreement": spread,
        "log_loss": known * -(s * np.log(clipped) + (1 - s) * np.log1p(-clipped)),
        "entropy": -(_x_log_x(s) + _x_log_x(np.where(known, 1 - s, 1.0))),
        "expected_hamming_loss": known * np.where(predicted, 1 - s, s),
    }
    records = np.column_stack([part.sum(1) for part in (known, flagged * s, flagged, s, *means.values())])

    def measure(weights: Array) -> Measured:
        n, tp, said, true, *sums = (weights @ records).T
        pooled = {name: _ratio(total, n) for name, total in zip(means, sums, strict=True)}
        pooled["expected_micro_f1"] = _ratio(2 * tp, said + true)
        pooled["expected_micro_precision"] = _ratio(tp, said)
        pooled["expected_micro_recall"] = _ratio(tp, true)
        return Measured(pooled, {})

    return measure


def among_annotators(truth: Flags, yes: Array, answers: Array) -> Measure:
    """How annotators do, judged by the same yardstick: one against another (records with two answers or more), and a
    random one against gold (`truth`, in whose making they had a part, so it flatters)."""
    answered, both, differ, paired = _pairs(yes, answers)
    share = np.where(answered, yes, 0.0) / np.where(answered, answers, 1.0)
    gold = truth & answered
    records = np.column_stack([part.sum(1) for part in (both, differ, paired, gold * share, share, gold)])

    def measure(weights: Array) -> Measured:
        agree, apart, cells, hits, said, true = (weights @ records).T
        pooled = {
            "annotator_micro_f1": _ratio(2 * agree, 2 * agree + apart),
            "annotator_hamming_loss": _ratio(apart, cells),
            "annotator_gold_micro_f1": _ratio(2 * hits, said + true),
        }
        return Measured(pooled, {})

    return measure


def by_label(soft: Array, p: Array, predicted: Flags, yes: Array, answers: Array) -> dict[str, Array]:
    """Metric → (L,): brier, disagreement, expected_f1 (the guard against a random annotator), annotator_f1."""
    known = np.isfinite(soft)
    s, n = np.where(known, soft, 0.0), known.sum(0)
    flagged = predicted & known
    _, both, differ, _ = _pairs(yes, answers)
    agree = 2 * both.sum(0)
    return {
        "brier": _ratio((known * (p - s) ** 2).sum(0), n),
        "disagreement": _ratio((s * (1 - s)).sum(0), n),
        "expected_f1": _ratio(2 * (flagged * s).sum(0), flagged.sum(0) + s.sum(0)),
        "annotator_f1": _ratio(agree, agree + differ.sum(0)),
    }


def _pairs(yes: Array, answers: Array) -> tuple[Flags, Array, Array, Flags]:
    """(anybody answered, share of pairs of annotators that both say yes, share that differ, two answered), (n, L)."""
    known = np.nan_to_num(answers)
    answered, paired = known >= 1, known >= 2
    n, y = np.where(paired, known, 2.0), np.where(paired, yes, 0.0)
    pairs = n * (n - 1)
    return answered, y * (y - 1) / pairs * paired, paired * 2 * y * (n - y) / pairs, paired


def gap(measure: Measure) -> Measure:
    """The same with `f1_below_annotators`: annotator_micro_f1 less expected_micro_f1, paired."""

    def measured(weights: Array) -> Measured:
        found = measure(weights)
        below = found.pooled["annotator_micro_f1"] - found.pooled["expected_micro_f1"]
        return Measured({**found.pooled, "f1_below_annotators": below}, found.labels)

    return measured


def _x_log_x(x: Array) -> Array:
    return x * np.log(np.where(x > 0, x, 1.0))


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)
