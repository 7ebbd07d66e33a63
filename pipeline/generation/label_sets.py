"""Which label sets to write: sizes by their shares, pairs and labels spread evenly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marginalia.pipeline.config.generation import PlanSection
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy

_MOST_RECORDS = 1_000_000  # no plan is searched beyond this
_UNUSABLE = 1e18
Numbers = NDArray[np.float64]


def slots_by_size(records: int, shares: dict[int, float]) -> dict[int, int]:
    """How many of `records` slots have each number of labels: largest remainders, so that the sum is exact."""
    exact = {size: records * share for size, share in shares.items()}
    counts = {size: int(value + 1e-9) for size, value in exact.items()}
    by_remainder = sorted(exact, key=lambda size: (counts[size] - exact[size], size))
    for size in by_remainder[: records - sum(counts.values())]:
        counts[size] += 1
    return counts


def label_sets(section: PlanSection, taxonomy: Taxonomy, records: int, seed: int) -> list[list[str]]:
    """`records` label sets in taxonomy order inside each, larger sets first; the empty ones last.

    Each next set takes the rarest pair so far (then the rarest labels, then chance), each single the rarest label.
    Raises InputError when the taxonomy has no set of a size that `plan.shares` asks for."""
    counts = slots_by_size(records, section.shares)
    _check_sizes(section, taxonomy)
    spread = _Spread(taxonomy, np.random.default_rng([seed, 1]))
    sets = [spread.take(size) for size in (3, 2, 1) for _ in range(counts.get(size, 0))]
    return sets + [[] for _ in range(counts.get(0, 0))]


def check_targets(section: PlanSection, taxonomy: Taxonomy, sets: list[list[str]], seed: int) -> None:
    """Raises InputError when a label or an allowed pair has too few sets, with the number of records that would do."""
    lacking = _lacking(section, taxonomy, sets)
    if lacking is None:
        return
    enough = _enough_records(section, taxonomy, seed)
    if enough is None:
        raise InputError(f"{lacking}, and no number of records would do", hint="raise the larger sizes in plan.shares")
    raise InputError(f"{lacking} with plan.records {section.records}", hint=f"raise plan.records to {enough}")


def _lacking(section: PlanSection, taxonomy: Taxonomy, sets: list[list[str]]) -> str | None:
    labels = dict.fromkeys(taxonomy.writable, 0)
    pairs = dict.fromkeys(taxonomy.allowed_pairs(), 0)
    for chosen in sets:
        for number, label in enumerate(chosen):
            labels[label] += 1
            for other in chosen[number + 1 :]:
                pairs[label, other] += 1
    label = min(labels, key=lambda each: labels[each])
    if labels[label] < section.min_per_label:
        return f"label '{label}' gets {labels[label]} of plan.min_per_label {section.min_per_label} texts"
    if pairs:
        pair = min(pairs, key=lambda each: pairs[each])
        if pairs[pair] < section.min_per_pair:
            return (
                f"the pair {pair[0]} + {pair[1]} gets {pairs[pair]} of plan.min_per_pair {section.min_per_pair} texts"
            )
    return None


def _enough_records(section: PlanSection, taxonomy: Taxonomy, seed: int) -> int | None:
    """The smallest number found that meets the targets: doubled until it does, then halved between."""

    def fits(records: int) -> bool:
        return _lacking(section, taxonomy, label_sets(section, taxonomy, records, seed)) is None

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
        raise InputError("every label of the taxonomy says generation: withheld", hint="set plan.shares to {0: 1}")
    most = _largest_set(taxonomy)
    if max(asked) > most:
        raise InputError(
            f"plan.shares asks for texts with {max(asked)} labels, but at most {most} labels may stand together",
            hint=f"give that share to {most} or fewer",
        )


def _largest_set(taxonomy: Taxonomy) -> int:
    """How many labels (at most 3) may stand together."""
    pairs = set(taxonomy.allowed_pairs())
    if not pairs:
        return 1
    order = taxonomy.writable
    for first, second in pairs:
        for third in order[order.index(second) + 1 :]:
            if (first, third) in pairs and (second, third) in pairs:
                return 3
    return 2


class _Spread:
    """Takes label sets one after the other, keeping the counts of pairs and labels even."""

    def __init__(self, taxonomy: Taxonomy, random: np.random.Generator) -> None:
        self.ids = taxonomy.writable
        self.random = random
        place = {label: number for number, label in enumerate(self.ids)}
        self.pairs = np.array([(place[a], place[b]) for a, b in taxonomy.allowed_pairs()], dtype=int).reshape(-1, 2)
        size = len(self.ids)
        self.allowed = np.zeros((size, size), dtype=bool)
        self.allowed[self.pairs[:, 0], self.pairs[:, 1]] = True
        self.allowed |= self.allowed.T
        self.by_label = np.zeros(size)
        self.by_pair = np.zeros((size, size))
        # pairs that some third label may join
        first, second = self.pairs[:, 0], self.pairs[:, 1]
        self.extendable = (self.allowed[first] & self.allowed[second]).any(axis=1)

    def take(self, size: int) -> list[str]:
        if size == 1:
            chosen = [self._lowest(self.by_label)]
        else:
            first, second = self.pairs[:, 0], self.pairs[:, 1]
            cost = self._first_then(self.by_pair[first, second], self.by_label[first] + self.by_label[second])
            if size == 3:
                cost = np.where(self.extendable, cost, _UNUSABLE)
            chosen = [int(place) for place in self.pairs[self._lowest(cost)]]
        if size == 3:
            a, b = chosen
            cost = self._first_then(self.by_pair[a] + self.by_pair[b], self.by_label)
            chosen.append(self._lowest(np.where(self.allowed[a] & self.allowed[b], cost, _UNUSABLE)))
        self._count(chosen)
        return [self.ids[place] for place in sorted(chosen)]

    def _first_then(self, first: Numbers, second: Numbers) -> Numbers:
        """Ordered by `first`; where that is equal, by `second`."""
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
