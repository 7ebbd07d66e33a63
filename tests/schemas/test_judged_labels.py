from __future__ import annotations

import polars as pl

from marginalia.schemas.judged_labels import judged_cells, verdict_judged

FRAME = pl.DataFrame(
    {
        "labels": [["a"], [], [], [], ["b"], None],
        "judged": [None, None, ["a", "b", "c"], ["a", "b"], ["b"], ["a"]],
    },
    schema={"labels": pl.List(pl.String), "judged": pl.List(pl.String)},
)


def test_null_means_that_all_labels_were_judged() -> None:
    assert judged_cells(FRAME["judged"], ["a", "b", "c"]).tolist() == [
        [True, True, True],
        [True, True, True],
        [True, True, True],
        [True, True, False],
        [False, True, False],
        [True, False, False],
    ]
    assert judged_cells(FRAME["judged"], []).shape == (6, 0)


def test_a_record_without_labels_is_safe_only_if_all_labels_were_judged() -> None:
    assert verdict_judged(FRAME, ["a", "b", "c"]).tolist() == [True, True, True, False, True, False]
