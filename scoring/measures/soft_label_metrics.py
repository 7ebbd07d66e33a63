"""Metrics against soft labels, and which part of the error is disagreement among annotators.

Shapes: `soft` (n records, L labels): the probability that an annotator assigns the label, NaN where unknown; `yes` and
`answers` (n, L): how many annotators assigned it, of how many; NaN or 0 where nobody answered. Every metric is a ratio
of sums over records, so resamples (weights (b, n)) are matrix products.

Expected counts against a random annotator: tp = Σ predicted · soft, fp = Σ predicted · (1 − soft), fn = Σ (1 −
predicted) · soft. Annotators against each other, in pairs from the same record without replacement: with y of n
annotators, both assign the label in y (y − 1) of n (n − 1) ordered pairs, and they differ in 2 y (n − y). This is the
noise ceiling: no guard agrees with single annotators better than they agree with each other, unless it knows whom it is
compared with."""

from __future__ import annotations

import numpy as np

from marginalia.scoring.measures.calibration import clip
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.metrics import Measure, Measured


def against_soft(soft: Array, p: Array, predicted: Flags) -> Measure:
    """A measure of probabilities `p` (n, L) and of decisions `predicted` (n, L) against soft labels.

    Means over the cells whose soft label s is known: brier (p − s)², disagreement s (1 − s), their sum
    brier_against_votes, log_loss (nats, p clipped), entropy (nats; the part of the log loss that no forecast can
    avoid). Of the decisions against a random annotator: expected_hamming_loss, expected_micro_f1, …_precision,
    …_recall."""
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
        n, tp, flags, true, *sums = (weights @ records).T
        pooled = {name: _ratio(total, n) for name, total in zip(means, sums, strict=True)}
        pooled["expected_micro_f1"] = _ratio(2 * tp, flags + true)
        pooled["expected_micro_precision"] = _ratio(tp, flags)
        pooled["expected_micro_recall"] = _ratio(tp, true)
        return Measured(pooled, {})

    return measure


def among_annotators(truth: Flags, yes: Array, answers: Array) -> Measure:
    """A measure of annotators with the same metrics: one against another (cells with at least two answers), and a
    random one against gold `truth`. The latter is optimistic: the annotators' labels were used to build the gold."""
    answered, both, differ, paired = _pairs(yes, answers)
    share = np.where(answered, yes, 0.0) / np.where(answered, answers, 1.0)
    gold = truth & answered
    records = np.column_stack([part.sum(1) for part in (both, differ, paired, gold * share, share, gold)])

    def measure(weights: Array) -> Measured:
        agreed, differed, cells, hits, assigned, true = (weights @ records).T
        pooled = {
            "annotator_micro_f1": _ratio(2 * agreed, 2 * agreed + differed),
            "annotator_hamming_loss": _ratio(differed, cells),
            "annotator_gold_micro_f1": _ratio(2 * hits, assigned + true),
        }
        return Measured(pooled, {})

    return measure


def by_label(soft: Array, p: Array, predicted: Flags, yes: Array, answers: Array) -> dict[str, Array]:
    """Metric → (L,): brier, disagreement, expected_f1 (guard against a random annotator), annotator_f1 (one annotator
    against another)."""
    known = np.isfinite(soft)
    s, n = np.where(known, soft, 0.0), known.sum(0)
    flagged = predicted & known
    _, both, differ, _ = _pairs(yes, answers)
    agreed = 2 * both.sum(0)
    return {
        "brier": _ratio((known * (p - s) ** 2).sum(0), n),
        "disagreement": _ratio((s * (1 - s)).sum(0), n),
        "expected_f1": _ratio(2 * (flagged * s).sum(0), flagged.sum(0) + s.sum(0)),
        "annotator_f1": _ratio(agreed, agreed + differ.sum(0)),
    }


def _pairs(yes: Array, answers: Array) -> tuple[Flags, Array, Array, Flags]:
    """(at least one answer, share of annotator pairs that both assign the label, share of pairs that differ, at least
    two answers), each (n, L)."""
    counts = np.nan_to_num(answers)
    answered, paired = counts >= 1, counts >= 2
    n, y = np.where(paired, counts, 2.0), np.where(paired, yes, 0.0)
    pairs = n * (n - 1)
    return answered, y * (y - 1) / pairs * paired, paired * 2 * y * (n - y) / pairs, paired


def gap(measure: Measure) -> Measure:
    """The same measure with f1_below_annotators = annotator_micro_f1 − expected_micro_f1 added."""

    def with_gap(weights: Array) -> Measured:
        measured = measure(weights)
        below = measured.pooled["annotator_micro_f1"] - measured.pooled["expected_micro_f1"]
        return Measured({**measured.pooled, "f1_below_annotators": below}, measured.labels)

    return with_gap


def _x_log_x(x: Array) -> Array:
    return x * np.log(np.where(x > 0, x, 1.0))


def _ratio(numerator: Array, denominator: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
