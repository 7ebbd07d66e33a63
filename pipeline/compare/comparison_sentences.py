"""The sentences of a comparison: its decision and its cost. Page, terminal and JSON have the same ones."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.compare.comparison_model import (
    ComparedRunSummary,
    CostOfLabel,
    EqualRecall,
    GuardForLabel,
    LabelChoice,
    Use,
)
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.decision import MOST_NAMED
from marginalia.schemas.evaluation_json import Metric
from marginalia.scoring.measures.conclusions import range_is_wide

Names = tuple[str, str]  # of guards a and b


def side_names(a: ComparedRunSummary, b: ComparedRunSummary) -> Names:
    """The first of these that differs: the names of the guards, of the runs, or of the guards with their estimators;
    "a" and "b" if nothing differs."""
    candidates = (
        (a.guard, b.guard),
        (a.run, b.run),
        (f"{a.guard} {a.estimator}", f"{b.guard} {b.estimator}"),
    )
    return next((pair for pair in candidates if pair[0] != pair[1]), ("a", "b"))


def use_text(choice: LabelChoice, names: Names, target: float | None) -> str:
    """The guard to use, or the outcome in words: "no guard reaches 90 %"."""
    if choice.use in ("a", "b"):
        return f"use {names[choice.use == 'b']}"
    if choice.use == "no guard reaches the promise" and target is not None:
        return f"no guard reaches {as_text.percent(target)}"
    return choice.use


def decision_sentence(
    names: Names, choices: Sequence[LabelChoice], target: float | None, *, withheld: Sequence[str], simulated: bool
) -> str:
    """The sentence that decides: which guard for which label, and for which labels these records do not decide."""
    sentence = _sentence(names, choices, target, withheld)
    if simulated:
        return f"Nothing can be decided from simulated labels. If people had given them: {sentence}"
    return sentence


def _sentence(names: Names, choices: Sequence[LabelChoice], target: float | None, withheld: Sequence[str]) -> str:
    if withheld:
        return f"Nothing is decided: {as_text.joined(withheld)} did not keep the answer format."
    if all(row.use == "not computed" for row in choices):
        reasons = dict.fromkeys(row.why for row in choices)
        why = next(iter(reasons)) if len(reasons) == 1 else "the table says why for each label"
        return f"Nothing is decided between {names[0]} and {names[1]}: {why}."
    used = [(name, [row for row in choices if row.use == use]) for name, use in zip(names, ("a", "b"), strict=True)]
    parts = [
        f"{name} for {_with_thresholds(rows, len(choices))}"
        for name, rows in sorted(used, key=lambda pair: -len(pair[1]))
        if rows
    ]
    sentences = [f"Use {as_text.joined(parts)}."] if parts else []
    sentences += [_promise([row for _, rows in used for row in rows], target) if parts else ""]
    sentences += [_not_chosen(names, choices, target, some_used=bool(parts))]
    return " ".join(sentence for sentence in sentences if sentence)


def _with_thresholds(rows: Sequence[LabelChoice], labels: int) -> str:
    """The labels of one guard with its thresholds; only their number if there are many."""
    if len(rows) == labels > MOST_NAMED:
        return f"all {labels} labels"
    return _listed([f"{row.name} (at {as_text.threshold(_used(row).threshold)})" for row in rows])


def _listed(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMED:
        names = [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more labels (see the table)"]
    return as_text.joined(names)


def _few_or_number(rows: Sequence[LabelChoice]) -> str:
    few = [row.name for row in rows]
    return as_text.joined(few) if len(few) <= MOST_NAMED else f"{len(few)} labels"


def _used(row: LabelChoice) -> GuardForLabel:
    used = row.a if row.use == "a" else row.b
    assert used is not None
    return used


def _promise(used: Sequence[LabelChoice], target: float | None) -> str:
    """For which labels the chosen guard is shown to reach the target."""
    if target is None:
        return ""
    goal = f"{as_text.percent(target)} precision"
    reaching = [row.name for row in used if _used(row).reaches == "yes"]
    if not reaching:
        return f"There, {goal} is not shown, so review what is flagged instead of blocking it."
    if len(reaching) == len(used):
        return f"There, {goal} is shown."
    return f"Of these, {goal} is shown only for {_listed(reaching)}."


def _not_chosen(names: Names, choices: Sequence[LabelChoice], target: float | None, *, some_used: bool) -> str:
    """What is known of the labels for which no guard is chosen; empty if there are none."""
    outcomes: tuple[Use, ...] = ("cannot tell", "no guard reaches the promise", "not computed")
    groups = {outcome: [row for row in choices if row.use == outcome] for outcome in outcomes}
    rest = sum(map(len, groups.values()))

    def labels(rows: Sequence[LabelChoice]) -> str:
        if len(rows) == len(choices):
            return "any label"
        if len(rows) == rest and some_used:
            return f"the other {len(rows)} labels" if len(rows) > 1 else rows[0].name
        return _few_or_number(rows)

    sentences = []
    if undecided := groups["cannot tell"]:
        apart = all(row.finding == "no clear difference" for row in undecided)
        both = "them" if some_used else f"{names[0]} and {names[1]}"
        verb = f"cannot tell {both} apart" if apart else f"do not decide between {both}"
        sentences.append(f"These records {verb} for {labels(undecided)}.")
    if short := groups["no guard reaches the promise"]:
        sentences.append(f"No guard reaches {as_text.percent(target)} precision at its threshold for {labels(short)}.")
    if not_computed := groups["not computed"]:
        sentences.append(f"Not compared: {_few_or_number(not_computed)}.")
    return " ".join(sentences)


def rate(value: float | None, sign: str = "") -> str:
    """A number per 1,000 records, such as "1,234"; with sign "+" a difference, such as "+12"."""
    return "—" if value is None else f"{value:{sign}z,.0f}".replace("-", "−")


def rate_details(metric: Metric, sign: str = "") -> list[str]:
    """The interval of a number per 1,000 records and, where it is wide, what the bounds allow."""
    lines = []
    if metric.low is not None and metric.high is not None:
        lines.append(f"{rate(metric.low, sign)} to {rate(metric.high, sign)}")
    if range_is_wide(metric):
        lines.append(f"bounds allow {rate(metric.range_low, sign)} to {rate(metric.range_high, sign)}")
    return lines


def recall_sentence(names: Names, recall: float, overall: CostOfLabel | None) -> str:
    """What equal recall costs over all labels together: whose false alarms are fewer, if that is shown."""
    at = f"At {as_text.percent(recall)} recall"
    if overall is None or overall.difference.value is None:
        return f"{at}, the costs of {names[0]} and {names[1]} are not compared: too few shared records"
    value = ", ".join([rate(overall.difference.value, "+"), *rate_details(overall.difference, "+")])
    numbers = f"{names[1]} minus {names[0]}: {value} per 1,000 records"
    if overall.finding in ("better", "worse"):
        fewer, more = reversed(names) if overall.finding == "better" else names
        return f"{at} of {overall.name}, {fewer} raises clearly fewer false alarms than {more} ({numbers})"
    if overall.finding == "no clear difference":
        explained = as_text.BOUNDS_EXPLAIN if as_text.explained_by_bounds(overall.finding, overall.difference) else ""
        return f"{at} of {overall.name}, no clear difference in false alarms ({numbers}){explained}"
    return f"{at} of {overall.name}, the difference in false alarms is not tested ({numbers})"


def costs_title(names: Names, costs: EqualRecall) -> str:
    """Title of the plot by label: on how many labels the observed false alarms of either guard are fewer."""
    values = [(row.a.false_alarms.value or 0.0, row.b.false_alarms.value or 0.0) for row in costs.labels]
    first, second = sum(a < b for a, b in values), sum(b < a for a, b in values)
    labels = as_text.plural(len(values), "label")
    return (
        f"At {as_text.percent(costs.recall)} recall, {names[0]} raised fewer false alarms on these records for {first} "
        f"of {labels}, and {names[1]} for {second}"
    )


def cost_finding(row: CostOfLabel) -> str:
    """What the difference in false alarms shows, in words."""
    explained = as_text.BOUNDS_EXPLAIN if as_text.explained_by_bounds(row.finding, row.difference) else ""
    words = {"better": "clearly fewer", "worse": "clearly more", "not known": "not computed"}
    return words.get(row.finding, row.finding) + explained


def speed_sentence(names: Names, a: ComparedRunSummary, b: ComparedRunSummary) -> str:
    """What scoring a record took; empty if neither run recorded it."""
    parts = []
    for name, side in zip(names, (a, b), strict=True):
        took = [as_text.duration(side.seconds)] if side.seconds is not None else []
        if side.forward_passes is not None:
            took.append(f"{as_text.number(side.forward_passes, 1)} forward passes")
        parts += [f"{name} took {' and '.join(took)}"] if took else []
    return f"Per record, {'; '.join(parts)}" if parts else ""
