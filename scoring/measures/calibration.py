"""Recalibration: monotone maps from a guard's probability to one that matches frequencies.

Maps are fitted on the calibration split, chosen by cross-fitted log loss, and kept as small JSON
(schemas/calibration_json.py:Calibration). All are monotone, so they apply to lower and upper bounds as well. Sources:
Platt 1999 (with his smoothed targets, which keep slopes finite on separable data), Zadrozny & Elkan 2002 (isotonic),
Kull, Silva Filho & Flach 2017 (beta), Sechidis et al. 2011 (stratification of multi-label folds)."""

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
from marginalia.scoring.measures.intervals import Array, Flags

CLIP = 1e-6
MANY, GATHERED = 20_000, 4_096  # values above which a fit gathers them, and in how many steps
ProbabilityT = TypeVar("ProbabilityT", float, Array)


def apply(calibration: Calibration, label: str, p: ProbabilityT) -> ProbabilityT:
    """Calibrated probability of `label`, for a number or an array; works on lower and upper bounds too.

    A label that the calibration does not know gets the pooled map."""
    known = calibration.labels.get(label)
    return apply_map(known.map if known else calibration.pooled, p)


def apply_map(mapping: CalibrationMap, p: ProbabilityT) -> ProbabilityT:
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
    return Identity()


def fit_platt(truth: Flags, p: Array) -> CalibrationMap:
    """sigmoid(slope * logit(p) + intercept) with slope >= 0. `truth` and `p` are (n,), with both classes."""
    values, positives, totals = _gathered(truth, p)
    slope, intercept = _logistic(np.column_stack([logit(values)]), positives, totals)
    return Platt(slope=slope, intercept=intercept)


def fit_beta(truth: Flags, p: Array) -> CalibrationMap:
    """sigmoid(a ln p - b ln(1 - p) + c) with a, b >= 0."""
    values, positives, totals = _gathered(truth, p)
    clipped = clip(values)
    a, b, c = _logistic(np.column_stack([np.log(clipped), -np.log1p(-clipped)]), positives, totals)
    return Beta(a=a, b=b, c=c)


def fit_isotonic(truth: Flags, p: Array) -> CalibrationMap:
    """The non-decreasing map of least squared error, each of its steps at (positives + 1) / (values + 2) and made
    non-decreasing once more; only the ends of its steps are kept.

    Without the two added values (Laplace's rule) the first and last steps are exactly 0 and 1, from however few
    values: three positives at the top would make every higher probability certain."""
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
    """(distinct p ascending, fitted share of positives at each): the pool-adjacent-violators fit."""
    x, where, counts = np.unique(p, return_inverse=True, return_counts=True)
    shares = np.bincount(where, weights=truth.astype(np.float64)) / counts
    return x, _non_decreasing(shares, counts.astype(np.float64))


def _non_decreasing(values: Array, weights: Array) -> Array:
    """The non-decreasing sequence that is nearest to `values` in weighted squares (pool adjacent violators)."""
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
) -> Calibration:
    """A map for each label from (n, L) gold and probabilities of the calibration split.

    `method` is one of METHODS, or `auto`: the one of lowest out-of-fold log loss. A label with fewer than
    `min_positives` positives or negatives gets the map fitted on all labels pooled."""
    names = METHODS if truth.size else ()
    losses = {name: cross_fitted_loss(truth, p, name, min_positives, folds, seed) for name in names}
    if method == "auto":
        method = min(losses, key=lambda name: losses[name]) if losses else "identity"
    pooled, own = fit_maps(truth, p, method, min_positives)
    positives = truth.sum(0)
    maps = {
        label: LabelMap(map=mapping, source=_source(mapping, pooled), positives=int(positives[place]))
        for place, (label, mapping) in enumerate(zip(labels, own, strict=True))
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


def fit_maps(truth: Flags, p: Array, method: str, min_positives: int) -> tuple[CalibrationMap, list[CalibrationMap]]:
    """(the pooled map, a map for each label: its own where it has enough of both classes, else the pooled one)."""
    fitter = METHODS[method]
    pooled: CalibrationMap = Identity()
    if _enough(truth.ravel(), min_positives):
        pooled = fitter(truth.ravel(), p.ravel())
    own = [
        fitter(truth[:, label], p[:, label]) if _enough(truth[:, label], min_positives) else pooled
        for label in range(truth.shape[1])
    ]
    return pooled, own


def cross_fitted_loss(truth: Flags, p: Array, method: str, min_positives: int, folds: int, seed: int) -> float:
    """Mean log loss (nats) of probabilities calibrated by maps that did not see their record."""
    return float(np.mean(log_losses(truth, cross_fitted(truth, p, method, min_positives, folds, seed))))


def cross_fitted(truth: Flags, p: Array, method: str, min_positives: int, folds: int, seed: int) -> Array:
    """(n, L) calibrated out of fold: each record by maps fitted on the other folds."""
    calibrated = np.array(p, dtype=np.float64)
    fold_of = stratified_folds(truth, folds, seed)
    for fold in range(folds):
        held = fold_of == fold
        needed = max(1, min_positives * (folds - 1) // folds)  # so that a fold fits what the whole split would
        for label, mapping in enumerate(fit_maps(truth[~held], p[~held], method, needed)[1]):
            calibrated[held, label] = apply_map(mapping, p[held, label])
    return calibrated


def stratified_folds(truth: Flags, folds: int, seed: int) -> NDArray[np.int64]:
    """(n,) fold of each record, every label's positives spread evenly: rarest first, to the fold that lacks it."""
    return _folds(np.ascontiguousarray(truth).tobytes(), *truth.shape, folds, seed)


@lru_cache(maxsize=4)  # all estimators and methods of a guard share one split
def _folds(flags: bytes, n: int, n_labels: int, folds: int, seed: int) -> NDArray[np.int64]:
    truth = np.frombuffer(flags, dtype=np.bool_).reshape(n, n_labels)
    rng = np.random.default_rng([seed, folds])
    fold_of = np.full(n, -1, dtype=np.int64)
    wanted = np.tile(truth.sum(0) / folds, (folds, 1))
    room = np.full(folds, n / folds)
    order = rng.permutation(n)
    while True:
        open_records = fold_of < 0
        left = truth[open_records].sum(0)
        if not left.any():
            break
        label = int(np.argmin(np.where(left > 0, left, n + 1)))
        for record in order[open_records[order] & truth[order, label]]:
            best = np.lexsort((rng.random(folds), -room, -wanted[:, label]))[0]
            fold_of[record] = best
            wanted[best] -= truth[record]
            room[best] -= 1
    for record in order[fold_of[order] < 0]:
        best = np.lexsort((rng.random(folds), -room))[0]
        fold_of[record] = best
        room[best] -= 1
    fold_of.flags.writeable = False
    return fold_of


def log_losses(truth: Flags, p: Array) -> Array:
    """-ln of the probability given to what is true, clipped; same shape as its input."""
    clipped = clip(p)
    return -np.where(truth, np.log(clipped), np.log1p(-clipped))


def clip(p: Array) -> Array:
    return np.clip(p, CLIP, 1 - CLIP)


def logit(p: Array) -> Array:
    clipped = clip(p)
    return np.log(clipped) - np.log1p(-clipped)


def _gathered(truth: Flags, p: Array) -> tuple[Array, Array, Array]:
    """(probabilities, positives, values at each). More than MANY values are gathered in GATHERED even steps of
    log-odds, each at the mean of its members: a step is so short that the fit does not see it."""
    if len(p) <= MANY:
        return p, truth.astype(np.float64), np.ones_like(p)
    z = logit(p)
    low, high = float(z.min()), float(z.max())
    steps = np.minimum(((z - low) / max(high - low, 1e-12) * GATHERED).astype(np.int64), GATHERED - 1)
    totals = np.bincount(steps, minlength=GATHERED).astype(np.float64)
    used = totals > 0
    means = np.bincount(steps, weights=z, minlength=GATHERED)[used] / totals[used]
    positives = np.bincount(steps[truth], minlength=GATHERED).astype(np.float64)
    return _sigmoid(means), positives[used], totals[used]


def _logistic(features: Array, positives: Array, totals: Array) -> tuple[float, ...]:
    """Non-negative weights and a free intercept of the logistic regression on Platt's smoothed targets.

    The loss is convex: of the solutions with some weights held at 0, the best one that is feasible is the optimum."""
    n_positive, n = float(positives.sum()), float(totals.sum())
    high, low = (n_positive + 1) / (n_positive + 2), 1 / (n - n_positive + 2)
    target = (positives * high + (totals - positives) * low) / totals
    design = np.column_stack([features, np.ones(len(features))])
    share = totals / n
    k = features.shape[1]
    found: list[tuple[float, Array]] = []
    for free in sorted(product([True, False], repeat=k), reverse=True):
        kept = [*free, True]
        weights = np.zeros(k + 1)
        weights[kept] = _newton(design[:, kept], target, share)
        if (weights[:k] >= 0).all():
            found.append((_logistic_loss(design @ weights, target, share), weights))
            if all(free):
                break
    return tuple(float(weight) for weight in min(found, key=lambda pair: pair[0])[1])


def _newton(design: Array, target: Array, share: Array) -> Array:
    """The unconstrained minimum, by Newton's method with step halving."""
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


def _enough(truth: Flags, fewest: int) -> bool:
    return min(int(truth.sum()), int((~truth).sum())) >= max(1, fewest)


def _source(mapping: CalibrationMap, pooled: CalibrationMap) -> Source:
    if isinstance(mapping, Identity):
        return "identity"
    return "pooled" if mapping is pooled else "label"
