"""What each guard costs where both find the same share of the positives."""

from __future__ import annotations

import numpy as np

from marginalia.pipeline.compare.compared_run import ComparedRun
from marginalia.pipeline.compare.comparison_model import CostOfLabel, EqualRecall, GuardCost
from marginalia.pipeline.compare.comparison_sentences import recall_sentence, side_names
from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.answer_format_gate import withheld_reason
from marginalia.pipeline.evaluation.metric_bounds import with_range
from marginalia.pipeline.evaluation.paired_differences import (
    PairedDifferences,
    finding,
    including_value,
    paired_metric,
)
from marginalia.pipeline.report import as_text
from marginalia.scoring.measures.conclusions import FEW_RECORDS
from marginalia.scoring.measures.equal_recall import COSTS, costs_at_recall
from marginalia.scoring.measures.intervals import FEWEST_OF_A_CLASS, Array, Flags, bootstrap_metric
from marginalia.scoring.measures.metrics import Measure, Measured, bootstrap

RECALL = 0.8
FALSE_ALARMS = "false_alarms"


def equal_recall(
    a: ComparedRun, b: ComparedRun, paired: PairedDifferences | None, names: dict[str, str], *, recall: float = RECALL
) -> EqualRecall:
    """The costs at `recall` of every shared label and of all together, over the shared records of the judged splits.

    Labels with too few positives or negatives for an interval are left out. `names`: label → name."""
    sides = side_names(a.summary(), b.summary())
    left_out = _left_out(a, b, paired)
    measured = [label for label in paired.labels if label not in left_out] if paired else []
    if paired is None or not measured:
        sentence = recall_sentence(sides, recall, None)
        return EqualRecall(sentence=sentence, recall=recall, overall=None, labels=[], left_out=left_out)
    withheld = any(withheld_reason(side.guard.answer_format) is not None for side in (a, b))
    kept = np.array([label in measured for label in paired.labels])
    costs = _Costs(paired, recall, a.run.config.evaluate, a.evaluation.seed, kept)
    together = as_text.plural(len(measured), "label") if left_out else "all labels"
    overall = costs.of(None, together, tested=not withheld)
    labels = [costs.of(paired.labels.index(label), names.get(label, label), tested=False) for label in measured]
    sentence = recall_sentence(sides, recall, overall)
    return EqualRecall(sentence=sentence, recall=recall, overall=overall, labels=labels, left_out=left_out)


def _left_out(a: ComparedRun, b: ComparedRun, paired: PairedDifferences | None) -> dict[str, str]:
    """Label → why its cost is not measured."""
    reasons = {}
    for label in dict.fromkeys([*a.run.taxonomy.ids, *b.run.taxonomy.ids]):
        if label not in a.table.labels or label not in b.table.labels:
            reasons[label] = "not both guards have a probability for it"
        elif paired is None:
            reasons[label] = "no record was judged in both"
        else:
            column = paired.labels.index(label)
            judged, truth = paired.judged[:, column], paired.truth[:, column]
            fewest = min(int((judged & truth).sum()), int((judged & ~truth).sum()))
            if fewest < FEWEST_OF_A_CLASS:
                reasons[label] = f"fewer than {FEWEST_OF_A_CLASS} shared records with or without it"
    return reasons


class _Costs:
    """The costs of both guards on the shared records, in the same resamples. `kept` (L,): the labels to measure."""

    def __init__(
        self, paired: PairedDifferences, recall: float, config: EvaluateSection, seed: int, kept: Flags
    ) -> None:
        self._paired, self._kept, self._confidence = paired, kept, config.confidence

        def measure(p: Array) -> Measure:
            return costs_at_recall(paired.truth, p, recall, kept, paired.judged)

        self._bootstrapped = [
            bootstrap(measure(side.p), paired.records, resamples=config.resamples, seed=seed) for side in paired.both
        ]
        # the fewest false alarms that the bounds allow, then the most
        extremes = [
            [np.where(paired.truth, upper, lower), np.where(paired.truth, lower, upper)]
            for lower, upper in (side.bounds or (side.p, side.p) for side in paired.both)
        ]
        everything = np.ones((1, paired.records))
        self._ends = [
            [measure(p)(everything) for p in pair] if side.bounds else []
            for side, pair in zip(paired.both, extremes, strict=True)
        ]

    def of(self, column: int | None, name: str, *, tested: bool) -> CostOfLabel:
        """The costs of the label in a column, or of all kept labels together."""
        columns = np.flatnonzero(self._kept) if column is None else np.array([column])
        judged, truth = self._paired.judged[:, columns], self._paired.truth[:, columns]
        n = int(judged.any(1).sum())
        a, b = (self._cost(side, column, n) for side in (0, 1))
        first, second = (_column(one.replicates, FALSE_ALARMS, column) for one in self._bootstrapped)
        difference = paired_metric(a.false_alarms, b.false_alarms, second - first, confidence=self._confidence)
        found = finding("false_positive_rate", difference, tested=tested)
        return CostOfLabel(
            label=None if column is None else self._paired.labels[column],
            name=name,
            positives=int((judged & truth).sum()),
            n=n,
            a=a,
            b=b,
            difference=difference,
            finding="not known" if n < FEW_RECORDS else found,
        )

    def _cost(self, side: int, column: int | None, n: int) -> GuardCost:
        bootstrapped = self._bootstrapped[side]
        costs = {}
        for name in COSTS:
            value, replicates = (_column(part, name, column) for part in (bootstrapped.value, bootstrapped.replicates))
            metric = bootstrap_metric(
                float(value[0]), replicates, n, confidence=self._confidence, undefined="no positives"
            )
            costs[name] = including_value(metric)
        if ends := self._ends[side]:
            fewest, most = (float(_column(end, FALSE_ALARMS, column)[0]) for end in ends)
            costs[FALSE_ALARMS] = with_range(costs[FALSE_ALARMS], (fewest, most))
        threshold = None if column is None else float(bootstrapped.value.labels["threshold"][0, column])
        return GuardCost(
            threshold=threshold,
            recall=costs["recall"].value,
            flags=costs["flags"],
            false_alarms=costs[FALSE_ALARMS],
            precision=costs["precision"],
        )


def _column(measured: Measured, name: str, column: int | None) -> Array:
    """(b,): a cost of the label in a column, or of all kept labels together."""
    return measured.pooled[name] if column is None else measured.labels[name][:, column]
