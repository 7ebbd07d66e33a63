"""Recomputes evaluation.json of partly judged gold with plain loops, scikit-learn and scipy.

It shares no code with the project's measures. A cell that was not judged is never put into a list, so no code below
needs to know about masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import special
from sklearn import metrics as reference
from sklearn.isotonic import IsotonicRegression

from marginalia.schemas.calibration_json import Beta, CalibrationMap, Identity, Isotonic, Platt

NAN = float("nan")
CONFIDENCE = 0.95
Values = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """One judged label of one record."""

    record: str
    label: str
    true: bool
    p: float


@dataclass(frozen=True)
class Scored:
    """A final record with an estimator's probabilities. `known`: the truth of each judged label that the guard scores.
    `verdict`: whether any label applies; None if that is not known."""

    id: str
    split: str
    known: dict[str, bool]
    verdict: bool | None
    p: dict[str, float]
    soft: dict[str, float]
    votes: dict[str, tuple[int, int]]

    def cells(self) -> list[Cell]:
        return [Cell(self.id, label, true, self.p[label]) for label, true in self.known.items()]


def scored_records(
    gold: pl.DataFrame, scores: pl.DataFrame, estimator: str, taxonomy: list[str], column: str = "probability"
) -> list[Scored]:
    """The final records that have scores, in the order of gold."""
    p: dict[str, dict[str, float]] = {}
    for row in scores.filter(pl.col("estimator") == estimator).iter_rows(named=True):
        p.setdefault(row["record_id"], {})[row["label"]] = row[column]
    labels = [label for label in taxonomy if any(label in own for own in p.values())]
    records = []
    for row in gold.iter_rows(named=True):
        if row["status"] != "final" or row["id"] not in p:
            continue
        judged = taxonomy if row["judged"] is None else row["judged"]
        verdict = True if row["labels"] else (False if set(taxonomy) <= set(judged) else None)
        known = {label: label in row["labels"] for label in labels if label in judged}
        soft = {pair["label"]: pair["probability"] for pair in row["soft_labels"] if pair["label"] in known}
        votes = {vote["label"]: (vote["yes"], vote["n"]) for vote in row["votes"] if vote["label"] in known}
        records.append(Scored(row["id"], row["split"], known, verdict, p[row["id"]], soft, votes))
    return records


def on(records: list[Scored], splits: Iterable[str]) -> list[Scored]:
    """The records of these splits with at least one judged label."""
    return [record for record in records if record.split in splits and record.known]


def cells_of(records: list[Scored], label: str | None = None) -> list[Cell]:
    return [cell for record in records for cell in record.cells() if label in (None, cell.label)]


def ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else NAN


def mean(values: Iterable[float]) -> float:
    finite = [value for value in values if not math.isnan(value)]
    return sum(finite) / len(finite) if finite else NAN


def binary(true: list[bool], flags: list[bool]) -> Values:
    """F1, precision, recall, false-positive rate and accuracy from counts."""
    tp = sum(t and f for t, f in zip(true, flags, strict=True))
    fp, fn = sum(flags) - tp, sum(true) - tp
    return {
        "f1": ratio(2 * tp, 2 * tp + fp + fn) if sum(true) else NAN,
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "false_positive_rate": ratio(fp, len(true) - sum(true)),
        "accuracy": ratio(len(true) - fp - fn, len(true)),
    }


def ranked(true: list[bool], p: list[float]) -> Values:
    both = 0 < sum(true) < len(true)
    return {
        "roc_auc": float(reference.roc_auc_score(true, p)) if both else NAN,
        "average_precision": float(reference.average_precision_score(true, p)) if sum(true) else NAN,
    }


def label_metrics(records: list[Scored], label: str, threshold: float) -> tuple[int, int, Values]:
    """(judged records, positives, metrics) of one label."""
    cells = cells_of(records, label)
    true, p = [cell.true for cell in cells], [cell.p for cell in cells]
    values = {**binary(true, [value >= threshold for value in p]), **ranked(true, p)}
    return len(cells), sum(true), {key: values[key] for key in ("f1", "precision", "recall", *ranked([], []))}


def pooled_metrics(records: list[Scored], threshold: dict[str, float]) -> Values:
    """The metrics over all labels; `threshold`: label → threshold."""
    cells = cells_of(records)
    micro = ranked([cell.true for cell in cells], [cell.p for cell in cells])
    by_label = {}
    for label in threshold:
        true, p = [cell.true for cell in cells if cell.label == label], [c.p for c in cells if c.label == label]
        if 0 < sum(true) < len(true):
            by_label[label] = ranked(true, p)
    return {
        **decided_metrics(records, threshold),
        **{f"micro_{name}": value for name, value in micro.items()},
        **{f"macro_{name}": mean(values[name] for values in by_label.values()) for name in micro},
    }


def decided_metrics(records: list[Scored], threshold: dict[str, float]) -> Values:
    """The metrics that need no ranking of all cells."""
    own: dict[str, tuple[list[bool], list[bool]]] = {label: ([], []) for label in threshold}
    for record in records:
        for label, true in record.known.items():
            own[label][0].append(true)
            own[label][1].append(record.p[label] >= threshold[label])
    true, flags = ([value for columns in own.values() for value in columns[part]] for part in (0, 1))
    micro = binary(true, flags)
    positive = [binary(*columns) for columns in own.values() if any(columns[0])]
    per_record = [_record_metrics(record, threshold) for record in records]
    return {
        "micro_f1": ratio(2 * sum(t and f for t, f in zip(true, flags, strict=True)), sum(true) + sum(flags)),
        "micro_precision": micro["precision"],
        "micro_recall": micro["recall"],
        "macro_f1": mean(values["f1"] for values in positive),
        "macro_precision": mean(float(np.nan_to_num(values["precision"])) for values in positive),
        "macro_recall": mean(values["recall"] for values in positive),
        "hamming_loss": ratio(sum(t != f for t, f in zip(true, flags, strict=True)), len(true)),
        **{name: mean(values[name] for values in per_record) for name in per_record[0]},
    }


def _record_metrics(record: Scored, threshold: dict[str, float]) -> Values:
    gold = {label for label, true in record.known.items() if true}
    others = record.known.keys() - gold
    predicted = {label for label in record.known if record.p[label] >= threshold[label]}
    right = len(gold & predicted)
    wrong_pairs = sum(record.p[label] <= record.p[other] for label in gold for other in others)
    return {
        "samples_f1": 2 * right / (len(gold) + len(predicted)) if gold or predicted else 1.0,
        "samples_precision": ratio(right, len(predicted)),
        "samples_recall": ratio(right, len(gold)),
        "subset_accuracy": float(gold == predicted),
        "ranking_loss": wrong_pairs / (len(gold) * len(others)) if gold and others else 0.0,
    }


def verdict_metrics(records: list[Scored], threshold: float) -> tuple[dict[str, int], Values]:
    """(denominators of the shares, metrics) over the records whose verdict is known."""
    known = [record for record in records if record.verdict is not None]
    true, p = [bool(record.verdict) for record in known], [record.p["unsafe"] for record in known]
    flags = [value >= threshold for value in p]
    counts = {
        "precision": sum(flags),
        "recall": sum(true),
        "false_positive_rate": len(true) - sum(true),
        "accuracy": len(true),
        "roc_auc": len(true),
    }
    values = {**binary(true, flags), **ranked(true, p)}
    if true and all(true):  # no flag can be wrong
        counts |= {"precision": 0, "accuracy": 0}
        values |= dict.fromkeys(("precision", "f1", "accuracy", "average_precision"), math.nan)
    return counts, values


def exact_interval(successes: float, n: float) -> tuple[float, float]:
    """Clopper-Pearson from the beta distribution."""
    tail = (1 - CONFIDENCE) / 2
    low = quantile(tail, successes, n - successes + 1) if successes > 0 else 0.0
    return low, quantile(1 - tail, successes + 1, n - successes) if successes < n else 1.0


def quantile(share: float, a: float, b: float) -> float:
    """A quantile of the beta distribution; much faster than that of scipy.stats."""
    return float(special.betaincinv(a, b, share))


def clustered_interval(hits: dict[str, list[bool]], records: int) -> tuple[float, float]:
    """The interval of a share whose values come in records (Korn & Graubard 1998). `hits`: record → its values."""
    n, successes = sum(map(len, hits.values())), sum(map(sum, hits.values()))
    value = successes / n
    if max(map(len, hits.values())) <= 1:
        return exact_interval(successes, n)
    residuals = sum((sum(values) - value * len(values)) ** 2 for values in hits.values())
    variance = residuals / n**2 * records / (records - 1)
    size = min(n, value * (1 - value) / variance) if variance > 1e-18 else sum(bool(values) for values in hits.values())
    return exact_interval(value * size, size)


def jackknife_intervals(
    records: list[Scored], statistics: Callable[[list[Scored]], Values]
) -> dict[str, tuple[float, float]]:
    """Metric → interval of its effective size, from the metrics without each record."""
    without = [statistics(records[:left_out] + records[left_out + 1 :]) for left_out in range(len(records))]
    intervals = {}
    for name, value in statistics(records).items():
        variance = (len(without) - 1) * float(np.var([values[name] for values in without]))
        size = value * (1 - value) / variance
        intervals[name] = exact_interval(value * size, size)
    return intervals


def highest_f1(cells: list[Cell]) -> tuple[float, float]:
    """(the highest F1 of any threshold, the highest score from which it is reached)."""
    positives = sum(cell.true for cell in cells)
    best, at = -1.0, NAN
    for score in sorted({cell.p for cell in cells}, reverse=True):
        flagged = [cell for cell in cells if cell.p >= score]
        f1 = 2 * sum(cell.true for cell in flagged) / (len(flagged) + positives)
        if f1 > best + 1e-12:
            best, at = f1, score
    return best, at


GRID = [1 / (1 + math.exp(-(13.8 - 0.05 * step))) for step in range(553)] + [0.0]


def lowest_precise(cells: list[Cell], target: float) -> float | None:
    """Fixed-sequence testing of precision >= target with exact one-sided binomial bounds."""
    fewest, lowest = math.ceil(math.log(1 - CONFIDENCE) / math.log(target)), None
    for threshold in GRID:
        flagged = [cell for cell in cells if cell.p >= threshold]
        hits = sum(cell.true for cell in flagged)
        if len(flagged) < fewest:
            continue
        bound = quantile(1 - CONFIDENCE, hits, len(flagged) - hits + 1) if hits else 0.0
        if bound < target:
            break
        lowest = threshold
    return lowest


def lowest_harmless(cells: list[Cell], target: float) -> float | None:
    """The same for false-positive rate <= target."""
    negatives = [cell.p for cell in cells if not cell.true]
    if len(negatives) < math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - target)):
        return None
    lowest = None
    for threshold in GRID:
        wrong = sum(p >= threshold for p in negatives)
        bound = quantile(CONFIDENCE, wrong + 1, len(negatives) - wrong) if wrong < len(negatives) else 1.0
        if bound > target:
            break
        lowest = threshold
    return lowest


def mapped(mapping: CalibrationMap, p: float) -> float:
    """A probability after one calibration map."""
    clipped = min(max(p, 1e-6), 1 - 1e-6)
    if isinstance(mapping, Identity):
        return p
    if isinstance(mapping, Isotonic):
        return float(np.interp(clipped, mapping.x, mapping.y))
    if isinstance(mapping, Platt):
        z = mapping.slope * math.log(clipped / (1 - clipped)) + mapping.intercept
    else:
        assert isinstance(mapping, Beta)
        z = mapping.a * math.log(clipped) - mapping.b * math.log(1 - clipped) + mapping.c
    return 1 / (1 + math.exp(-z))


def platt_loss(cells: list[Cell], slope: float, intercept: float) -> float:
    """The mean loss that Platt's map minimises: log loss against smoothed targets."""
    positives = sum(cell.true for cell in cells)
    high, low = (positives + 1) / (positives + 2), 1 / (len(cells) - positives + 2)
    total = 0.0
    for cell in cells:
        clipped = min(max(cell.p, 1e-6), 1 - 1e-6)
        z = slope * math.log(clipped / (1 - clipped)) + intercept
        total += math.log1p(math.exp(-abs(z))) + max(z, 0) - (high if cell.true else low) * z
    return total / len(cells)


def log_loss(true: bool, p: float) -> float:
    clipped = min(max(p, 1e-6), 1 - 1e-6)
    return -math.log(clipped if true else 1 - clipped)


def equal_mass(cells: list[Cell], bins: int) -> list[list[Cell]]:
    """Bins of about the same number of values; equal probabilities share a bin."""
    ordered = sorted(cells, key=lambda cell: cell.p)
    sizes = [len(cells) // bins + (number < len(cells) % bins) for number in range(bins)]
    ends, result, start = list(np.cumsum(sizes)), [], 0
    for end in ends:
        while 0 < end < len(ordered) and ordered[end].p == ordered[end - 1].p:
            end += 1
        if end > start:
            result.append(ordered[start:end])
            start = end
    return result


def decomposition(cells: list[Cell], loss: Callable[[bool, float], float]) -> tuple[float, float, float]:
    """(miscalibration, discrimination, uncertainty), with scikit-learn's isotonic fit."""
    true, p = [cell.true for cell in cells], [cell.p for cell in cells]
    fitted = IsotonicRegression().fit(p, true).predict(p)
    base = sum(true) / len(true)
    own = mean(loss(t, q) for t, q in zip(true, p, strict=True))
    best = mean(loss(t, q) for t, q in zip(true, fitted, strict=True))
    usual = mean(loss(t, base) for t in true)
    return own - best, usual - best, usual


def soft_metrics(records: list[Scored], flagged: Callable[[Scored, str], bool]) -> Values:
    """Means over judged cells with a soft label, and shares of pairs of annotators."""
    cells = [(record, label, soft) for record in records for label, soft in record.soft.items()]
    hits = sum(soft for record, label, soft in cells if flagged(record, label))
    flags = sum(flagged(record, label) for record, label, _ in cells)
    both = differ = pairs = 0.0
    for record in records:
        for yes, n in record.votes.values():
            if n >= 2:
                both += yes * (yes - 1) / (n * (n - 1))
                differ += 2 * yes * (n - yes) / (n * (n - 1))
                pairs += 1
    return {
        "brier": mean((record.p[label] - soft) ** 2 for record, label, soft in cells),
        "disagreement": mean(soft * (1 - soft) for _, _, soft in cells),
        "expected_micro_precision": ratio(hits, flags),
        "expected_micro_recall": ratio(hits, sum(soft for _, _, soft in cells)),
        "expected_hamming_loss": mean(1 - soft if flagged(record, label) else soft for record, label, soft in cells),
        "annotator_micro_f1": ratio(2 * both, 2 * both + differ),
        "annotator_hamming_loss": ratio(differ, pairs),
    }
