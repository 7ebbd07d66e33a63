"""How much a 16-bit model's numbers depend on how they are computed, measured on a few records of each run.

In 16 bits the tree search and a plain forward pass over the same tokens round differently, so certified bounds hold
only up to that difference. It is measured along the greedy answers of a few records and reported with the scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from marginalia.scoring.marginal.answer_search import Node
from marginalia.scoring.marginal.record_batches import RecordBatches, RecordJob
from marginalia.scoring.models.local_model import LocalModel

ItemT = TypeVar("ItemT")

RECORDS = 4
LIKELY = 0.01  # next tokens below this probability are not compared by logarithms


@dataclass(frozen=True)
class Numerics:
    """The largest differences between the tree search and plain forward passes, over `prefixes` prefixes of `records`
    records. `nats`: of the log-probability of a likely next token; `probability`: of the probability of a prefix."""

    dtype: str
    records: int
    prefixes: int
    nats: float
    probability: float

    def __str__(self) -> str:
        return (
            f"{self.dtype}: the tree search and plain forward passes differ by up to {self.nats:.2g} nats in a next "
            f"token's log-probability and {self.probability:.2g} in the probability of an answer's prefix "
            f"({self.prefixes} prefixes of {self.records} record{'s' * (self.records != 1)}); "
            "certified bounds hold up to that"
        )


def evenly_spaced(records: Sequence[ItemT]) -> list[ItemT]:
    """At most RECORDS of `records`, evenly spaced."""
    count = min(RECORDS, len(records))
    return [records[(2 * number + 1) * len(records) // (2 * count)] for number in range(count)]


def measure(model: LocalModel, batches: RecordBatches, jobs: Iterable[RecordJob]) -> Numerics | None:
    """Scores the jobs and compares each with plain forward passes; None when none of them can be scored."""
    differences = []
    for job in [job for finished in batches.run(jobs) for job in finished if job.error is None]:
        # the scores are already written: a comparison that does not fit into memory must not end the run
        with suppress(torch.OutOfMemoryError, MemoryError):
            differences.append(_differences(model, job))
    if not differences:
        return None
    nats, probabilities, prefixes = zip(*differences, strict=True)
    return Numerics(model.dtype, len(differences), sum(prefixes), max(nats), max(probabilities))


def _differences(model: LocalModel, job: RecordJob) -> tuple[float, float, int]:
    """(nats, probability, prefixes) along the greedy answer of a finished search, also where it leaves the language."""
    steps = job.search.greedy
    ids = job.ids + [step.token for step in steps[:-1]]
    logits = model.plain_logits(ids, last=len(steps)).log_softmax(-1).double().cpu().numpy()
    nats = probability = 0.0
    plain_mass = tree_mass = 1.0  # probability of the prefix, by the plain pass and by the tree search
    node: Node | None = job.search.root
    for step, plain in zip(steps, logits, strict=True):
        if node is not None and node.moves is not None and node.masses is not None and node.mass > 0:
            allowed = plain[node.moves.ids]
            with np.errstate(divide="ignore"):
                distances = np.abs(np.log(node.masses) - np.log(node.mass) - allowed)
            nats = max(nats, float(distances[allowed >= np.log(LIKELY)].max(initial=0.0)))
            probability = max(probability, float(np.abs(node.masses - plain_mass * np.exp(allowed)).max(initial=0.0)))
        nats = max(nats, abs(float(np.log(step.probability) - plain[step.token])))
        plain_mass *= float(np.exp(plain[step.token]))
        tree_mass *= step.probability
        probability = max(probability, abs(plain_mass - tree_mass))
        children = node.children.values() if node is not None else ()
        node = next((child for child in children if child.token == step.token), None)
    return nats, probability, len(steps)
