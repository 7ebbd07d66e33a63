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

from scoring.calibration import clip
from scoring.intervals import Array, Flags
from scoring.metrics import Measure, Measured

PROBABILITY_METRICS = ("brier", "brier_against_votes", "disagreement", "log_loss", "entropy")
DECISION_METRICS = ("expected_micro_f1", "expected_micro_precision", "expected_micro_recall", "expected_hamming_loss")
ANNOTATOR_METRICS = ("annotator_micro_f1", "annotator_hamming_loss", "annotator_gold_micro_f1")


def against_soft(soft: Array, p: Array, predicted: Flags) -> Measure:
    """Of probabilities `p` (n, L): brier (p - soft)², disagreement soft (1 - soft), their sum brier_against_votes,
    log_loss (nats, clipped) and entropy, the part of it that no forecast can avoid. Of decisions: expected_….

    Per label: brier, disagreement, expected_f1."""
    known = np.isfinite(soft)
    s = np.where(known, soft, 0.0)
    clipped = clip(p)
    guard, spread = known * (p - s) ** 2, s * (1 - s)
    parts = {
        "brier": guard,
        "brier_against_votes": guard + spread,
        "disagreement": spread,
        "log_loss": known * -(s * np.log(clipped) + (1 - s) * np.log1p(-clipped)),
        "entropy": -(_x_log_x(s) + _x_log_x(np.where(known, 1 - s, 1.0))),
    }
    flagged = predicted & known
    cells, hits = known.astype(np.float64), flagged * s
    wrong = known * np.where(predicted, 1 - s, s)

    def measure(weights: Array) -> Measured:
        n, tp, said, true = (weights @ part for part in (cells, hits, flagged.astype(np.float64), s))
        sums = {name: weights @ part for name, part in parts.items()}
        pooled = {name: _ratio(part.sum(1), n.sum(1)) for name, part in sums.items()}
        pooled["expected_micro_f1"] = _ratio(2 * tp.sum(1), said.sum(1) + true.sum(1))
        pooled["expected_micro_precision"] = _ratio(tp.sum(1), said.sum(1))
        pooled["expected_micro_recall"] = _ratio(tp.sum(1), true.sum(1))
        pooled["expected_hamming_loss"] = _ratio((weights @ wrong).sum(1), n.sum(1))
        each = {name: _ratio(sums[name], n) for name in ("brier", "disagreement")}
        return Measured(pooled, {**each, "expected_f1": _ratio(2 * tp, said + true)})

    return measure


def among_annotators(truth: Flags, yes: Array, answers: Array) -> Measure:
    """How annotators do, judged by the same yardstick: one against another (records with two answers or more), and a
    random one against gold (`truth`, in whose making they had a part, so it flatters). Per label: annotator_f1."""
    answered = np.nan_to_num(answers) >= 1
    paired = np.nan_to_num(answers) >= 2
    n, y = np.where(answered, answers, 1.0), np.where(answered, yes, 0.0)
    pairs = np.where(paired, n * (n - 1), 1.0)
    both, differ = paired * y * (y - 1) / pairs, paired * 2 * y * (n - y) / pairs
    share = answered * y / n
    gold = (truth & answered).astype(np.float64)

    def measure(weights: Array) -> Measured:
        agree, apart, cells = weights @ both, weights @ differ, weights @ paired.astype(np.float64)
        hits, said, true = (weights @ part for part in (gold * share, share, gold))
        pooled = {
            "annotator_micro_f1": _ratio(2 * agree.sum(1), (2 * agree + apart).sum(1)),
            "annotator_hamming_loss": _ratio(apart.sum(1), cells.sum(1)),
            "annotator_gold_micro_f1": _ratio(2 * hits.sum(1), (said + true).sum(1)),
        }
        return Measured(pooled, {"annotator_f1": _ratio(2 * agree, 2 * agree + apart)})

    return measure


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
