"""Guards side by side: what the second and further ones do better or worse than the first."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.plots import Axis, Mark, PlotRow, forest, nice_axis
from marginalia.pipeline.report.report_data import Figure
from marginalia.schemas.evaluation_json import Evaluation, GuardDifference


@dataclass(frozen=True)
class SideBySide:
    reference: str
    figure: Figure
    guards: list[str]
    rows: list[tuple[str, list[GuardDifference | None]]]  # metric, a cell for each guard


def side_by_side(evaluation: Evaluation) -> SideBySide | None:
    """None with fewer than two guards that can be compared."""
    found = evaluation.guard_differences
    if not found:
        return None
    names = list(dict.fromkeys(row.metric for row in found))
    guards = list(dict.fromkeys(row.guard for row in found))
    by_key = {(row.guard, row.metric): row for row in found}
    rows = [(name, [by_key.get((guard, name)) for guard in guards]) for name in names]
    return SideBySide(found[0].reference, _figure(found), guards, rows)


def _figure(found: list[GuardDifference]) -> Figure:
    ends = [abs(end) for row in found for end in (row.difference.value, row.difference.low, row.difference.high) if end]
    reach = nice_axis(max([*ends, 0.01]), "").high
    rows = [
        PlotRow(
            f"{row.guard}: {as_text.NAMES[row.metric]}"
            if len({one.guard for one in found}) > 1
            else as_text.NAMES[row.metric],
            [Mark(row.difference.value, row.difference.low, row.difference.high, 1, note=row.difference.reason or "")],
            as_text.signed(row.difference.value, 3) + (f" {row.finding}" if row.finding in ("better", "worse") else ""),
        )
        for row in found
    ]
    title = _finding(found)
    axis = Axis(-reach, reach, f"difference from {found[0].reference}", 0.0, "no difference", ticks=4)
    note = (
        f"Each point is the guard less {found[0].reference} over {as_text.plural(found[0].difference.n, 'record')} and "
        f"{as_text.plural(len(found[0].labels), 'label')} that both judged. Right of the line is more, which for false "
        "positives and Brier score is worse."
    )
    return Figure(title, forest(rows, axis, alt=title), note)


def _finding(found: list[GuardDifference]) -> str:
    """Which guard is best in the metric that is tested."""
    first = found[0].reference
    by_guard = {row.guard: row for row in found if row.tested and row.finding != "not known"}
    better = [guard for guard, row in by_guard.items() if row.finding == "better"]
    worse = [guard for guard, row in by_guard.items() if row.finding == "worse"]
    if not by_guard:
        return f"Too few records to tell {as_text.listed([first, *dict.fromkeys(row.guard for row in found)])} apart"
    what = as_text.listed(list(dict.fromkeys(_at(row.metric) for row in by_guard.values())))
    parts = [
        f"{as_text.listed(guards)} {'is' if len(guards) == 1 else 'are'} clearly {word}"
        for word, guards in (("better", better), ("worse", worse))
        if guards
    ]
    if not parts:
        return f"No guard is clearly better or worse than {first} at {what}"
    return f"{', '.join(parts)} than {first} at {what}"


def _at(metric: str) -> str:
    ranks = metric.endswith(("roc_auc", "average_precision"))
    return f"{'ranking' if ranks else 'deciding on'} labels ({as_text.NAMES[metric]})"
