"""How far a 16-bit model's numbers depend on the way they are computed, measured on a few records of each run.

In 16 bits the tree search and a plain forward pass over the same tokens round differently, so a certified bound holds
up to that difference. It is measured along the greedy answers of a few records and told with the scores."""

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
    """The largest differences between the tree search and plain forward passes. `nats`: of the log-probability of a
    likely next token; `probability`: of the probability of an answer's prefix; over so many prefixes of `records`."""

    dtype: str
    records: int
    prefixes: int
    nats: float
    probability: float

    def __str__(self) -> str:
        return (
            f"{self.dtype}: the tree search and plain forward passes differ by up to {self.nats:.2g} nats in a next "
            f"token's log-probability and {self.probability:.2g} in the probability of an answer's prefix "
            f"({self.prefixes} prefixes of {self.records} records); certified bounds hold up to that"
        )


def chosen(records: Sequence[ItemT]) -> list[ItemT]:
    """RECORDS of them at most, evenly spaced."""
    count = min(RECORDS, len(records))
    return [records[(2 * number + 1) * len(records) // (2 * count)] for number in range(count)]


def measure(model: LocalModel, flow: RecordBatches, jobs: Iterable[RecordJob]) -> Numerics | None:
    """Runs the jobs and compares; None where none of them can be scored."""
    found = []
    for job in [job for done in flow.run(jobs) for job in done if job.error is None]:
        # what was scored is kept: a pass that does not fit into memory is no reason to end the run
        with suppress(torch.OutOfMemoryError, MemoryError):
            found.append(_differences(model, job))
    if not found:
        return None
    nats, probabilities, prefixes = zip(*found, strict=True)
    return Numerics(model.dtype, len(found), sum(prefixes), max(nats), max(probabilities))


def _differences(model: LocalModel, job: RecordJob) -> tuple[float, float, int]:
    """(nats, probability, prefixes) along the greedy answer of a finished search, in the language and outside."""
    steps = job.search.greedy
    ids = job.ids + [step.token for step in steps[:-1]]
    logits = model.plain_logits(ids, last=len(steps)).log_softmax(-1).double().cpu().numpy()
    nats = probability = 0.0
    mass = ours = 1.0  # of the prefix, by the plain pass and by the tree search
    node: Node | None = job.search.root
    for step, plain in zip(steps, logits, strict=True):
        if node is not None and node.moves is not None and node.masses is not None and node.mass > 0:
            allowed = plain[node.moves.ids]
            with np.errstate(divide="ignore"):
                apart = np.abs(np.log(node.masses) - np.log(node.mass) - allowed)
            nats = max(nats, float(apart[allowed >= np.log(LIKELY)].max(initial=0.0)))
            probability = max(probability, float(np.abs(node.masses - mass * np.exp(allowed)).max(initial=0.0)))
        nats = max(nats, abs(float(np.log(step.probability) - plain[step.token])))
        mass, ours = mass * float(np.exp(plain[step.token])), ours * step.probability
        probability = max(probability, abs(mass - ours))
        children = node.children.values() if node is not None else ()
        node = next((child for child in children if child.token == step.token), None)
    return nats, probability, len(steps)
