"""The planner, for any taxonomy and any targets: what a plan promises, or one error that says what cannot be had."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from marginalia.pipeline.config.generation import PlanSection
from marginalia.pipeline.generation.label_sets import slots_by_size
from marginalia.pipeline.generation.plan_slots import plan_slots
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Label, Taxonomy


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    ids = [f"l{number}" for number in range(draw(st.integers(1, 8)))]
    withheld = draw(st.sets(st.sampled_from(ids), max_size=3))
    pairs = list(combinations(ids, 2))
    forbidden = draw(st.lists(st.sampled_from(pairs), max_size=8, unique=True)) if pairs else []
    labels = [
        Label(
            id=label_id,
            name=label_id.upper(),
            definition="x",
            generation="withheld" if label_id in withheld else "allowed",
        )
        for label_id in ids
    ]
    return Taxonomy(id="t", version="1", title="T", subject="texts", labels=labels, forbidden_pairs=forbidden)


@st.composite
def sections(draw: st.DrawFn) -> PlanSection:
    parts = draw(st.lists(st.integers(0, 4), min_size=4, max_size=4).filter(any))
    values = st.lists(st.sampled_from(["u", "v", "w", "x"]), min_size=1, max_size=4, unique=True)
    return PlanSection(
        records=draw(st.integers(1, 60)),
        shares={size: part / sum(parts) for size, part in enumerate(parts)},
        near_misses=draw(st.floats(0, 1)),
        min_per_label=draw(st.integers(0, 4)),
        min_per_pair=draw(st.integers(0, 2)),
        difficulties=draw(values),
        languages=draw(st.lists(st.sampled_from(["en", "de", "fr"]), max_size=3, unique=True)),
        attributes=draw(st.dictionaries(st.sampled_from(["form", "tone"]), values, max_size=2)),
    )


@settings(max_examples=max(1, settings().max_examples // 2))  # an error tries many plans
@given(taxonomies(), sections(), st.integers(0, 2**32))
def test_a_plan_is_what_was_asked_for(taxonomy: Taxonomy, section: PlanSection, seed: int) -> None:
    try:
        plan = plan_slots(section, taxonomy, seed)
    except InputError as error:
        assert error.hint
        if enough := re.fullmatch(r"raise plan.records to (\d+)", error.hint):
            wider = section.model_copy(update={"records": int(enough[1])})
            assert plan_slots(wider, taxonomy, seed).height == wider.records
        else:
            assert "plan.shares" in str(error)
        return
    sets = plan["labels"].to_list()
    assert plan.height == section.records == plan["slot_id"].n_unique()
    assert Counter(map(len, sets)) == {
        n: count for n, count in slots_by_size(plan.height, section.shares).items() if count
    }

    writable, forbidden = set(taxonomy.writable), {frozenset(pair) for pair in taxonomy.forbidden_pairs}
    near = plan["near_miss_of"].drop_nulls().to_list()
    assert writable.issuperset(near) and all(writable.issuperset(labels) for labels in sets)
    assert all(len(set(labels)) == len(labels) for labels in sets)
    paired = Counter(frozenset(pair) for labels in sets for pair in combinations(labels, 2))
    assert not forbidden & paired.keys()
    assert all(paired[frozenset(pair)] >= section.min_per_pair for pair in taxonomy.allowed_pairs())
    single = Counter(label for labels in sets for label in labels)
    assert all(single[label] >= section.min_per_label for label in writable)

    free = plan.filter(plan["labels"].list.len() == 0)
    assert len(near) == free["near_miss_of"].count() == (round(section.near_misses * free.height) if writable else 0)
    assert _even([near.count(label) for label in writable])
    for name, values in {**section.attributes, "language": section.languages or [taxonomy.language]}.items():
        assert _even([plan[name].to_list().count(value) for value in values]), name
    labelled = plan.filter(plan["labels"].list.len() > 0)["difficulty"].to_list()
    assert _even([labelled.count(value) for value in section.difficulties])
    assert plan_slots(section, taxonomy, seed).equals(plan)


def _even(counts: list[int]) -> bool:
    return not counts or max(counts) - min(counts) <= 1
