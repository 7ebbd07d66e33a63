"""From the taxonomy and a number of records to the slots that are to be filled."""

from __future__ import annotations

import random
from typing import Any

import polars as pl

from marginalia.pipeline.config.generation import PlanSection
from marginalia.pipeline.generation.label_sets import check_targets, label_sets
from marginalia.schemas.tables import PlannedSlot
from marginalia.schemas.taxonomy import Taxonomy

UNRELATED, LOOK_ALIKE = "unrelated", "look-alike"  # difficulties of texts without a label


def plan_slots(section: PlanSection, taxonomy: Taxonomy, seed: int) -> pl.DataFrame:
    """The plan: one row a slot with slot_id, labels, difficulty, near_miss_of (a label's id, null unless the text is to
    look like that label without being it), language and the section's attributes, in random order.

    The same section, taxonomy and seed give the same plan. Labels that are withheld from generation are never in it.
    Raises InputError when a target of the section cannot be met, with the number to raise."""
    sets = label_sets(section, taxonomy, section.records, seed)
    check_targets(section, taxonomy, sets, seed)
    order = random.Random(f"{seed}:plan")
    order.shuffle(sets)
    near = _near_misses(section, taxonomy, sets, order)
    columns: dict[str, Any] = {
        "slot_id": [f"slot-{number:0{len(str(len(sets)))}d}" for number in range(1, len(sets) + 1)],
        "labels": sets,
        "difficulty": _difficulties(section, sets, near, order),
        "near_miss_of": near,
        "language": _spread(section.languages or [taxonomy.language], sets, order),
    }
    for name, values in section.attributes.items():
        columns[name] = _spread(values, sets, order)
    text_columns = {name: pl.String() for name in columns if name != "labels"}
    schema = {**text_columns, **PlannedSlot.polars_schema()}
    return pl.DataFrame(columns, schema={name: schema[name] for name in columns})


def _near_misses(
    section: PlanSection, taxonomy: Taxonomy, sets: list[list[str]], order: random.Random
) -> list[str | None]:
    """For the planned share of the label-free slots, the label that each is to look like; every label equally often."""
    free = [number for number, labels in enumerate(sets) if not labels]
    wanted = round(section.near_misses * len(free)) if taxonomy.writable else 0
    models = list(taxonomy.writable)
    order.shuffle(models)
    near: list[str | None] = [None] * len(sets)
    for place, number in enumerate(order.sample(free, wanted)):
        near[number] = models[place % len(models)]
    return near


def _difficulties(
    section: PlanSection, sets: list[list[str]], near: list[str | None], order: random.Random
) -> list[str]:
    labelled = [number for number, labels in enumerate(sets) if labels]
    values = _spread(section.difficulties, [sets[number] for number in labelled], order)
    by_slot = dict(zip(labelled, values, strict=True))
    return [by_slot.get(number) or (LOOK_ALIKE if near[number] else UNRELATED) for number in range(len(sets))]


def _spread(values: list[str], sets: list[list[str]], order: random.Random) -> list[str]:
    """One value a slot: each used equally often (to within one) overall, and as evenly as that allows in each label."""
    overall = dict.fromkeys(values, 0)
    inside: dict[str, dict[str, int]] = {}
    chosen = [""] * len(sets)
    for number in order.sample(range(len(sets)), len(sets)):
        fewest = min(overall.values())
        counts = [inside.setdefault(label, dict.fromkeys(values, 0)) for label in sets[number] or [""]]
        open_values = [value for value in values if overall[value] == fewest]
        cost = {value: sum(count[value] for count in counts) for value in open_values}
        lowest = min(cost.values())
        value = order.choice([value for value in open_values if cost[value] == lowest])
        overall[value] += 1
        for count in counts:
            count[value] += 1
        chosen[number] = value
    return chosen
