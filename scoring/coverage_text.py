"""How a guard covers the labels of a policy, as lines for the terminal."""

from __future__ import annotations

import sys

from marginalia.schemas.label_coverage import GuardCoverage, LabelCoverage
from marginalia.schemas.terminal import table

KINDS = {"exact": "exact", "union": "union", "bounds": "only bounds"}


def print_coverage(guard: str, coverage: GuardCoverage | None) -> None:
    """Prints the coverage to stderr, before a guard whose categories differ from the labels is used."""
    if coverage is not None:
        print("\n".join(coverage_lines(guard, coverage)), file=sys.stderr)


def coverage_lines(guard: str, coverage: GuardCoverage) -> list[str]:
    """How many labels the guard covers, then a row for each way in which it does."""
    rows = []
    for kind, title in KINDS.items():
        if labels := [label for label in coverage.labels if label.kind == kind]:
            rows.append((title, "; ".join(map(consists_of, labels))))
    if coverage.not_covered:
        rows.append(("not covered", ", ".join(coverage.not_covered)))
    if coverage.unused:
        rows.append(("not used", f"its categories {', '.join(coverage.unused)}"))
    total = len(coverage.labels) + len(coverage.not_covered)
    return [f"{guard} covers {len(coverage.labels)} of {total} labels", *table([], rows).splitlines()]


def consists_of(label: LabelCoverage) -> str:
    """`violence = violent_crimes or weapons`, `slurs = a part of hate`, or `hate` where the category has that name."""
    if label.any_of == [label.label] and not label.part_of:
        return label.label
    inside = f"{label.label} = {' or '.join(label.any_of)}" if label.any_of else label.label
    if not label.part_of:
        return inside
    part = f"a part of {' or '.join(label.part_of)}"
    return f"{inside} or {part}" if label.any_of else f"{inside} = {part}"
