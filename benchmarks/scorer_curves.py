"""How the scorer's cost depends on the tolerance, the number of labels, the batch size and the length of the text."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from marginalia.schemas.taxonomy import Label, Taxonomy, load_taxonomy
from marginalia.scoring.guard import load_guard
from marginalia.scoring.scorer import Scorer

Record = tuple[str, list[dict[str, str]]]


def curves(scorer: Scorer, batch: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """One row per point: what was varied, its value, and the cost per record. `scorer` has the demo guard."""
    settings = scorer.settings
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        scorer.settings = settings.model_copy(update={"tolerance": tolerance, "node_budget": 4096})
        yield measured(scorer, batch, "tolerance", tolerance)
    for size in (1, 4, 16, 32):
        scorer.settings = settings.model_copy(update={"batch_records": size})
        yield measured(scorer, [*batch, *copies(batch)], "records at a time", size)
    scorer.settings = settings
    for words in (16, 64, 256):
        yield measured(scorer, [longer(record, words) for record in batch], "words a text", words)
    for count in (5, 14, 50):
        guard = load_guard("support-tickets", with_labels(load_taxonomy("support-tickets"), count))
        yield measured(Scorer(scorer.model, guard, settings), batch, "labels", count)


def measured(scorer: Scorer, batch: Sequence[Record], varied: str, value: float) -> dict[str, Any]:
    """One row: the cost per record of this batch."""
    results = list(scorer.score_records(batch))  # also computes the language's states
    started = time.perf_counter()
    list(scorer.score_records(batch))
    return {
        "varied": varied,
        "value": value,
        "seconds_a_record": round((time.perf_counter() - started) / len(batch), 4),
        "nodes": statistics.mean(result.nodes for result in results),
        "forward_passes": statistics.mean(result.forward_passes for result in results),
    }


def copies(batch: Sequence[Record]) -> list[Record]:
    """The same records under other ids."""
    return [(f"{record_id}-again", messages) for record_id, messages in batch]


def longer(record: Record, words: int) -> Record:
    """The record with its text repeated or cut to that many words."""
    record_id, messages = record
    text = messages[0]["content"].split()
    repeated = (text * (words // len(text) + 1))[:words]
    return record_id, [{"role": "user", "content": " ".join(repeated)}]


def with_labels(taxonomy: Taxonomy, count: int) -> Taxonomy:
    """The taxonomy with `count` labels: its first ones, and made-up ones if it has fewer."""
    made_up = [
        Label(id=f"topic_{number}", name=f"Further topic {number}", definition="a made-up topic")
        for number in range(len(taxonomy.labels), count)
    ]
    labels = [*taxonomy.labels[:count], *made_up]
    ids = {label.id for label in labels}
    pairs = [pair for pair in taxonomy.forbidden_pairs if ids.issuperset(pair)]
    return taxonomy.model_copy(update={"labels": labels, "forbidden_pairs": pairs})
