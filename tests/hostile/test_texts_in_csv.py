"""Attack: texts that a spreadsheet takes for formulas, in the CSV of `marginalia paper`."""

from __future__ import annotations

import csv
import io

import pytest

from marginalia.pipeline.paper.metric_table import Cost, PaperTable, empty_line
from tests.hostile.texts import VALUES

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=cmd|"/c calc"!A1']


@pytest.mark.parametrize("text", [*FORMULAS, *VALUES])
def test_no_cell_is_a_formula_and_no_text_is_a_new_row_or_column(text: str) -> None:
    cost = Cost(any_place_passes=1, published_seconds=1, marginalia_passes=1, marginalia_nodes=1, marginalia_seconds=1)
    lines = [empty_line(text, 3, text), empty_line("greedy", 3, "no scores")]
    table = PaperTable(
        model=text, guard=text, labels=[text], records=3, failed=0, top_p=1, eps=0, tolerance=0, node_budget=1,
        off_language=0, widest=0, lines=lines, cost=cost, notes=[text],
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(table.csv(), newline="")))
    assert len(rows) == 3 and len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    assert rows[1][0].removeprefix("'") == text.replace("\r", "\n")
