"""A comparison as the terminal shows it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from marginalia.pipeline.compare.comparison_model import (
    Comparison,
    ComparisonDecision,
    CostOfLabel,
    EqualRecall,
    GuardForLabel,
    LabelChoice,
    MetricRow,
)
from marginalia.pipeline.compare.comparison_sentences import (
    Names,
    cost_finding,
    rate,
    rate_details,
    side_names,
    speed_sentence,
    use_text,
)
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.comparison_findings import runs_finding
from marginalia.pipeline.report.plots import truncated
from marginalia.schemas.evaluation_json import Metric
from marginalia.schemas.text_checks import one_line

LONGEST_NAME = 15  # characters of a guard's name in a table
WIDEST = 34  # characters of a setting's value that are shown
ONE_LINE = 120  # columns of a terminal in which a number, with three decimals, and its interval share a line
TESTED = "; what is not called better, worse or no clear difference is descriptive"
NARROWEST = 40  # columns; narrower terminals break the lines
FINDINGS = {
    "better": "b is better",
    "worse": "b is worse",
    "no clear difference": "no clear difference",
    "not known": "",
    "descriptive": "descriptive",
}


def comparison_table(comparison: Comparison, width: int | None = None) -> str:
    """The decision and what equal recall costs; then the settings that differ, the metrics of both runs with their
    difference, and the ROC AUC of each label. `width`: columns; None: those of the terminal."""
    width = width or shutil.get_terminal_size().columns
    a, b = comparison.a, comparison.b
    names = side_names(a, b)
    blocks = [
        *(_wrapped(f"{letter}  {side.run}: {side.estimator} of guard {side.guard}{_model(side.model)}, "
            f"{as_text.plural(side.records, 'record')}", width)
          for letter, side in (("a", a), ("b", b))),
        *(_wrapped(f"note: {note}", width) for note in comparison.notes),
    ]  # fmt: skip
    if comparison.decision is not None:
        blocks += ["", *_decision(comparison.decision, names, width)]
    if comparison.equal_recall is not None:
        blocks += ["", *_costs(comparison.equal_recall, names, width)]
        speed = speed_sentence(names, a, b)
        blocks += [_wrapped(f"{speed}.", width)] if speed else []
    differing = [[row.what, _shortened(row.a), _shortened(row.b)] for row in comparison.differing]
    blocks += ["", "what differs" if differing else "config, gold, taxonomy and versions are the same"]
    blocks += [_table(["", "a", "b"], differing, width)] if differing else []
    confidence = as_text.percent(comparison.confidence)
    shared = as_text.plural(comparison.shared.judged, "shared record")
    blocks += ["", _wrapped(f"metrics; b minus a over {shared}, {confidence} intervals{TESTED}", width)]
    rows = [[as_text.NAMES[row.metric], *_cells(row, width)] for row in comparison.metrics]
    blocks += [_table(["", "a", "b", "b minus a", ""], rows, width)]
    labels = [[row.label, *_cells(row, width)] for row in comparison.labels if row.metric == "roc_auc"]
    blocks += ["", "ROC AUC of each label", _table(["", "a", "b", "b minus a", ""], labels, width)]
    return "\n".join(blocks)


def comparison_finding(comparison: Comparison) -> str:
    """The headline of the metrics: which guard is better in the tested metric, if its interval shows that."""
    row = next((row for row in comparison.metrics if row.tested and row.finding != "not known"), None)
    a, b = side_names(comparison.a, comparison.b)
    if row is None:
        return runs_finding(a, b, "", None, "not known").sentence
    return runs_finding(a, b, row.metric, row.difference, row.finding).sentence


def _decision(decision: ComparisonDecision, names: Names, width: int) -> list[str]:
    """The sentence that decides, then each label with a line for each guard and one for their difference."""
    groups = []
    for row in decision.labels:
        sides = zip(names, (row.a, row.b), strict=True)
        lines = [[truncated(name, LONGEST_NAME), *_judged(side)] for name, side in sides if side is not None]
        lines += [["b minus a", *_difference(row, decision.metric)]] if row.difference is not None else []
        judged = next((side.judged for side in (row.a, row.b) if side is not None and side.judged is not None), None)
        positive = f" ({judged.positives} of {judged.n} positive)" if judged is not None else ""
        groups.append((f"{row.name}{positive}: {use_text(row, names, decision.target)}; {row.why}", lines))
    note = (
        "Thresholds are those of each run's thresholds.json; precision and recall are on the test split. The intervals "
        "of b minus a hold for all labels at once."
    )
    head = ["", "threshold", "precision", "recall"]
    return [_wrapped(decision.sentence, width), "", *_grouped(head, groups, width), _wrapped(note, width)]


def _judged(side: GuardForLabel) -> list[str]:
    at, judged = as_text.threshold(side.threshold), side.judged
    if judged is None:
        return [at, "—", "—"]
    return [at, as_text.share(judged.precision), as_text.share(judged.recall)]


def _difference(row: LabelChoice, metric: str) -> list[str]:
    if row.difference is None or row.difference.value is None:
        return ["—"]
    ends = [as_text.signed_interval(row.difference, 3), as_text.bounds(row.difference, 3)]
    value = as_text.signed(row.difference.value, 3)
    return [f"{as_text.NAMES[metric]} {_with_details(value, [end for end in ends if end])}"]


def _costs(costs: EqualRecall, names: Names, width: int) -> list[str]:
    """The sentence on equal recall, then all labels together and each label, with a line for each guard and one for
    their difference."""
    lines = [_wrapped(f"{costs.sentence}.", width)]
    if costs.overall is None:
        return lines
    groups = [(row.name, _cost_lines(row, names)) for row in (costs.overall, *costs.labels)]
    note = (
        "Flags and false alarms are per 1,000 records. Optimistic: each threshold is chosen on the records that it is "
        "measured on. Use these numbers to compare the guards, not to plan."
    )
    head = ["", "recall", "flags", "false alarms", "precision"]
    return [*lines, "", *_grouped(head, groups, width), _wrapped(note, width)]


def _cost_lines(row: CostOfLabel, names: Names) -> list[list[str]]:
    lines = [
        [
            truncated(name, LONGEST_NAME),
            as_text.percent(side.recall),
            rate(side.flags.value),
            _with_details(rate(side.false_alarms.value), rate_details(side.false_alarms)[:1]).replace(" to ", "–"),
            as_text.number(side.precision.value),
        ]
        for name, side in zip(names, (row.a, row.b), strict=True)
    ]
    difference = _with_details(rate(row.difference.value, "+"), rate_details(row.difference, "+"))
    return [*lines, ["b minus a", f"false alarms {difference} {cost_finding(row)}"]]


def _grouped(head: Sequence[str], groups: Sequence[tuple[str, list[list[str]]]], width: int) -> list[str]:
    """Groups of lines under their titles, with the same columns in all groups; where these do not fit, each line names
    its numbers. A line of two cells is a sentence."""
    rows = [list(head), *(row if len(row) == len(head) else row[:1] for _, lines in groups for row in lines)]
    widths = [max(len(row[column]) for row in rows if len(row) > column) for column in range(len(head))]

    fits = 2 + sum(widths) + 2 * (len(widths) - 1) <= width

    def line(row: Sequence[str]) -> str:
        if len(row) == len(head) and not fits:
            named = [f"{name} {cell}" for name, cell in zip(head[1:], row[1:], strict=True)]
            return _printed(Text(f"{row[0]}: {', '.join(named)}"), width - 2, indent="  ")
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        return _printed(Text("  ".join(cells)), width - 2, indent="  ")

    shown = [line(head)] if fits else []
    for title, lines in groups:
        shown += [_wrapped(title, width), *map(line, lines)]
    return shown


def _with_details(value: str, details: Sequence[str]) -> str:
    return f"{value} ({'; '.join(details)})" if details else value


def _cells(row: MetricRow, width: int) -> list[str]:
    def cell(metric: Metric | None) -> str:
        return "—" if metric is None else as_text.with_interval(metric, 3 if width >= ONE_LINE else 2)

    difference = "—"
    if row.difference is not None and row.difference.value is not None:
        interval, bounds = as_text.signed_interval(row.difference, 3), as_text.bounds(row.difference, 3)
        details = [part for part in (interval, bounds) if part]
        difference = _with_details(as_text.signed(row.difference.value, 3), details)
    explained = as_text.BOUNDS_EXPLAIN if as_text.explained_by_bounds(row.finding, row.difference) else ""
    cells = [cell(row.a), cell(row.b), difference, FINDINGS[row.finding] + explained]
    if width >= ONE_LINE:
        return cells
    first, second, paired, found = (text.replace(" (", "\n(", 1) for text in cells)
    lines = [paired, *([found] if row.finding != "descriptive" and found else [])]
    return [first.replace(" to ", "–"), second.replace(" to ", "–"), "\n".join(lines), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """A table of at most `width` columns; cells that do not fit take several lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    used = [column for column in range(len(head)) if head[column] or any(row[column] for row in rows)]
    for column in used:
        longest_word = max((len(word) for row in rows for word in row[column].split()), default=0)
        table.add_column(Text(head[column]), overflow="fold", min_width=min(longest_word, LONGEST_NAME))
    for row in rows:
        table.add_row(*(Text(row[column]) for column in used))
    return _printed(table, width - 2, indent="  ")


def _wrapped(text: str, width: int) -> str:
    return _printed(Text(one_line(text)), width)


def _printed(shown: Table | Text, width: int, indent: str = "") -> str:
    """Plain text, whatever the terminal and its environment variables are."""
    console = Console(
        file=io.StringIO(),
        width=max(width, NARROWEST),
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
    )
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(f"{indent}{line}".rstrip() for line in captured.get().splitlines())


def _model(model: str | None) -> str:
    return f" ({model})" if model else ""


def _shortened(value: str | None) -> str:
    if value is None:
        return "—"
    return truncated(" ".join(value.split()), WIDEST)
