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

from scoring.flow import Flow, Job
from scoring.models.local import LocalModel
from scoring.search import Node, Search

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


def measure(model: LocalModel, flow: Flow, jobs: Iterable[Job]) -> Numerics | None:
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


def _differences(model: LocalModel, job: Job) -> tuple[float, float, int]:
    """(nats, probability, prefixes) along the greedy answer of a finished search, as far as it is in the language."""
    nodes = _greedy(job.search)
    logits = model.plain_logits(job.ids + nodes[-1].path(), last=len(nodes)).log_softmax(-1).double().cpu().numpy()
    nats = probability = 0.0
    mass = 1.0  # of the prefix, by the plain passes
    for at, node in enumerate(nodes):
        assert node.moves is not None and node.masses is not None
        if at:
            mass *= float(np.exp(logits[at - 1, node.token]))
        plain = logits[at, node.moves.ids]
        with np.errstate(divide="ignore"):
            ours = np.log(node.masses) - np.log(node.mass)
        likely = plain >= np.log(LIKELY)
        nats = max(nats, float(np.abs(ours - plain)[likely].max(initial=0.0)))
        probability = max(probability, float(np.abs(node.masses - mass * np.exp(plain)).max(initial=0.0)))
    return nats, probability, len(nodes)


def _greedy(search: Search) -> list[Node]:
    """The prefixes of the greedy answer that were evaluated inside the language, the root first."""
    nodes = [search.root]
    for step in search.greedy:
        after = [node for node in nodes[-1].children.values() if node.token == step.token]
        if step.ends or not after or after[0].masses is None or after[0].mass <= 0:
            break
        nodes.append(after[0])
    return nodes
