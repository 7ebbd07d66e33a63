"""The report's first screen: whether a guard may block, label by label, and at which threshold.

A label's threshold is chosen on the calibration split: that of the highest of `evaluate.precision_targets`, or, where
these records cannot prove it, that of the highest F1. It is judged on the test split. The verdict is the first rule
that applies:

1. *not usable*: the guard has no category for the label, or its ROC AUC is surely below USEFUL_AUC;
2. *cannot tell*: there is no threshold, nothing is flagged, or the guard gives only bounds of the probability;
3. *block*: the whole interval of the precision is at or above the target;
4. *cannot tell*: the interval contains the target, or the label is not surely recognised better than chance;
5. *review only*: the whole interval is below the target.

Each verdict holds on its own, at the confidence of its interval, for records like these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.estimator_findings import chance_finding, chance_metric, judged_finding
from marginalia.pipeline.report.label_findings import weakest_label_finding
from marginalia.pipeline.report.report_data import ReportData, headlined, recommended_estimator
from marginalia.schemas.evaluation_json import UNSAFE, EstimatorEvaluation, GuardEvaluation, Metric, Outcome, Threshold
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.scoring.measures.conclusions import FEW_RECORDS, compare
from marginalia.scoring.measures.intervals import lower_bound

USEFUL_AUC = 0.6  # ROC AUC: below it, a ranking is of hardly more use than a random one
OTHER_LABELS = "Other labels"
MOST_NAMED = 3  # labels in a sentence
MOST_FLAGS = 1_000_000
FEW_FLAGS = 10  # with fewer, the observed precision says too little to plan with
PRECISION_GOAL = "precision >= "

Verdict = Literal["block", "review only", "cannot tell", "not usable"]


@dataclass(frozen=True)
class LabelDecision:
    """One row of the table. `judged`: the outcome of the threshold on the test split. `more`: see `more_positives`;
    empty where the verdict does not depend on it."""

    name: str
    verdict: Verdict
    why: str
    threshold: float | None = None
    judged: Outcome | None = None
    more: str = ""


@dataclass(frozen=True)
class GuardDecision:
    """What one guard may be used for. `cost`: what its threshold for all labels together costs, as a sentence."""

    guard: str
    sentence: str
    target: float | None  # of precision
    rows: list[LabelDecision]
    cost: str
    judged: str = ""  # on how many records
    groups: Sequence[tuple[str, list[LabelDecision]]] = ()  # the rows, see `grouped`
    weakest: str = ""  # which label is recognised worst
    errors: str = ""  # see errors_sentence

    @property
    def is_more_known(self) -> bool:
        """Whether any row says how many more positives are needed."""
        return any(row.more for row in self.rows)


def guard_decision(data: ReportData, guard: GuardEvaluation) -> GuardDecision:
    """The decision about a guard; without rows if its numbers are withheld or it has no usable scores."""
    best = recommended_estimator(guard)
    if best is None:
        sentence = f"Nothing can be decided about the guard `{guard.guard}`: it has no usable scores."
        return GuardDecision(guard.guard, sentence, None, [], "")
    if not headlined(guard):
        sentence = (
            f"Do not use the guard `{guard.guard}`: it did not keep its answer format, so its thresholds are withheld."
        )
        return GuardDecision(guard.guard, sentence, None, [], "")
    target = precision_target(best)
    rows = label_decisions(guard, best, data.label_names, confidence=data.evaluation.confidence)
    sentence = decision_sentence(guard.guard, best, rows, target)
    if data.simulated:
        sentence = (
            "The labels are simulated, so nothing can be decided from them. With labels from people, the same numbers "
            f"would mean: {sentence[:1].lower()}{sentence[1:]}"
        )
    judged = judged_finding(guard, best, data.evaluation.gold.final, data.where).sentence
    cost = cost_sentence(guard, _overall(best))
    errors = errors_sentence(best, data.taxonomy.verdict)
    weakest = weakest_label_finding(best, data.label_names, data.evaluation.confidence).sentence
    groups = grouped(rows, data.taxonomy)
    return GuardDecision(guard.guard, sentence, target, rows, cost, judged, groups, weakest, errors)


def grouped(rows: Sequence[LabelDecision], taxonomy: Taxonomy) -> list[tuple[str, list[LabelDecision]]]:
    """(heading, its rows): a heading for each broad label with its narrower ones, then those without relatives. One
    empty heading where no label has a parent."""
    groups = taxonomy.groups
    if not groups:
        return [("", list(rows))]
    by_name = {row.name: row for row in rows}
    found = [
        (name, [by_name.pop(label.name) for label in labels if label.name in by_name])
        for name, labels in groups.items()
    ]
    return [(name, of_group) for name, of_group in [*found, (OTHER_LABELS, list(by_name.values()))] if of_group]


def precision_target(best: EstimatorEvaluation) -> float | None:
    """The highest precision that the evaluation aimed at; None if evaluate.precision_targets is empty."""
    goals = (row.goal for rows in best.thresholds.labels.values() for row in rows)
    targets = [float(goal.removeprefix(PRECISION_GOAL)) for goal in goals if goal.startswith(PRECISION_GOAL)]
    return max(targets, default=None)


def label_decisions(
    guard: GuardEvaluation, best: EstimatorEvaluation, names: dict[str, str], *, confidence: float
) -> list[LabelDecision]:
    """One decision per label of the taxonomy, those without a probability last."""
    aucs = {row.label: row.metrics["roc_auc"] for row in best.labels}
    target = precision_target(best)
    rows = [
        label_decision(names.get(label, label), thresholds, aucs.get(label), target, confidence=confidence)
        for label, thresholds in best.thresholds.labels.items()
        if label != UNSAFE
    ]
    only_bounds = "the guard gives only bounds of its probability"
    rows += [LabelDecision(names.get(row.label, row.label), "cannot tell", only_bounds) for row in guard.only_bounds]
    not_scored = "the guard has no category for it"
    return rows + [
        LabelDecision(names.get(label, label), "not usable", not_scored) for label in guard.labels_not_scored
    ]


def label_decision(
    name: str, thresholds: Sequence[Threshold], auc: Metric | None, target: float | None, *, confidence: float = 0.95
) -> LabelDecision:
    """The first of the module's rules that applies to a label with these thresholds and this ROC AUC."""
    chosen = chosen_threshold(thresholds, target)
    threshold, judged = (chosen.threshold, chosen.judged_on) if chosen is not None else (None, None)

    def decided(verdict: Verdict, why: str, more: str = "") -> LabelDecision:
        return LabelDecision(name, verdict, why, threshold, judged, more)

    enough = auc is not None and auc.n >= FEW_RECORDS
    if enough and compare(auc, USEFUL_AUC, "at least") == "no":
        return decided("not usable", f"hardly better than chance: ROC AUC {as_text.with_interval(auc) if auc else ''}")
    if threshold is None:
        return decided("cannot tell", "no threshold could be chosen")
    if judged is None or judged.precision.value is None:
        return decided("cannot tell", "nothing is flagged on the test split")
    above_chance = compare(auc, as_text.CHANCE, "above") if enough else "not computed"
    if target is None:
        reaches = "no" if above_chance == "yes" else "cannot tell"
        why = "no target for precision is set"
    else:
        reaches = compare(judged.precision, target, "at least")
        position = {"yes": "reaches", "no": "is below"}.get(reaches, "may reach")
        why = f"precision {position} {as_text.percent(target)}"
    if reaches == "yes":
        return decided("block", why)
    if reaches == "no" and above_chance == "yes":
        return decided("review only", why)
    if reaches == "no":
        return decided("cannot tell", f"perhaps recognised no better than chance, so not for review either; {why}")
    more = more_positives(judged, target, confidence=confidence) if target is not None else ""
    return decided("cannot tell", why, more)


def more_positives(judged: Outcome, target: float, *, confidence: float) -> str:
    """How many more test records with the label it would take until the interval of the precision reaches `target`.

    The smallest number of flags N at which the lower Clopper-Pearson end of rate · N right flags of N is at least
    `target`, where rate is the observed precision; then positives · N / flagged, less the positives there are. It
    assumes that precision and recall stay as observed. Empty if the observed precision is not above the target, as then
    no number of records is known to be enough, and with fewer than FEW_FLAGS flags."""
    rate = judged.precision.value
    if rate is None or rate <= target or judged.flagged < FEW_FLAGS:
        return ""
    flags = _flags_needed(rate, target, error=(1 - confidence) / 2)
    if flags is None:
        return f"over {MOST_FLAGS:,}"
    more = math.ceil(judged.positives * flags / judged.flagged) - judged.positives
    if more < 1:  # the bounds of the probabilities, and not the number of records, leave it open
        return ""
    digits = max(len(str(more)) - 2, 0)
    return f"{'about ' if digits else ''}{math.ceil(more / 10**digits) * 10**digits:,}"


def _flags_needed(rate: float, target: float, *, error: float) -> int | None:
    low, high = 0, 1
    while lower_bound(rate * high, high, error=error) < target:
        low, high = high, 2 * high
        if high > MOST_FLAGS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if lower_bound(rate * middle, middle, error=error) >= target else (middle, high)
    return high


def decision_sentence(
    guard: str, best: EstimatorEvaluation, rows: Sequence[LabelDecision], target: float | None
) -> str:
    """The sentence that decides: for which labels the guard may block, and what it is good for otherwise."""
    block = [row for row in rows if row.verdict == "block"]
    open_ = [row for row in rows if row.verdict == "cannot tell"]
    review = [row for row in rows if row.verdict == "review only"]
    name = f"the guard `{guard}`"
    if not rows or best.thresholds.overall[0].judged_on is None or not best.thresholds.overall[0].judged_on.n:
        return f"Nothing can be decided about {name}: there are no test records to judge thresholds on."
    if chance_finding(chance_metric(best)[1]).answer == "no":
        return f"Do not use {name}: it ranks labels worse than chance."
    if not block and not review and not open_:
        return f"Do not use {name} for moderation: it recognises no label better than chance."
    goal = f"{as_text.percent(target)} precision" if target is not None else ""
    if block:
        sentence = f"Block automatically with {name} only for {_named(block)}: there it reaches {goal}."
    elif target is None:
        sentence = f"Do not block automatically with {name}: evaluate.precision_targets sets no target."
    elif open_:
        sentence = f"Do not block automatically with {name} yet: no label is shown to reach {goal} on these records."
    else:
        sentence = f"Do not block automatically with {name}: no label reaches {goal} on these records."
    return f"{sentence} {_review_sentence(best, bool(block))}"


def _review_sentence(best: EstimatorEvaluation, some_block: bool) -> str:
    better = chance_finding(chance_metric(best)[1]).answer == "yes"
    overall = _overall(best)
    if not better and some_block:
        return "Do not use it for the others: over all labels it is not shown to be better than chance."
    if not better:
        return "It is not shown to be better than chance, so do not use it for review either."
    if overall is None or overall.judged_on is None or overall.judged_on.precision.value is None:
        return "On the test split it flags nothing with one threshold for all labels."
    of_flags = as_text.share(overall.judged_on.precision)
    finds = as_text.share(overall.judged_on.recall)
    purpose = "Use it to flag the others for review" if some_block else "Use it to flag for review"
    return (
        f"{purpose}: with one threshold for all labels ({as_text.threshold(overall.threshold)}) it finds {finds} of "
        f"the labels that apply, and {of_flags} of its flags are right."
    )


def cost_sentence(guard: GuardEvaluation, overall: Threshold | None) -> str:
    """What the threshold for all labels together costs: wrong flags, misses and seconds; empty without test records."""
    judged = overall.judged_on if overall is not None else None
    if judged is None or not judged.n or judged.precision.value is None or judged.recall.value is None:
        return ""
    right = round(judged.precision.value * judged.flagged)
    wrong, missed = judged.flagged - right, judged.positives - right
    seconds = f"; scoring took {as_text.duration(guard.seconds / guard.records)} per record" if guard.records else ""
    return (
        f"Cost with one threshold for all labels ({as_text.threshold(overall.threshold if overall else None)}): of "
        f"{as_text.plural(judged.n, 'decision')} on the test split, {as_text.plural(judged.flagged, 'is', 'are')} "
        f"flagged, {wrong:,} of them wrongly, and {as_text.plural(missed, 'label is', 'labels are')} missed{seconds}"
    )


def errors_sentence(best: EstimatorEvaluation, verdict: str) -> str:
    """How many test records have a wrong label, and how often the verdict is wrong about records without any label;
    empty where neither is known."""
    parts = []
    start = best.review[0] if best.review else None
    if start is not None and start.subset_error_overall is not None:
        wrong, records = as_text.percent(start.subset_error_overall), as_text.plural(start.n_kept, "test record")
        parts.append(f"at the thresholds of the highest F1, {wrong} of {records} have a wrong label")
    rate = best.verdict.get("false_positive_rate")
    if rate is not None and rate.value is not None:
        flags, records = (
            as_text.share(rate),
            "records" if rate.n < FEW_RECORDS else f"of the {as_text.plural(rate.n, 'record')}",
        )
        parts.append(f"the verdict “{verdict}”, at {best.threshold:g}, wrongly flags {flags} {records} without a label")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}"


def _overall(best: EstimatorEvaluation) -> Threshold | None:
    row = best.thresholds.overall[0] if best.thresholds.overall else None
    return row if row is not None and row.threshold is not None else None


def chosen_threshold(thresholds: Sequence[Threshold], target: float | None) -> Threshold | None:
    """The threshold for the target where there is one, else that of the highest F1."""
    wanted = [f"{PRECISION_GOAL}{target:g}", "max_f1"] if target is not None else ["max_f1"]
    found = (row for goal in wanted for row in thresholds if row.goal == goal and row.threshold is not None)
    return next(found, None)


def _named(rows: Sequence[LabelDecision]) -> str:
    shown = [f"{row.name} (at {as_text.threshold(row.threshold)})" for row in rows]
    if len(shown) > MOST_NAMED:
        shown = [*shown[: MOST_NAMED - 1], f"{len(shown) - MOST_NAMED + 1} more labels (see the table)"]
    return as_text.joined(shown)
