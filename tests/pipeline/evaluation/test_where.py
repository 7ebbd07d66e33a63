"""evaluate.where: only records with the given attributes are judged."""

from __future__ import annotations

import polars as pl
import pytest

from marginalia.pipeline.evaluation.evaluate_guards import chosen_gold
from marginalia.schemas.errors import InputError

GOLD = pl.DataFrame({"id": ["a", "b", "c"]})
ATTRIBUTES = pl.DataFrame(
    {
        "id": ["a", "b", "c", "a"],
        "name": ["source", "source", "source", "tone"],
        "value": ["included", "generated", "included", "polite"],
    }
)


def test_all_records_without_conditions() -> None:
    assert chosen_gold(GOLD, None, {})["id"].to_list() == ["a", "b", "c"]


def test_every_condition_must_hold() -> None:
    assert chosen_gold(GOLD, ATTRIBUTES, {"source": "included"})["id"].to_list() == ["a", "c"]
    assert chosen_gold(GOLD, ATTRIBUTES, {"source": "included", "tone": "polite"})["id"].to_list() == ["a"]


def test_a_condition_that_no_record_meets_lists_the_values() -> None:
    with pytest.raises(InputError, match=r"no record has source = x; values: \['generated', 'included'\]"):
        chosen_gold(GOLD, ATTRIBUTES, {"source": "x"})


def test_conditions_need_attributes() -> None:
    with pytest.raises(InputError, match="needs attributes"):
        chosen_gold(GOLD, None, {"source": "included"})
