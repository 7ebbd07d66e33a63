"""How often equal guards are reported as different, and how often an interval contains the true difference:
`make bench-comparisons`.

Pairs of simulated guards score the same records. Their scores have a common part (how hard a record is for both) and
independent noise, so the truth is known: equal pairs differ in nothing, and the true differences of unequal pairs are
computed from a sample of LARGE records. Every pair is compared as in `evaluate` and `compare`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.calibration_fitting import choose_thresholds
from marginalia.pipeline.evaluation.estimator_choice import GUARDS_COMPARED, guard_differences
from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.pipeline.evaluation.paired_differences import JudgedEstimator
from marginalia.schemas.evaluation_json import GuardDifference
from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.intervals import Array, Flags

LARGE = 200_000
THRESHOLD = 0.5


@dataclass(frozen=True)
class World:
    """Parameters of the simulation. `rarest` and `commonest`: label rates. `gain`: by how much the second guard's
    scores (log-odds) separate the labels better."""

    records: int = 240
    labels: int = 8
    rarest: float = 0.08
    commonest: float = 0.25
    shared: float = 0.7  # of the variance of scores; the rest differs from guard to guard
    gain: float = 0.0


def draw(world: World, rng: np.random.Generator, n: int) -> tuple[Flags, list[Array]]:
    """(gold (n, L), the scores (n, L) of both guards)."""
    rates = np.linspace(world.rarest, world.commonest, world.labels)
    truth = rng.random((n, world.labels)) < rates
    shared = rng.normal(size=truth.shape)
    scores = []
    for strength in (2.0, 2.0 + world.gain):
        own = rng.normal(size=truth.shape)
        z = -2 + strength * truth + np.sqrt(world.shared) * shared + np.sqrt(1 - world.shared) * own
        scores.append(1 / (1 + np.exp(-z)))
    return truth, scores


def judged(guard: str, truth: Flags, scores: Array, config: EvaluateSection) -> JudgedEstimator:
    """A guard's scores with its thresholds, which are chosen on every second record and evaluated on the others."""
    n, unknown = len(truth), np.full(truth.shape, np.nan)
    splits = np.where(np.arange(n) % 2 == 0, "calibration", "test")
    table = GuardTable(
        guard=guard,
        ids=[f"r{row:06d}" for row in range(n)],
        splits=splits,
        labels=[f"label {column}" for column in range(truth.shape[1])],
        truth=truth,
        judged=np.ones(truth.shape, dtype=bool),
        any_label=truth.any(1),
        verdict_judged=np.ones(n, dtype=bool),
        soft=unknown,
        yes=unknown,
        answers=unknown,
        scores={"marginal": scores},
        verdicts={"marginal": scores.max(1)},
        left_out={},
        labels_not_scored=[],
        estimators_left_out={},
    )
    chosen = choose_thresholds(table, "marginal", config)
    return JudgedEstimator(table, "marginal", list(config.judged_on), config.threshold, chosen)


def compared(world: World, config: EvaluateSection, *, pairs: int, seed: int) -> Iterator[list[GuardDifference]]:
    """The differences of each simulated pair."""
    for pair in range(pairs):
        truth, scores = draw(world, np.random.default_rng([seed, pair]), world.records)
        guards = [judged(name, truth, p, config) for name, p in zip(("first", "second"), scores, strict=True)]
        yield guard_differences(guards, config, seed=pair)


def true_differences(world: World, seed: int) -> dict[str, float]:
    """The true differences of the metrics that need no fitted thresholds or maps, from LARGE records."""
    truth, scores = draw(world, np.random.default_rng(seed), LARGE)
    weights = np.ones((1, LARGE))
    guards = []
    for p in scores:
        measure = metrics.combined([metrics.decisions(truth, p >= THRESHOLD), metrics.ranking(truth, p)])
        pooled = measure(weights).pooled
        verdict = metrics.ranking(truth.any(1)[:, None], p.max(1)[:, None])(weights).pooled
        flagged = p.max(1) >= THRESHOLD
        guards.append(
            {
                **{name: float(pooled[name][0]) for name in ("macro_roc_auc", "micro_roc_auc", "micro_f1")},
                "verdict_roc_auc": float(verdict["micro_roc_auc"][0]),
                "verdict_false_positive_rate": float(flagged[~truth.any(1)].mean()),
                "brier": float(((p - truth) ** 2).mean()),
            }
        )
    return {name: guards[1][name] - guards[0][name] for name in guards[0]}


def measured(world: World, config: EvaluateSection, *, pairs: int, seed: int) -> dict[str, Any]:
    """findings: the share of pairs with any metric "better" or "worse". called: metric → in how many pairs. coverage:
    metric → the share of intervals that contain the true difference. width: metric → the intervals' mean width.

    For metrics at the guards' own thresholds the true difference of unequal pairs is the mean over all pairs."""
    rows = list(compared(world, config, pairs=pairs, seed=seed))
    truth = true_differences(world, seed) if world.gain else dict.fromkeys(GUARDS_COMPARED, 0.0)
    findings = [[row.metric for row in pair if row.finding in ("better", "worse")] for pair in rows]
    by_metric: dict[str, list[GuardDifference]] = {}
    for pair in rows:
        for row in pair:
            if row.difference.low is not None:
                by_metric.setdefault(row.metric, []).append(row)
    coverage, width = {}, {}
    for name, differences in by_metric.items():
        true = truth[name] if name in truth else float(np.mean([row.difference.value for row in differences]))
        ends = [(row.difference.low or 0.0, row.difference.high or 0.0) for row in differences]
        coverage[name] = round(float(np.mean([low <= true <= high for low, high in ends])), 4)
        width[name] = round(float(np.mean([high - low for low, high in ends])), 4)
    return {
        "pairs": pairs,
        "records": world.records,
        "shared": world.shared,
        "gain": world.gain,
        "findings": round(float(np.mean([bool(names) for names in findings])), 4),
        "called": dict(Counter(name for names in findings for name in names)),
        "coverage": coverage,
        "width": width,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=400, help="of each kind (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of the bootstrap (default: %(default)s)")
    options = parser.parse_args()
    config = EvaluateSection(resamples=options.resamples)
    for world in (World(shared=0.5), World(shared=0.9), World(records=600, shared=0.9), World(gain=0.5)):
        print(json.dumps(measured(world, config, pairs=options.pairs, seed=1)), flush=True)


if __name__ == "__main__":
    main()
