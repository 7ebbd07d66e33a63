"""How evenly a plan covers the taxonomy."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.terminal import table, wrapped


@dataclass(frozen=True)
class Coverage:
    """Counts of a plan. `matrix[i][j]` is the number of slots with labels i and j, on the diagonal those with label i.
    `sizes` counts slots by their number of labels, `attributes` by the value of each attribute. `uncovered` are allowed
    pairs without a slot.

    `str()` is the report of `marginalia plan --show`."""

    labels: list[str]
    matrix: list[list[int]]
    sizes: dict[int, int]
    attributes: dict[str, dict[str, int]]
    allowed_pairs: int
    uncovered: list[tuple[str, str]]

    @property
    def data(self) -> dict[str, Any]:
        """The same counts for `--json`."""
        return {**asdict(self), "uncovered": [list(pair) for pair in self.uncovered]}

    def __str__(self) -> str:
        numbers = [str(number) for number in range(1, len(self.labels) + 1)]
        rows = [
            [f"{number} {label}", *(str(value or "·") for value in row)]
            for number, label, row in zip(numbers, self.labels, self.matrix, strict=True)
        ]
        covered = self.allowed_pairs - len(self.uncovered)
        sizes = ", ".join(f"{count} with {size}" for size, count in self.sizes.items())
        lines = [f"labels per text: {sizes}", f"pairs covered: {covered} of {self.allowed_pairs} allowed"]
        for name, counts in self.attributes.items():
            lines.append(f"{name}: " + ", ".join(f"{value} {count}" for value, count in counts.items()))
        return f"{table(['', *numbers], rows)}\n\n{wrapped(chr(10).join(lines))}"


def coverage(plan: pl.DataFrame, taxonomy: Taxonomy) -> Coverage:
    """The coverage of a plan (columns of plan.parquet) over the labels of `taxonomy`, including withheld ones."""
    index = {label: number for number, label in enumerate(taxonomy.ids)}
    matrix = [[0] * len(index) for _ in index]
    sizes: Counter[int] = Counter()
    for labels in plan["labels"].to_list():
        sizes[len(labels)] += 1
        for first in labels:
            for second in labels:
                matrix[index[first]][index[second]] += 1
    pairs = taxonomy.allowed_pairs()
    attributes = {
        name: {str(value): count for value, count in sorted(Counter(plan[name].drop_nulls().to_list()).items())}
        for name in plan.columns
        if name not in ("slot_id", "labels")
    }
    return Coverage(
        labels=taxonomy.ids,
        matrix=matrix,
        sizes=dict(sorted(sizes.items())),
        attributes=attributes,
        allowed_pairs=len(pairs),
        uncovered=[(a, b) for a, b in pairs if not matrix[index[a]][index[b]]],
    )
