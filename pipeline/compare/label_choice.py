"""Which of two guards to use for which label.

Each guard is judged at the threshold of its own run, chosen on the calibration split: that of the highest of
`evaluate.precision_targets`, or of the highest F1 where that is not attainable. The promise is this precision. A guard
falls short of it if the whole interval of its precision on the test split is below it, or if its ROC AUC is surely
below USEFUL_AUC. The choice is the first rule that applies:

1. *not computed*: not both guards have a probability for the label, or there are too few records for an interval;
2. *no guard reaches the promise*: both fall short;
3. a guard that is clearly better (paired difference in ROC AUC or average precision; the intervals hold for all labels
   at once), does not fall short, and is better than chance;
4. a guard that alone reaches the promise, where the other falls short and is not clearly better;
5. *cannot tell*.

Whether a guard falls short, or is better than chance, holds for each label on its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marginalia.pipeline.compare.compared_run import ComparedRun
from marginalia.pipeline.compare.comparison_model import ComparisonDecision, GuardForLabel, LabelChoice, Use
from marginalia.pipeline.compare.comparison_sentences import decision_sentence, side_names
from marginalia.pipeline.evaluation.answer_format_gate import withheld_reason
from marginalia.pipeline.evaluation.metric_bounds import outcome_with_ranges
from marginalia.pipeline.evaluation.paired_differences import PairedDifferences, finding
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.decision import USEFUL_AUC, chosen_threshold, precision_target
from marginalia.pipeline.report.estimator_findings import CHANCE_WORDS
from marginalia.schemas.evaluation_json import Finding, Metric, Outcome, Threshold
from marginalia.scoring.measures.conclusions import FEW_RECORDS, Answer, Rule, compare, conclude, range_of
from marginalia.scoring.measures.thresholds import outcome

ABOVE: Rule = "above"
AT_LEAST: Rule = "at least"


@dataclass(frozen=True)
class Standing:
    """What is known of one guard for one label. `promise`: the precision that it should reach, as text. `useful`:
    whether its ROC AUC is at least USEFUL_AUC."""

    name: str
    promise: str = ""
    reaches: Answer = "not computed"
    above_chance: Answer = "not computed"
    useful: Answer = "not computed"

    @property
    def falls_short(self) -> str:
        """Why the guard surely does not reach the promise; empty if it may."""
        if self.useful == "no":
            return "hardly better than chance"
        return f"precision below {self.promise}" if self.reaches == "no" else ""


def decide(
    a: ComparedRun, b: ComparedRun, paired: PairedDifferences | None, names: dict[str, str]
) -> ComparisonDecision:
    """The decision for every label of both taxonomies. `paired`: None if no record was judged in both.
    `names`: label → name."""
    sides = side_names(a.summary(), b.summary())
    target = precision_target(a.estimator)
    metric = "average_precision" if a.run.config.evaluate.primary.endswith("average_precision") else "roc_auc"
    withheld = [
        name for name, side in zip(sides, (a, b), strict=True) if withheld_reason(side.guard.answer_format) is not None
    ]
    differences = paired.every_label(metric) if paired and not withheld else {}
    choices = []
    for label in dict.fromkeys([*a.run.taxonomy.ids, *b.run.taxonomy.ids]):
        first, second = (_guard_for_label(side, number, label, paired, target) for number, side in enumerate((a, b)))
        difference = differences.get(label)
        few = difference is None or difference.n < FEW_RECORDS
        found = "not known" if few else finding(metric, difference, tested=True)
        if first is not None and second is not None and found != "not known":
            standings = (
                standing(name, _auc(side, label), shown.reaches, target)
                for name, side, shown in ((sides[0], a, first), (sides[1], b, second))
            )
            use, why = choice(found, *standings, metric=metric, target=target, difference=difference)
        else:
            use, why = "not computed", _why_not(a, b, sides, label, withheld, difference)
        n, positives = _counts(label, paired)
        row = LabelChoice(label=label, name=names.get(label, label), use=use, why=why, a=first, b=second,
                          positives=positives, n=n, difference=difference, finding=found)  # fmt: skip
        choices.append(row)
    simulated = a.evaluation.simulated or b.evaluation.simulated
    sentence = decision_sentence(sides, choices, target, withheld=withheld, simulated=simulated)
    return ComparisonDecision(sentence=sentence, target=target, metric=metric, labels=choices)


def choice(
    found: Finding, a: Standing, b: Standing, *, metric: str, target: float | None, difference: Metric | None
) -> tuple[Use, str]:
    """(which guard to use, why): rules 2 to 5 of the module. `found`: whether b is better in `metric`."""
    promise = f"{as_text.percent(target)} precision"
    ranks = f"in {as_text.NAMES[metric]}"
    better: Standing | None = {"better": b, "worse": a}.get(found)
    if a.falls_short and b.falls_short:
        shortfalls = dict.fromkeys((a.falls_short, b.falls_short))
        each = [f"{side.name}: {side.falls_short}" for side in (a, b)]
        why = f"both: {a.falls_short}" if len(shortfalls) == 1 else "; ".join(each)
        return "no guard reaches the promise", why + (f"; {better.name} is clearly better {ranks}" if better else "")
    pairs: tuple[tuple[Use, Standing, Standing], ...] = (("a", a, b), ("b", b, a))
    for use, side, other in pairs:
        alone = side.reaches == "yes" and bool(other.falls_short) and not side.falls_short
        if better is side and not side.falls_short and side.above_chance == "yes":
            return use, f"clearly better {ranks}" + (f"; alone reaches {promise}" if alone else "")
        if alone and better is not other:
            return use, f"alone reaches {promise}; no clear difference {ranks}"
    if better is not None:
        but = better.falls_short or CHANCE_WORDS["cannot tell"]
        return "cannot tell", f"{better.name} is clearly better {ranks}, but: {but}"
    if difference is not None and difference.low == difference.high == 0:
        return "cannot tell", "the same on every resample"
    explained = as_text.BOUNDS_EXPLAIN if as_text.explained_by_bounds(found, difference) else ""
    return "cannot tell", f"no clear difference {ranks}{explained}"


def standing(name: str, auc: Metric | None, reaches: Answer, target: float | None) -> Standing:
    """What the guard's ROC AUC for the label, and whether its precision reaches the target, show."""
    promise = as_text.percent(target)
    if auc is None or auc.n < FEW_RECORDS:
        return Standing(name, promise, reaches)
    if auc.value == 1:
        # no resample varies, so there is no interval; a random ranking is perfect with 1 chance in 15,000 at most
        allowed = range_of(auc) if auc.range_low is not None else (1.0, 1.0)
        above, useful = (
            conclude(1.0, base, allowed, rule) for base, rule in ((as_text.CHANCE, ABOVE), (USEFUL_AUC, AT_LEAST))
        )
        return Standing(name, promise, reaches, above, useful)
    return Standing(name, promise, reaches, compare(auc, as_text.CHANCE, ABOVE), compare(auc, USEFUL_AUC, AT_LEAST))


def _auc(side: ComparedRun, label: str) -> Metric | None:
    return next((row.metrics["roc_auc"] for row in side.estimator.labels if row.label == label), None)


def _guard_for_label(
    side: ComparedRun, number: int, label: str, paired: PairedDifferences | None, target: float | None
) -> GuardForLabel | None:
    """The guard at its threshold on the shared test records, or on its own where the label is not shared."""
    if label not in side.table.labels:
        return None
    chosen = chosen_threshold(side.estimator.thresholds.labels.get(label, []), target)
    if chosen is None or chosen.threshold is None:
        return GuardForLabel(threshold=None, goal=None, judged=None, reaches="not computed")
    shared = paired is not None and label in paired.labels
    judged = _shared_outcome(side, number, label, chosen, paired) if paired and shared else chosen.judged_on
    reaches: Answer = "not computed"
    if target is not None and judged is not None:
        reaches = compare(judged.precision, target, "at least")
    return GuardForLabel(threshold=chosen.threshold, goal=chosen.goal, judged=judged, reaches=reaches)


def _shared_outcome(
    side: ComparedRun, number: int, label: str, chosen: Threshold, paired: PairedDifferences
) -> Outcome | None:
    column, scores = paired.labels.index(label), paired.both[number]
    rows = paired.in_test & paired.judged[:, column]
    if chosen.threshold is None or not rows.any():
        return None
    truth, confidence = paired.truth[:, column], side.run.config.evaluate.confidence
    judged = outcome(truth[rows], scores.p[rows, column], chosen.threshold, split="test", confidence=confidence)
    if scores.bounds is None:
        return judged
    bounds = scores.bounds[0][:, column], scores.bounds[1][:, column]
    return outcome_with_ranges(judged, chosen.threshold, truth, bounds, rows)


def _counts(label: str, paired: PairedDifferences | None) -> tuple[int, int]:
    """(shared records in which the label was judged, those that have it)."""
    if paired is None or label not in paired.labels:
        return 0, 0
    column = paired.labels.index(label)
    judged = paired.judged[:, column]
    return int(judged.sum()), int(np.count_nonzero(paired.truth[:, column] & judged))


def _why_not(
    a: ComparedRun,
    b: ComparedRun,
    names: tuple[str, str],
    label: str,
    withheld: list[str],
    difference: Metric | None,
) -> str:
    """Why the guards are not compared on a label."""
    missing = [_missing(side, label) for side in (a, b)]
    if all(missing):
        return "neither guard has a probability for it"
    for name, reason in zip(names, missing, strict=True):
        if reason:
            return f"{name} {reason}"
    if withheld:
        return f"{as_text.joined(withheld)} did not keep the answer format"
    if difference is None:
        return "no record was judged in both"
    return difference.reason if difference.reason and difference.n >= FEW_RECORDS else "too few records"


def _missing(side: ComparedRun, label: str) -> str:
    """Why the guard has no probability for a label; empty if it has one."""
    if label in side.table.labels:
        return ""
    if label not in side.run.taxonomy.ids:
        return "has another taxonomy, without it"
    if any(row.label == label for row in side.guard.only_bounds):
        return "gives only bounds of its probability"
    return "has no category for it"
