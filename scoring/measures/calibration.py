"""Recalibration: monotone maps from a guard's probability to one that matches frequencies.

Maps are fitted on the calibration split, chosen by cross-fitted log loss, and stored as small JSON (`Calibration` in
schemas/calibration_json.py). They are monotone, so they can be applied to lower and upper bounds, too. Sources: Platt
1999 (with smoothed targets, which keep slopes finite on separable data), Zadrozny & Elkan 2002 (isotonic), Kull, Silva
Filho & Flach 2017 (beta), Sechidis et al. 2011 (stratified folds of multi-label data).

Shapes: `truth` booleans and `p` probabilities, (n,) for one label or (n, L) for n records and L labels; `judged`
(n, L): which cells were judged, None if all were. Maps are fitted on judged cells only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from marginalia.schemas.calibration_json import (
    Beta,
    Calibration,
    CalibrationMap,
    Identity,
    Isotonic,
    LabelMap,
    Platt,
    Source,
)
from marginalia.scoring.measures.cell_means import judged_or_all
from marginalia.scoring.measures.intervals import Array, Flags

CLIP = 1e-6  # probabilities are kept this far from 0 and 1 before logarithms are taken
MOST_VALUES, BINS = 20_000, 4_096  # a fit on more values bins them first, into this many bins
ProbabilityT = TypeVar("ProbabilityT", float, Array)


def apply(calibration: Calibration, label: str, p: ProbabilityT) -> ProbabilityT:
    """Calibrated probability of `label`, for a number or an array of probabilities, lower bounds or upper bounds.

    A label without a map of its own gets the pooled map."""
    own = calibration.labels.get(label)
    return apply_map(own.map if own else calibration.pooled, p)


def apply_map(mapping: CalibrationMap, p: ProbabilityT) -> ProbabilityT:
    """Calibrated probability by one map, for a number or an array. The formulas are those of the `fit_…` functions."""
    values = np.asarray(p, dtype=np.float64)
    if isinstance(mapping, Identity):
        result = values
    elif isinstance(mapping, Isotonic):
        result = np.interp(clip(values), mapping.x, mapping.y)
    elif isinstance(mapping, Platt):
        result = _sigmoid(mapping.slope * logit(values) + mapping.intercept)
    else:
        clipped = clip(values)
        result = _sigmoid(mapping.a * np.log(clipped) - mapping.b * np.log1p(-clipped) + mapping.c)
    return float(result) if np.ndim(p) == 0 else result  # type: ignore[return-value]


def fit_identity(truth: Flags, p: Array) -> CalibrationMap:
    """No recalibration: p itself."""
    return Identity()


def fit_platt(truth: Flags, p: Array) -> CalibrationMap:
    """sigmoid(slope · logit(p) + intercept) with slope ≥ 0. `truth` and `p` are (n,), with both classes."""
    values, positives, totals = _binned(truth, p)
    slope, intercept = _logistic(np.column_stack([logit(values)]), positives, totals)
    return Platt(slope=slope, intercept=intercept)


def fit_beta(truth: Flags, p: Array) -> CalibrationMap:
    """sigmoid(a ln p − b ln(1 − p) + c) with a, b ≥ 0. `truth` and `p` are (n,), with both classes."""
    values, positives, totals = _binned(truth, p)
    clipped = clip(values)
    a, b, c = _logistic(np.column_stack([np.log(clipped), -np.log1p(-clipped)]), positives, totals)
    return Beta(a=a, b=b, c=c)


def fit_isotonic(truth: Flags, p: Array) -> CalibrationMap:
    """The non-decreasing step function of least squared error, with each step moved to (positives + 1) / (values + 2)
    and the result made non-decreasing again; linear between steps. `truth` and `p` are (n,).

    Without the two added values (Laplace's rule of succession) the first and last steps are usually exactly 0 and 1,
    however few values they have: three positives at the top would make every higher probability certain."""
    clipped = clip(p)
    x, shares = isotonic_steps(truth, clipped)
    values = np.unique(clipped, return_counts=True)[1].astype(np.float64)
    step = np.unique(shares, return_inverse=True)[1]
    sizes = np.bincount(step, weights=values).astype(np.float64)
    smoothed = (np.bincount(step, weights=values * shares) + 1) / (sizes + 2)
    y = _non_decreasing(smoothed, sizes + 2)[step]
    inner = (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:])
    kept = np.r_[True, ~inner, True] if len(x) > 1 else np.array([True])
    return Isotonic(x=x[kept].tolist(), y=y[kept].tolist())


METHODS: Mapping[str, Callable[[Flags, Array], CalibrationMap]] = MappingProxyType(
    {"identity": fit_identity, "platt": fit_platt, "beta": fit_beta, "isotonic": fit_isotonic}
)


def isotonic_steps(truth: Flags, p: Array) -> tuple[Array, Array]:
    """(distinct p ascending, fitted share of positives at each): isotonic regression by pool adjacent violators."""
    x, index, counts = np.unique(p, return_inverse=True, return_counts=True)
    shares = np.bincount(index, weights=truth.astype(np.float64)) / counts
    return x, _non_decreasing(shares, counts.astype(np.float64))


def _non_decreasing(values: Array, weights: Array) -> Array:
    """The non-decreasing sequence with the least weighted squared distance from `values` (pool adjacent violators)."""
    from scipy.optimize import isotonic_regression  # here: scipy takes a while to import

    return np.asarray(isotonic_regression(values, weights=weights).x, dtype=np.float64)


def fit(
    truth: Flags,
    p: Array,
    labels: list[str],
    *,
    guard: str,
    estimator: str,
    method: str,
    min_positives: int,
    folds: int,
    seed: int,
    simulated: bool,
    judged: Flags | None = None,
) -> Calibration:
    """A map per label, from (n, L) gold and probabilities of the calibration split.

    `method` is one of METHODS, or `auto`: the one with the lowest log loss out of fold (`folds` folds). A label with
    fewer than `min_positives` positives or negatives gets the map that is fitted on all labels pooled."""
    judged = judged_or_all(truth, judged)
    names = METHODS if judged.any() else ()
    losses = {name: cross_fitted_loss(truth, p, name, min_positives, folds, seed, judged) for name in names}
    if method == "auto":
        method = min(losses, key=lambda name: losses[name]) if losses else "identity"
    pooled, own = fit_maps(truth, p, method, min_positives, judged)
    positives = (truth & judged).sum(0)
    maps = {
        label: LabelMap(map=mapping, source=_source(mapping, pooled), positives=int(positives[column]))
        for column, (label, mapping) in enumerate(zip(labels, own, strict=True))
    }
    return Calibration(
        simulated=simulated,
        guard=guard,
        estimator=estimator,
        method=pooled.method,
        records=len(truth),
        cross_fitted_log_loss={name: float(loss) for name, loss in losses.items()},
        pooled=pooled,
        labels=maps,
    )


def fit_maps(
    truth: Flags, p: Array, method: str, min_positives: int, judged: Flags | None = None
) -> tuple[CalibrationMap, list[CalibrationMap]]:
    """(the pooled map, one map per label): a label with too few of a class gets the pooled map."""
    judged = judged_or_all(truth, judged)
    fitter = METHODS[method]
    pooled: CalibrationMap = Identity()
    if _enough(truth[judged], min_positives):
        pooled = fitter(truth[judged], p[judged])
    columns = [(np.flatnonzero(rows), label) for label, rows in enumerate(judged.T)]
    own = [fitter(truth[cells], p[cells]) if _enough(truth[cells], min_positives) else pooled for cells in columns]
    return pooled, own


def cross_fitted_loss(
    truth: Flags, p: Array, method: str, min_positives: int, folds: int, seed: int, judged: Flags | None = None
) -> float:
    """Mean log loss (nats) of probabilities calibrated by maps that did not see their record."""
    judged = judged_or_all(truth, judged)
    calibrated = cross_fitted(truth, p, method, min_positives, folds, seed, judged)
    return float(np.mean(log_losses(truth[judged], calibrated[judged])))


def cross_fitted(
    truth: Flags, p: Array, method: str, min_positives: int, folds: int, seed: int, judged: Flags | None = None
) -> Array:
    """(n, L) calibrated probabilities out of fold: each record by maps that are fitted on the other folds."""
    judged = judged_or_all(truth, judged)
    calibrated = np.array(p, dtype=np.float64)
    fold_of = stratified_folds(truth & judged, folds, seed)
    for fold in range(folds):
        held_out = fold_of == fold
        needed = max(
            1, min_positives * (folds - 1) // folds
        )  # labels with their own map in the whole split have one here
        _, maps = fit_maps(truth[~held_out], p[~held_out], method, needed, judged[~held_out])
        for label, mapping in enumerate(maps):
            calibrated[held_out, label] = apply_map(mapping, p[held_out, label])
    return calibrated


def stratified_folds(truth: Flags, folds: int, seed: int) -> NDArray[np.int64]:
    """(n,) fold of each record, with each label's positives spread evenly (iterative stratification, Sechidis et al.
    2011): records with the rarest label first, each to the fold that lacks that label most."""
    return _folds(np.ascontiguousarray(truth).tobytes(), *truth.shape, folds, seed)


@lru_cache(maxsize=4)  # all estimators and methods of a guard share one split
def _folds(flags: bytes, n: int, n_labels: int, folds: int, seed: int) -> NDArray[np.int64]:
    truth = np.frombuffer(flags, dtype=np.bool_).reshape(n, n_labels)
    rng = np.random.default_rng([seed, folds])
    fold_of = np.full(n, -1, dtype=np.int64)
    missing = np.tile(truth.sum(0) / folds, (folds, 1))  # positives of each label that a fold still lacks
    room = np.full(folds, n / folds)
    order = rng.permutation(n)
    while True:
        open_records = fold_of < 0
        left = truth[open_records].sum(0)
        if not left.any():
            break
        label = int(np.argmin(np.where(left > 0, left, n + 1)))
        for record in order[open_records[order] & truth[order, label]]:
            best = np.lexsort((rng.random(folds), -room, -missing[:, label]))[0]
            fold_of[record] = best
            missing[best] -= truth[record]
            room[best] -= 1
    for record in order[fold_of[order] < 0]:
        best = np.lexsort((rng.random(folds), -room))[0]
        fold_of[record] = best
        room[best] -= 1
    fold_of.flags.writeable = False
    return fold_of


def log_losses(truth: Flags, p: Array) -> Array:
    """Log loss (nats) of each value: −ln of the clipped probability of the true outcome. Same shape as the input."""
    clipped = clip(p)
    return -np.where(truth, np.log(clipped), np.log1p(-clipped))


def clip(p: Array) -> Array:
    """The probabilities moved into [CLIP, 1 − CLIP]."""
    return np.clip(p, CLIP, 1 - CLIP)


def logit(p: Array) -> Array:
    """ln(p / (1 − p)) of the clipped p."""
    clipped = clip(p)
    return np.log(clipped) - np.log1p(-clipped)


def _binned(truth: Flags, p: Array) -> tuple[Array, Array, Array]:
    """(probabilities, positives at each, values at each). More than MOST_VALUES values are replaced by the means of
    BINS bins of equal width in log-odds; the bins are too narrow to change the fit noticeably."""
    if len(p) <= MOST_VALUES:
        return p, truth.astype(np.float64), np.ones_like(p)
    z = logit(p)
    low, high = float(z.min()), float(z.max())
    steps = np.minimum(((z - low) / max(high - low, 1e-12) * BINS).astype(np.int64), BINS - 1)
    totals = np.bincount(steps, minlength=BINS).astype(np.float64)
    used = totals > 0
    means = np.bincount(steps, weights=z, minlength=BINS)[used] / totals[used]
    positives = np.bincount(steps[truth], minlength=BINS).astype(np.float64)
    return _sigmoid(means), positives[used], totals[used]


def _logistic(features: Array, positives: Array, totals: Array) -> tuple[float, ...]:
    """(weights ≥ 0 of the features, intercept) of the logistic regression on Platt's smoothed targets.

    As the loss is convex, the best feasible one of the solutions with some weights fixed at 0 is the optimum."""
    n_positive, n = float(positives.sum()), float(totals.sum())
    high, low = (n_positive + 1) / (n_positive + 2), 1 / (n - n_positive + 2)
    target = (positives * high + (totals - positives) * low) / totals
    design = np.column_stack([features, np.ones(len(features))])
    share = totals / n
    k = features.shape[1]
    feasible: list[tuple[float, Array]] = []
    for free in sorted(product([True, False], repeat=k), reverse=True):
        kept = [*free, True]
        weights = np.zeros(k + 1)
        weights[kept] = _newton(design[:, kept], target, share)
        if (weights[:k] >= 0).all():
            feasible.append((_logistic_loss(design @ weights, target, share), weights))
            if all(free):
                break
    return tuple(float(weight) for weight in min(feasible, key=lambda pair: pair[0])[1])


def _newton(design: Array, target: Array, share: Array) -> Array:
    """The weights of the unconstrained minimum, by Newton's method with step halving."""
    weights = np.zeros(design.shape[1])
    loss = _logistic_loss(design @ weights, target, share)
    for _ in range(100):
        q = _sigmoid(design @ weights)
        gradient = design.T @ (share * (q - target))
        curvature = (design * (share * q * (1 - q))[:, None]).T @ design
        step = np.linalg.lstsq(curvature + 1e-12 * np.eye(len(weights)), gradient, rcond=None)[0]
        size = 1.0
        while (new := _logistic_loss(design @ (weights - size * step), target, share)) > loss and size > 1e-10:
            size /= 2
        weights, gained, loss = weights - size * step, loss - new, new
        if gained < 1e-14:
            break
    return weights


def _logistic_loss(z: Array, target: Array, share: Array) -> float:
    return float(share @ (np.logaddexp(0, z) - target * z))


def _sigmoid(z: Array) -> Array:
    return np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))


def _enough(truth: Flags, needed: int) -> bool:
    return min(int(truth.sum()), int((~truth).sum())) >= max(1, needed)


def _source(mapping: CalibrationMap, pooled: CalibrationMap) -> Source:
    if isinstance(mapping, Identity):
        return "identity"
    return "pooled" if mapping is pooled else "label"
