"""Findings about paired differences: between the guards of a run, and between two runs."""

from __future__ import annotations

from collections.abc import Sequence

from marginalia.pipeline.report.as_text import (
    BOUNDS_EXPLAIN,
    NAMES,
    explained_by_bounds,
    joined,
    plural,
    signed_interval,
)
from marginalia.pipeline.report.finding import FROM_PAIRED, Finding
from marginalia.schemas.evaluation_json import Finding as PairedFinding
from marginalia.schemas.evaluation_json import GuardDifference, Metric
from marginalia.scoring.measures.conclusions import FEW_RECORDS


def guards_finding(differences: Sequence[GuardDifference]) -> Finding:
    """Is any guard clearly better or worse than the first, in the tested metric? Never `no`: that no difference is
    clear does not show that there is none."""
    reference = differences[0].reference
    by_guard = {row.guard: row for row in differences if row.tested and _is_known(row)}
    if not by_guard:
        names = dict.fromkeys([reference, *(row.guard for row in differences)])
        return Finding("not computed", f"Too few records to tell {joined(list(names))} apart")
    tested_metrics = joined(list(dict.fromkeys(_at(row.metric) for row in by_guard.values())))
    findings = [
        f"{joined(guards)} {'is' if len(guards) == 1 else 'are'} clearly {word}"
        for word in ("better", "worse")
        if (guards := [guard for guard, row in by_guard.items() if row.finding == word])
    ]
    if not findings:
        return Finding("cannot tell", f"No guard is clearly better or worse than {reference} at {tested_metrics}")
    return Finding("yes", f"{', '.join(findings)} than {reference} at {tested_metrics}")


def runs_finding(a: str, b: str, metric: str, difference: Metric | None, finding: PairedFinding) -> Finding:
    """Is run `b` better than run `a` in the tested metric? `no`: it is worse. `difference`: b minus a, paired."""
    if difference is None or finding == "not known" or difference.n < FEW_RECORDS:
        return Finding(
            "not computed",
            f"It is not known whether {b} is better or worse than {a}: no tested metric has a paired interval",
        )
    name, answer = NAMES[metric], FROM_PAIRED[finding]
    if answer in ("yes", "no"):
        ends = f" (difference {signed_interval(difference)}, {plural(difference.n, 'record')})"
        return Finding(answer, f"{b} is clearly {finding} than {a} in {name}{ends}")
    explained = BOUNDS_EXPLAIN if explained_by_bounds(finding, difference) else ""
    return Finding(answer, f"No clear difference between {a} and {b} in {name}{explained}")


def _is_known(row: GuardDifference) -> bool:
    return row.finding != "not known" and row.difference.n >= FEW_RECORDS


def _at(metric: str) -> str:
    is_ranking = metric.endswith(("roc_auc", "average_precision"))
    return f"{'ranking' if is_ranking else 'deciding on'} labels ({NAMES[metric]})"
