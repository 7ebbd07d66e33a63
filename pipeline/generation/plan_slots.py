"""Plans the slots: for each text to write, its labels and attributes."""

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
    """The plan: one row per slot, in random order, with slot_id, labels, difficulty, near_miss_of (the id of the label
    that a text without labels should resemble, or null), language and the section's attributes.

    The same section, taxonomy and seed give the same plan. Labels withheld from generation are never in it. Raises
    InputError when a target of the section cannot be met; its hint says what to raise."""
    sets = label_sets(section, taxonomy, section.records, seed)
    check_targets(section, taxonomy, sets, seed)
    order = random.Random(f"{seed}:plan")
    order.shuffle(sets)
    near_misses = _near_misses(section, taxonomy, sets, order)
    columns: dict[str, Any] = {
        "slot_id": [f"slot-{number:0{len(str(len(sets)))}d}" for number in range(1, len(sets) + 1)],
        "labels": sets,
        "difficulty": _difficulties(section, sets, near_misses, order),
        "near_miss_of": near_misses,
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
    """By slot: the label that the text should resemble, or None. Of the slots without labels, the share
    plan.near_misses has one; every label is used equally often."""
    without_labels = [slot for slot, labels in enumerate(sets) if not labels]
    count = round(section.near_misses * len(without_labels)) if taxonomy.writable else 0
    resembled = list(taxonomy.writable)
    order.shuffle(resembled)
    near_misses: list[str | None] = [None] * len(sets)
    for number, slot in enumerate(order.sample(without_labels, count)):
        near_misses[slot] = resembled[number % len(resembled)]
    return near_misses


def _difficulties(
    section: PlanSection, sets: list[list[str]], near_misses: list[str | None], order: random.Random
) -> list[str]:
    labelled = [slot for slot, labels in enumerate(sets) if labels]
    values = _spread(section.difficulties, [sets[slot] for slot in labelled], order)
    by_slot = dict(zip(labelled, values, strict=True))
    return [by_slot.get(slot) or (LOOK_ALIKE if near_misses[slot] else UNRELATED) for slot in range(len(sets))]


def _spread(values: list[str], sets: list[list[str]], order: random.Random) -> list[str]:
    """One value per slot. Each is used equally often (within one) overall, and as evenly as possible for each label."""
    overall = dict.fromkeys(values, 0)
    by_label: dict[str, dict[str, int]] = {}
    chosen = [""] * len(sets)
    for slot in order.sample(range(len(sets)), len(sets)):
        fewest = min(overall.values())
        counts = [by_label.setdefault(label, dict.fromkeys(values, 0)) for label in sets[slot] or [""]]
        rarest = [value for value in values if overall[value] == fewest]
        cost = {value: sum(count[value] for count in counts) for value in rarest}
        lowest = min(cost.values())
        value = order.choice([value for value in rarest if cost[value] == lowest])
        overall[value] += 1
        for count in counts:
            count[value] += 1
        chosen[slot] = value
    return chosen
