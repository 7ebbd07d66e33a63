"""The report's section "Guards side by side": differences between the first guard and each other one."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.comparison_findings import guards_finding
from marginalia.pipeline.report.estimator_findings import name_tested_metric
from marginalia.pipeline.report.figure_csv import rows_csv
from marginalia.pipeline.report.plots import Axis, Mark, PlotRow, forest, nice_axis
from marginalia.pipeline.report.report_data import Figure, headlined, recommended_estimator
from marginalia.schemas.evaluation_json import Evaluation, GuardDifference


@dataclass(frozen=True)
class SideBySide:
    """`reference` is the first guard. `rows`: a metric and its difference for each of `guards`. `tested`: which metric
    is tested. `labels`: one sentence for each guard that does not cover the same labels as the first, with those that
    are compared."""

    reference: str
    figure: Figure | None  # None if no guard shares a label with the first
    guards: list[str]
    rows: list[tuple[str, list[GuardDifference | None]]]
    tested: str
    labels: list[str]


def side_by_side(evaluation: Evaluation, primary: str, label_names: dict[str, str]) -> SideBySide | None:
    """The section; None with fewer than two guards that can be compared. `primary`: evaluate.primary."""
    differences = evaluation.guard_differences
    labels_of = {
        guard.guard: [row.label for row in best.labels]
        for guard in evaluation.guards
        if headlined(guard) and (best := recommended_estimator(guard)) is not None
    }
    labels = _compared_labels(labels_of, label_names)
    if not differences and not labels:
        return None
    if not differences:
        return SideBySide(next(iter(labels_of)), None, [], [], "", labels)
    names = list(dict.fromkeys(row.metric for row in differences))
    guards = list(dict.fromkeys(row.guard for row in differences))
    by_key = {(row.guard, row.metric): row for row in differences}
    rows = [(name, [by_key.get((guard, name)) for guard in guards]) for name in names]
    tested = name_tested_metric([row.metric for row in differences if row.tested], primary)
    return SideBySide(differences[0].reference, _figure(differences), guards, rows, tested, labels)


def _compared_labels(labels_of: dict[str, list[str]], names: dict[str, str]) -> list[str]:
    """A sentence for each guard whose labels differ from those of the first."""

    def listed(labels: list[str]) -> str:
        return as_text.joined([names.get(label, label) for label in labels])

    sentences = []
    (first, of_first), *others = labels_of.items() or [("", [])]
    for guard, own in others:
        shared = [label for label in of_first if label in own]
        only_first = [label for label in of_first if label not in own]
        only_own = [label for label in own if label not in of_first]
        if not shared:
            sentences.append(f"{guard} and {first} have no label in common, so they are not compared")
        elif only_first or only_own:
            left_out = [
                f"{listed(labels)} (only {name})" for name, labels in ((first, only_first), (guard, only_own)) if labels
            ]
            compared = f"{guard} and {first} are compared over {listed(shared)}"
            sentences.append(f"{compared}. Left out: {as_text.joined(left_out)}")
    return sentences


def _figure(differences: list[GuardDifference]) -> Figure:
    reference = differences[0].reference
    ends = [
        abs(end)
        for row in differences
        for end in (row.difference.value, row.difference.low, row.difference.high)
        if end
    ]
    limit = nice_axis(max([*ends, 0.01]), "").high
    rows = [
        PlotRow(
            f"{row.guard}: {as_text.NAMES[row.metric]}"
            if len({other.guard for other in differences}) > 1
            else as_text.NAMES[row.metric],
            [Mark(row.difference.value, row.difference.low, row.difference.high, 1, note=row.difference.reason or "")],
            as_text.signed(row.difference.value, 3) + (f" {row.finding}" if row.finding in ("better", "worse") else ""),
        )
        for row in differences
    ]
    finding = guards_finding(differences)
    axis = Axis(-limit, limit, f"difference from {reference}", 0.0, "no difference", ticks=4)
    note = (
        f"Each point is the guard minus {reference} over {as_text.plural(differences[0].difference.n, 'record')} and "
        f"{_label_counts(differences)} that both judged. Right of the dashed line the "
        f"guard is higher than {reference}. For losses, the Brier score and false positives, higher is worse."
    )
    n = as_text.plural(differences[0].difference.n, "record")
    return Figure(finding.title, forest(rows, axis, alt=finding.aria), note, n, rows_csv(rows, ("difference",)))


def _label_counts(differences: list[GuardDifference]) -> str:
    counts = sorted({len(row.labels) for row in differences})
    return as_text.plural(counts[0], "label") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} labels"
