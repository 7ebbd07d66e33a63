"""How a guard covers the labels of a policy, as lines for the terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap

from marginalia.schemas.label_coverage import GuardCoverage, LabelCoverage

KINDS = {"exact": "exact", "union": "union", "bounds": "only bounds"}
COLUMN = 13  # characters of the first column, with its space


def print_coverage(guard: str, coverage: GuardCoverage | None) -> None:
    """Prints the coverage to stderr, before a guard whose categories differ from the labels is used."""
    if coverage is not None:
        print("\n".join(coverage_lines(guard, coverage, shutil.get_terminal_size().columns)), file=sys.stderr)


def coverage_lines(guard: str, coverage: GuardCoverage, width: int) -> list[str]:
    """One line for each way in which labels are covered, wrapped at `width` characters."""
    total = len(coverage.labels) + len(coverage.not_covered)
    lines = [f"{guard} covers {len(coverage.labels)} of {total} labels"]
    for kind, title in KINDS.items():
        if labels := [label for label in coverage.labels if label.kind == kind]:
            lines += _row(title, "; ".join(map(consists_of, labels)), width)
    if coverage.not_covered:
        lines += _row("not covered", ", ".join(coverage.not_covered), width)
    if coverage.unused:
        lines += _row("not used", f"its categories {', '.join(coverage.unused)}", width)
    return lines


def consists_of(label: LabelCoverage) -> str:
    """`violence = violent_crimes or weapons`, `slurs = a part of hate`, or `hate` where the category has that name."""
    if label.any_of == [label.label] and not label.part_of:
        return label.label
    inside = f"{label.label} = {' or '.join(label.any_of)}" if label.any_of else label.label
    if not label.part_of:
        return inside
    part = f"a part of {' or '.join(label.part_of)}"
    return f"{inside} or {part}" if label.any_of else f"{inside} = {part}"


def _row(title: str, text: str, width: int) -> list[str]:
    indent = " " * (COLUMN + 2)
    wrapped = textwrap.wrap(text, max(width, 40) - len(indent), break_long_words=False, break_on_hyphens=False)
    return [f"  {title:{COLUMN}}{wrapped[0]}", *(indent + line for line in wrapped[1:])]
