"""The label sets of a plan: their sizes follow plan.shares, and labels and pairs are used evenly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from marginalia.pipeline.config.generation import PlanSection
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy

_MOST_RECORDS = 1_000_000  # the largest plan that is tried
_MOST_PAIRS_TRIED = 50_000  # allowed pairs up to which the number of records that is enough is found by trying
_UNUSABLE = 1e18  # a cost above all others
Numbers = NDArray[np.float64]


def slots_by_size(records: int, shares: dict[int, float]) -> dict[int, int]:
    """The number of slots by their number of labels. Rounded by largest remainders, to add up to `records`."""
    exact = {size: records * share for size, share in shares.items()}
    counts = {size: int(value + 1e-9) for size, value in exact.items()}
    by_remainder = sorted(exact, key=lambda size: (counts[size] - exact[size], size))
    for size in by_remainder[: records - sum(counts.values())]:
        counts[size] += 1
    return counts


def label_sets(section: PlanSection, taxonomy: Taxonomy, records: int, seed: int) -> list[list[str]]:
    """`records` label sets, the largest first and the empty ones last. The labels of a set are in taxonomy order.

    Each set takes the rarest pair so far (of equals that with the rarest labels, then at random); a set of one takes
    the rarest label. Raises InputError when the taxonomy allows no set of a size in `plan.shares`."""
    counts = slots_by_size(records, section.shares)
    _check_sizes(section, taxonomy)
    picker = _LabelSetPicker(taxonomy, np.random.default_rng([seed, 1]))
    sets = [picker.pick(size) for size in (3, 2, 1) for _ in range(counts.get(size, 0))]
    return sets + [[] for _ in range(counts.get(0, 0))]


def check_targets(section: PlanSection, taxonomy: Taxonomy, sets: list[list[str]], seed: int) -> None:
    """Raises InputError when a label or an allowed pair has too few sets, with the number of records that is enough."""
    shortage = _shortage(section, taxonomy, sets)
    if shortage is None:
        return
    if len(taxonomy.allowed_pairs()) > _MOST_PAIRS_TRIED:
        least = _least_records(section, taxonomy)
        hint = f"raise plan.records to {least} or more" if least else "raise the shares of larger sets in plan.shares"
        raise InputError(f"{shortage} with plan.records {section.records}", hint=hint)
    enough = _enough_records(section, taxonomy, seed)
    if enough is None:
        raise InputError(
            f"{shortage}, and no number of records is enough", hint="raise the shares of larger sets in plan.shares"
        )
    raise InputError(f"{shortage} with plan.records {section.records}", hint=f"raise plan.records to {enough}")


def _shortage(section: PlanSection, taxonomy: Taxonomy, sets: list[list[str]]) -> str | None:
    """Which label or pair has too few sets; None when all have enough."""
    labels = dict.fromkeys(taxonomy.writable, 0)
    pairs = dict.fromkeys(taxonomy.allowed_pairs(), 0)
    for chosen in sets:
        for number, label in enumerate(chosen):
            labels[label] += 1
            for other in chosen[number + 1 :]:
                pairs[label, other] += 1
    label = min(labels, key=labels.__getitem__)
    if labels[label] < section.min_per_label:
        return f"label '{label}' gets {labels[label]} of plan.min_per_label {section.min_per_label} texts"
    if pairs:
        pair = min(pairs, key=pairs.__getitem__)
        if pairs[pair] < section.min_per_pair:
            return (
                f"the pair {pair[0]} + {pair[1]} gets {pairs[pair]} of plan.min_per_pair {section.min_per_pair} texts"
            )
    return None


def _least_records(section: PlanSection, taxonomy: Taxonomy) -> int | None:
    """A number of records below which the targets cannot be met; None when no number of records can meet them."""
    labels = sum(size * share for size, share in section.shares.items())
    pairs = sum(size * (size - 1) / 2 * share for size, share in section.shares.items())
    if not labels or (section.min_per_pair and not pairs):
        return None
    least = len(taxonomy.writable) * section.min_per_label / labels
    if section.min_per_pair:
        least = max(least, len(taxonomy.allowed_pairs()) * section.min_per_pair / pairs)
    return max(math.ceil(least), section.records + 1)


def _enough_records(section: PlanSection, taxonomy: Taxonomy, seed: int) -> int | None:
    """A number of records that meets the targets: doubled until it does, then narrowed by bisection. None when there
    is none."""

    def fits(records: int) -> bool:
        return _shortage(section, taxonomy, label_sets(section, taxonomy, records, seed)) is None

    largest = max((size for size, share in section.shares.items() if share), default=0)
    if largest == 0 or (largest == 1 and section.min_per_pair):
        return None
    low, high = section.records, section.records * 2
    while not fits(high):
        low, high = high, high * 2
        if high > _MOST_RECORDS:
            return None
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _check_sizes(section: PlanSection, taxonomy: Taxonomy) -> None:
    asked = [size for size, share in section.shares.items() if share > 0]
    if not taxonomy.writable and any(asked):
        raise InputError("every label of the taxonomy has generation: withheld", hint="set plan.shares to {0: 1}")
    most = _largest_set(taxonomy)
    if max(asked) > most:
        raise InputError(
            f"plan.shares asks for texts with {max(asked)} labels, but the taxonomy allows at most {most} together",
            hint=f"give that share to {most} or fewer",
        )


def _largest_set(taxonomy: Taxonomy) -> int:
    """The size of the largest allowed label set, at most 3."""
    pairs = set(taxonomy.allowed_pairs())
    if not pairs:
        return 1
    order = taxonomy.writable
    for first, second in pairs:
        for third in order[order.index(second) + 1 :]:
            if (first, third) in pairs and (second, third) in pairs:
                return 3
    return 2


class _LabelSetPicker:
    """Picks label sets one after the other, keeping the counts of pairs and labels even."""

    def __init__(self, taxonomy: Taxonomy, random: np.random.Generator) -> None:
        self.ids = taxonomy.writable
        self.random = random
        index = {label: number for number, label in enumerate(self.ids)}
        self.pairs = np.array([(index[a], index[b]) for a, b in taxonomy.allowed_pairs()], dtype=int).reshape(-1, 2)
        size = len(self.ids)
        self.allowed = np.zeros((size, size), dtype=bool)
        self.allowed[self.pairs[:, 0], self.pairs[:, 1]] = True
        self.allowed |= self.allowed.T
        self.by_label = np.zeros(size)
        self.by_pair = np.zeros((size, size))
        # by pair: whether a third label may be added to it
        first, second = self.pairs[:, 0], self.pairs[:, 1]
        self.extendable = (self.allowed[first] & self.allowed[second]).any(axis=1)

    def pick(self, size: int) -> list[str]:
        if size == 1:
            chosen = [self._lowest(self.by_label)]
        else:
            first, second = self.pairs[:, 0], self.pairs[:, 1]
            cost = self._first_then(self.by_pair[first, second], self.by_label[first] + self.by_label[second])
            if size == 3:
                cost = np.where(self.extendable, cost, _UNUSABLE)
            chosen = [int(index) for index in self.pairs[self._lowest(cost)]]
        if size == 3:
            a, b = chosen
            cost = self._first_then(self.by_pair[a] + self.by_pair[b], self.by_label)
            chosen.append(self._lowest(np.where(self.allowed[a] & self.allowed[b], cost, _UNUSABLE)))
        self._count(chosen)
        return [self.ids[index] for index in sorted(chosen)]

    def _first_then(self, first: Numbers, second: Numbers) -> Numbers:
        """A cost that orders by `first`, and where that is equal by `second`."""
        return first * (float(second.max(initial=0)) + 1) + second

    def _lowest(self, cost: Numbers) -> int:
        best = np.flatnonzero(cost == cost.min())
        return int(best[self.random.integers(len(best))])

    def _count(self, chosen: list[int]) -> None:
        self.by_label[chosen] += 1
        for a in chosen:
            for b in chosen:
                if a != b:
                    self.by_pair[a, b] += 1
