from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marginalia.pipeline.config.generation import PlanSection
from marginalia.pipeline.generation.label_sets import slots_by_size
from marginalia.pipeline.generation.plan_coverage import coverage
from marginalia.pipeline.generation.plan_slots import plan_slots
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy

NO_TARGETS = {"min_per_label": 0}


def _pairs(plan: pl.DataFrame) -> Counter[tuple[str, str]]:
    return Counter(pair for labels in plan["labels"].to_list() for pair in combinations(labels, 2))


def test_the_sizes_follow_the_shares_and_add_up() -> None:
    assert slots_by_size(10, {0: 0.25, 1: 0.4, 2: 0.25, 3: 0.1}) == {0: 3, 1: 4, 2: 2, 3: 1}
    assert slots_by_size(60, {0: 0.25, 1: 0.4, 2: 0.25, 3: 0.1}) == {0: 15, 1: 24, 2: 15, 3: 6}


@given(
    records=st.integers(1, 500),
    weights=st.lists(st.integers(0, 10), min_size=4, max_size=4).filter(any),
)
def test_the_sizes_are_within_one_of_their_shares(records: int, weights: list[int]) -> None:
    shares = {size: weight / sum(weights) for size, weight in enumerate(weights)}
    counts = slots_by_size(records, shares)
    assert sum(counts.values()) == records
    assert all(abs(counts[size] - records * share) < 1 for size, share in shares.items())


def test_the_same_seed_gives_the_same_plan_and_another_seed_another(taxonomy: Taxonomy) -> None:
    section = PlanSection(records=40)
    assert plan_slots(section, taxonomy, 1).equals(plan_slots(section, taxonomy, 1))
    assert not plan_slots(section, taxonomy, 1).equals(plan_slots(section, taxonomy, 2))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), records=st.integers(1, 120))
def test_no_plan_has_a_withheld_label_or_a_forbidden_pair(seed: int, records: int) -> None:
    taxonomy = load_taxonomy("llama-guard-3").model_copy(update={"forbidden_pairs": [("hate", "elections")]})
    plan = plan_slots(PlanSection(records=records, **NO_TARGETS), taxonomy, seed)
    used = {label for labels in plan["labels"].to_list() for label in labels} | set(plan["near_miss_of"].drop_nulls())
    assert used <= set(taxonomy.writable)
    assert "child_sexual_exploitation" not in used
    assert set(_pairs(plan)) <= set(taxonomy.allowed_pairs())
    assert all(len(labels) == len(set(labels)) for labels in plan["labels"].to_list())
    assert plan.height == records == plan["slot_id"].n_unique()


def test_pairs_and_labels_are_spread_evenly() -> None:
    taxonomy = load_taxonomy("support-tickets")
    plan = plan_slots(PlanSection(records=66, shares={2: 1.0}), taxonomy, 3)
    assert set(_pairs(plan).values()) == {1}  # 66 allowed pairs, each once
    singles = plan_slots(PlanSection(records=60, shares={1: 1.0}), taxonomy, 3)
    assert set(Counter(labels[0] for labels in singles["labels"].to_list()).values()) == {5}


def test_attributes_are_used_equally_often(taxonomy: Taxonomy) -> None:
    section = PlanSection(records=61, attributes={"tone": ["a", "b", "c"]}, languages=["en", "de"])
    plan = plan_slots(section, taxonomy, 5)
    for name in ("tone", "language"):
        counts = Counter(plan[name].to_list()).values()
        assert max(counts) - min(counts) <= 1
    labelled = plan.filter(pl.col("labels").list.len() > 0)
    counts = Counter(labelled["difficulty"].to_list())
    assert set(counts) == {"blatant", "plain", "veiled"}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_texts_without_a_label_are_half_look_alikes_of_all_labels(taxonomy: Taxonomy) -> None:
    plan = plan_slots(PlanSection(records=40, shares={0: 0.5, 1: 0.5}), taxonomy, 5)
    free = plan.filter(pl.col("labels").list.len() == 0)
    assert Counter(free["difficulty"].to_list()) == {"look-alike": 10, "unrelated": 10}
    assert Counter(free["near_miss_of"].drop_nulls().to_list()) == dict.fromkeys(taxonomy.writable, 2)
    assert plan.filter(pl.col("labels").list.len() > 0)["near_miss_of"].null_count() == 20


def test_attribute_values_are_even_inside_each_label(taxonomy: Taxonomy) -> None:
    plan = plan_slots(PlanSection(records=60, shares={1: 1.0}, attributes={"tone": ["a", "b", "c"]}), taxonomy, 5)
    table = Counter((row["labels"][0], row["tone"]) for row in plan.iter_rows(named=True))
    assert len(table) == 15  # five labels of 12 texts each, three tones: every label meets every tone
    assert max(table.values()) - min(table.values()) <= 2


@pytest.mark.parametrize("targets", [{"min_per_label": 12}, {"min_per_pair": 4}])
def test_a_target_out_of_reach_says_which_number_would_do(taxonomy: Taxonomy, targets: dict[str, int]) -> None:
    section = PlanSection(records=20, **targets)
    with pytest.raises(InputError, match=r"with plan\.records 20 \(raise plan\.records to \d+\)") as error:
        plan_slots(section, taxonomy, 1)
    enough = int(re.findall(r"to (\d+)\)", str(error.value))[0])
    plan = plan_slots(section.model_copy(update={"records": enough}), taxonomy, 1)
    counts = Counter(label for labels in plan["labels"].to_list() for label in labels)
    assert min(counts[label] for label in taxonomy.writable) >= targets.get("min_per_label", 0)
    assert min(_pairs(plan)[pair] for pair in taxonomy.allowed_pairs()) >= targets.get("min_per_pair", 0)
    with pytest.raises(InputError):
        plan_slots(section.model_copy(update={"records": enough - 5}), taxonomy, 1)


def test_pairs_asked_for_without_any_text_of_two_labels(taxonomy: Taxonomy) -> None:
    section = PlanSection(records=20, shares={1: 1.0}, min_per_pair=1)
    with pytest.raises(
        InputError, match=r"no number of records is enough \(raise the shares of larger sets in plan\.shares\)"
    ):
        plan_slots(section, taxonomy, 1)


def test_more_labels_at_once_than_the_taxonomy_allows(taxonomy: Taxonomy) -> None:
    two = taxonomy.model_copy(update={"labels": taxonomy.labels[:2], "forbidden_pairs": []})
    with pytest.raises(InputError, match=r"texts with 3 labels, but the taxonomy allows at most 2 together"):
        plan_slots(PlanSection(), two, 1)
    plan = plan_slots(PlanSection(records=12, shares={0: 0.5, 2: 0.5}), two, 1)
    assert _pairs(plan) == {("parcel", "invoice"): 6}


def test_triples_keep_to_labels_that_all_go_together() -> None:
    taxonomy = load_taxonomy("support-tickets")
    kept = ["late_delivery", "return", "refund", "invoice"]
    ids = taxonomy.ids
    forbidden = [pair for pair in combinations(ids, 2) if not set(pair) <= set(kept[:3]) and set(pair) & set(kept[:3])]
    only = taxonomy.model_copy(update={"forbidden_pairs": forbidden})
    plan = plan_slots(PlanSection(records=9, shares={3: 1.0}, **NO_TARGETS), only, 2)
    assert set(_pairs(plan)) <= set(only.allowed_pairs())


def test_the_coverage_matrix_counts_labels_and_pairs(taxonomy: Taxonomy) -> None:
    plan = pl.DataFrame(
        {
            "slot_id": ["a", "b", "c"],
            "labels": [["parcel", "invoice"], ["parcel"], []],
            "tone": ["x", "y", "x"],
        },
        schema_overrides={"labels": pl.List(pl.String())},
    )
    counts = coverage(plan, taxonomy)
    assert counts.matrix[0][:2] == [2, 1]
    assert counts.matrix[1][:2] == [1, 1]
    assert counts.sizes == {0: 1, 1: 1, 2: 1}
    assert counts.attributes == {"tone": {"x": 2, "y": 1}}
    assert counts.allowed_pairs == 9  # ten pairs of five writable labels, one forbidden
    assert ("parcel", "invoice") not in counts.uncovered
    assert len(counts.uncovered) == 8
    printed = str(counts)
    assert "pairs covered: 1 of 9 allowed" in printed
    assert re.search(r"1 parcel +2 +1", printed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": {0: 0.5, 1: 0.4}}, "add up to 0.9"),
        ({"shares": {4: 1.0}}, "0 to 3 labels, saw 4"),
        ({"attributes": {"labels": ["x"]}}, "'labels' is not a valid attribute name"),
        ({"attributes": {"tone": ["x", "x"]}}, "lists 'x' twice"),
        ({"attributes": {"tone": []}}, "at least one value"),
    ],
)
def test_a_wrong_plan_section_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanSection.model_validate(change)
