"""How often the 95 % intervals contain the true value: simulated data whose truth is known, with fixed seeds.

    python -m benchmarks.coverage                # last line: JSON with the coverage of every interval
    python -m benchmarks.coverage --worlds 100   # faster, less precise

A world is one simulated data set: a guard's scores and gold for --records records with dependent labels of 25 to 2 %,
or annotators' answers, or an audit. The true value is measured on 100,000 records; for macro averages over the labels
that the small world can average. For comparison, `percentile` is the coverage of percentile intervals from the same
resamples."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import norm

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.agreement import agreement_of_votes
from marginalia.annotation.gold.label_posteriors import METHODS, posteriors
from marginalia.annotation.gold.pairwise_disagreement import PairSums
from marginalia.annotation.gold.votes import Votes
from marginalia.pipeline.annotating.suspect_labels import gold_error_rate, select, with_answers
from marginalia.pipeline.evaluation.estimator_evaluation import SHARES
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.evaluation_json import Metric
from marginalia.schemas.tables import Answer, GoldRecord, LabelScore
from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.calibration import log_losses
from marginalia.scoring.measures.intervals import Array, Flags, bootstrap_metric, resample_weights, share_of_values
from marginalia.scoring.measures.jackknife import MACRO, label_variances, pooled_variance
from marginalia.scoring.measures.reliability import equal_mass_bins, quality

RATES = np.array([0.25, 0.2, 0.15, 0.1, 0.06, 0.04, 0.03, 0.02])
SKILLS = {"fair guard": 1.5, "near-perfect guard": 4.0}
THRESHOLD, LARGE, RESAMPLES = 0.3, 100_000, 300
LEAST_COVERAGE = 0.93  # intervals below it are listed as `below_93`


@dataclass
class Tally:
    """One interval over all worlds: in how many it was given, in how many it contained the true value, the sum of its
    widths, and in how many the percentile interval contained the true value."""

    given: int = 0
    covered: int = 0
    width: float = 0.0
    percentile: int = 0

    def add(self, estimate: Metric | Estimate, truth: float, replicates: Array | None = None) -> None:
        """Counts the interval of one world."""
        if estimate.low is None or estimate.high is None:
            return
        self.given += 1
        self.covered += estimate.low - 1e-12 <= truth <= estimate.high + 1e-12
        self.width += estimate.high - estimate.low
        if replicates is not None:
            low, high = np.quantile(replicates[np.isfinite(replicates)], [0.025, 0.975])
            self.percentile += low <= truth <= high


Tallies = defaultdict[str, Tally]


def guard_world(rng: np.random.Generator, n: int, skill: float) -> tuple[Flags, Array]:
    """(gold, probabilities), each (n, L)."""
    shared, own = rng.normal(size=(n, 1)), rng.normal(size=(n, len(RATES)))
    truth = np.sqrt(0.5) * (shared + own) < norm.ppf(RATES)
    z = norm.ppf(RATES) + skill * truth + 0.6 * rng.normal(size=(n, 1)) + 0.8 * rng.normal(size=truth.shape)
    return truth, 1 / (1 + np.exp(-1.7 * z))


def metric_coverage(worlds: int, n: int, skill: float) -> Tallies:
    """Coverage of the intervals of pooled metrics and of metrics per label."""
    found: Tallies = defaultdict(Tally)
    large = _measure(*guard_world(np.random.default_rng(0), LARGE, skill))(np.ones((1, LARGE)))
    for seed in range(1, worlds + 1):
        truth, p = guard_world(np.random.default_rng([seed, 1]), n, skill)
        boot = metrics.bootstrap(_measure(truth, p), n, resamples=RESAMPLES, seed=seed, left_out=True)
        rarer = np.minimum(truth.sum(0), (~truth).sum(0))
        for name, value in boot.value.pooled.items():
            goal = float(large.pooled[name][0])
            if name.startswith(MACRO):
                label_metric = name.removeprefix(MACRO)
                kept = metrics.averaged_labels(truth, ranking=label_metric in metrics.RANKING_LABELS)
                goal = float(large.labels[label_metric][0][kept].mean())
            replicates, variance = boot.replicates.pooled[name], pooled_variance(boot, name, truth)
            metric = _metric(float(value[0]), replicates, n, variance, int(rarer.sum()))
            found[name].add(metric, goal, replicates)
        for name, values in boot.value.labels.items():
            if name in SHARES:  # exact: Clopper-Pearson
                continue
            variances = label_variances(boot, name)
            for at in range(len(RATES)):
                replicates = boot.replicates.labels[name][:, at]
                metric = _metric(float(values[0, at]), replicates, n, float(variances[at]), int(rarer[at]))
                found[f"{name} of a label"].add(metric, float(large.labels[name][0, at]), replicates)
    return found


def _measure(truth: Flags, p: Array) -> metrics.Measure:
    return metrics.combined([metrics.decisions(truth, p >= THRESHOLD), metrics.ranking(truth, p)])


def _metric(value: float, replicates: Array, n: int, variance: float, rarest: int) -> Metric:
    return bootstrap_metric(
        value, replicates, n, confidence=0.95, undefined="not defined", rarest=rarest, variance=variance
    )


def forecast_world(rng: np.random.Generator, n: int, slope: float) -> tuple[Flags, Array, Array]:
    """(truth, probabilities, calibrated probabilities), each (n, 8); the labels of a record are dependent."""
    z = -1.5 + 1.2 * rng.normal(size=(n, 8)) + 0.8 * rng.normal(size=(n, 1))
    right = 1 / (1 + np.exp(-slope * z))
    latent = np.sqrt(0.6) * rng.normal(size=(n, 1)) + np.sqrt(0.4) * rng.normal(size=(n, 8))
    return norm.cdf(latent) < right, 1 / (1 + np.exp(-z)), right


def calibration_coverage(worlds: int, n: int, slope: float) -> tuple[Tallies, dict[str, float]]:
    """Coverage of the calibration quality's intervals, and means over worlds: the true, the reported and the plain ECE,
    and how often the reported ECE is above `ece_if_calibrated`."""
    found: Tallies = defaultdict(Tally)
    _, everywhere, right = forecast_world(np.random.default_rng(0), LARGE, slope)
    truth, _, _ = forecast_world(np.random.default_rng(0), LARGE, slope)
    goals = {"brier": ((everywhere - truth) ** 2).mean(), "log_loss": log_losses(truth, everywhere).mean()}
    order = np.argsort(everywhere, axis=None)
    at, total = everywhere.ravel()[order], np.r_[0, np.cumsum((right - everywhere).ravel()[order])]
    means = np.zeros(4)
    for seed in range(1, worlds + 1):
        truth, p, _ = forecast_world(np.random.default_rng([seed, 2]), n, slope)
        page = quality(truth, p, splits=["test"], bins=10, confidence=0.95, resamples=RESAMPLES, seed=seed)
        assert page is not None and page.ece.value is not None
        bin_of = equal_mass_bins(p.ravel(), 10)
        cuts = [p.ravel()[bin_of == number].max() for number in range(int(bin_of.max()))]
        edges = np.r_[0, np.searchsorted(at, cuts, side="right"), len(at)]
        gaps = (total[edges[1:]] - total[edges[:-1]]) / len(at)
        true = float(np.abs(gaps).sum()) if slope != 1 else 0.0
        plain = np.column_stack([np.bincount(bin_of, weights=row) for row in _resampled_gaps(truth, p, seed)]).T
        found["ece"].add(page.ece, true, np.abs(plain).sum(1) / p.size)
        found["brier"].add(page.brier, float(goals["brier"]))
        found["log_loss"].add(page.log_loss, float(goals["log_loss"]))
        top = page.bins[-1]
        size = np.diff(edges)[-1]
        share = Metric(value=top.share_positive, low=top.low, high=top.high, n=top.n)
        found["share in the top bin"].add(share, float(at[edges[-2] :].mean() + gaps[-1] * len(at) / size))
        above = page.ece.value > (page.ece_if_calibrated or 0.0)
        means += np.array([true, page.ece.value, page.ece_plug_in or 0.0, above]) / worlds
    names = ("true", "ece", "plain", "above_limit")
    return found, {name: round(float(value), 4) for name, value in zip(names, means, strict=True)}


def _resampled_gaps(truth: Flags, p: Array, seed: int) -> Iterator[Array]:
    for weights in resample_weights(len(p), 100, seed):
        for row in weights:
            yield (row[:, None] * (p - truth)).ravel()


def crowd(rng: np.random.Generator, n: int, miss: Array, false_alarm: Array, rates: Array) -> tuple[Flags, Votes]:
    """(truth, the answers of all annotators to every record). `miss`, `false_alarm`: error rates of each annotator."""
    annotators = len(miss)
    truth = rng.random((n, len(rates))) < rates
    record, who = np.repeat(np.arange(n), annotators), np.tile(np.arange(annotators), n)
    drawn = rng.random((n * annotators, len(rates)))
    ticked = np.where(truth[record], drawn >= miss[who][:, None], drawn < false_alarm[who][:, None])
    names = [f"r{at:06}" for at in range(n)]
    labels = tuple(f"label{at}" for at in range(len(rates)))
    judged = np.ones(ticked.shape, dtype=np.bool_)
    return truth, Votes(names, [f"A{at}" for at in range(annotators)], labels, record, who, ticked, judged)


def agreement_coverage(worlds: int, n: int) -> Tallies:
    """Coverage of the intervals of agreement statistics, for three annotators."""
    rates, miss, alarm = np.array([0.3, 0.1, 0.03]), np.array([0.15, 0.2, 0.3]), np.array([0.02, 0.05, 0.03])
    large = PairSums(crowd(np.random.default_rng(0), LARGE // 2, miss, alarm, rates)[1], "all").statistics()
    found: Tallies = defaultdict(Tally)
    for seed in range(1, worlds + 1):
        votes = crowd(np.random.default_rng([seed, 3]), n, miss, alarm, rates)[1]
        page = agreement_of_votes(votes, ReconcileSection(bootstrap=RESAMPLES), seed=seed)
        known = [at for at, row in enumerate(page.per_label) if row.alpha.value is not None]
        found["alpha over label sets"].add(page.alpha_masi, float(large.alpha_masi[0]))
        found["mean alpha"].add(page.alpha_mean, float(large.alpha[known, 0].mean()))
        found["share of equal pairs"].add(page.exact, float(large.exact[0]))
        for at, row in enumerate(page.per_label):
            found[f"alpha of a label of {rates[at]:.0%}"].add(row.alpha, float(large.alpha[at, 0]))
            found["percent of a label"].add(row.percent, float(large.percent[at, 0]))
    return found


def audit_coverage(worlds: int, n: int) -> Tallies:
    """Coverage of the audit's error rate: 10 % of the gold is wrong, and the guard disagrees with most of that."""
    found: Tallies = defaultdict(Tally)
    for seed in range(1, worlds + 1):
        rng = np.random.default_rng([seed, 4])
        truth, wrong = rng.random(n) < 0.3, rng.random(n) < 0.1
        p = 1 / (1 + np.exp(-(np.where(truth, 1.5, -1.5) + rng.normal(size=n))))
        ids, given = [f"r{at}" for at in range(n)], [["a"] if flag else [] for flag in truth ^ wrong]
        gold = _rows(GoldRecord.polars_schema(), id=ids, status=["final"] * n, labels=given)
        scores = _rows(LabelScore.polars_schema(), record_id=ids, label=["a"] * n, probability=p.tolist())
        chosen = select(gold, scores, ["a"], top=50, control=50, seed=seed)
        right = [["a"] if truth[int(record[1:])] else [] for record in chosen["id"]]
        said = {"round": ["audit"] * chosen.height, "status": ["submitted"] * chosen.height, "labels": right}
        answers = _rows(Answer.polars_schema(), record_id=chosen["id"].to_list(), **said)
        rate = gold_error_rate(with_answers(chosen, answers, ["a"]))
        assert rate is not None
        found["error rate of all gold"].add(rate, float(wrong.mean()))
    return found


def _rows(schema: pl.Schema, **columns: list[object]) -> pl.DataFrame:
    size = len(next(iter(columns.values())))
    return pl.DataFrame({name: columns.get(name, [None] * size) for name in schema}, schema=schema)


def share_coverage(worlds: int, n: int) -> Tallies:
    """Coverage of the interval of a share with 8 dependent values per record."""
    found: Tallies = defaultdict(Tally)
    for seed in range(1, worlds + 1):
        rng = np.random.default_rng([seed, 5])
        hits = np.sqrt(0.7) * rng.normal(size=(n, 1)) + np.sqrt(0.3) * rng.normal(size=(n, 8)) < norm.ppf(0.2)
        found["share of values"].add(share_of_values(hits, hits | True, confidence=0.95, undefined=""), 0.2)
    return found


def rare_label_gold(n: int = 400) -> dict[str, dict[str, float]]:
    """Precision, recall and squared error of each method's gold, for 12 labels of 8 % and three annotators."""
    rates = np.full(12, 0.08)
    truth, votes = crowd(np.random.default_rng(1), n, np.full(3, 0.2), np.full(3, 0.05), rates)
    found = {}
    for method in METHODS:
        p = posteriors(votes, method).probability
        decided = p > 0.5
        hits = float((decided & truth).sum())
        found[method] = {
            "precision": round(hits / float(decided.sum()), 3),
            "recall": round(hits / float(truth.sum()), 3),
            "squared_error": round(float(((p - truth) ** 2).mean()), 4),
        }
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--worlds", type=int, default=1000, help="simulated data sets (default: %(default)s)")
    parser.add_argument("--records", type=int, default=300, help="per world (default: %(default)s)")
    options = parser.parse_args()
    started = time.perf_counter()
    worlds, n = options.worlds, options.records
    groups = {name: metric_coverage(worlds, n, skill) for name, skill in SKILLS.items()}
    errors = {}
    for name, slope in (("calibrated", 1.0), ("overconfident", 0.7)):
        groups[name], errors[name] = calibration_coverage(worlds, n, slope)
    groups |= {"agreement": agreement_coverage(worlds, n // 2), "audit": audit_coverage(worlds, n)}
    groups["shares"] = share_coverage(worlds, n // 5)
    coverage, below = {}, []
    print(f"{'':44} given coverage  percentile  width")
    for group, tallies in groups.items():
        for name, tally in tallies.items():
            share, width = tally.covered / max(tally.given, 1), tally.width / max(tally.given, 1)
            percentile = f"{tally.percentile / tally.given:10.3f}" if tally.percentile else " " * 10
            print(f"{group + ': ' + name:44} {tally.given:5}   {share:6.3f}  {percentile}  {width:.3f}")
            coverage[f"{group}: {name}"] = round(share, 3)
            below += [f"{group}: {name}"] if share < LEAST_COVERAGE else []
    summary = {"worlds": worlds, "records": n, "coverage": coverage, "below_93": below, "calibration_error": errors}
    print(json.dumps({**summary, "rare_labels": rare_label_gold(), "seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
