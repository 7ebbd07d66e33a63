"""The scorer's speed as ratios measured in one run: `make bench-scorer`.

naive_over_ours   seconds a record of the paper's any-place procedure, one full forward pass a prefix (scoring.published
                  over a model without a cache), over ours, same model, same 14-category policy prompt, same eps
ours_over_floor   our seconds over those of one forward pass over the tokens that must be evaluated: the prompt tokens
                  that no other record shares plus the prefixes that were visited; demo guard, tolerance 1e-2, float32

The last line is one JSON object."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pipeline.demo.line import held_out_examples
from schemas.taxonomy import Taxonomy, load_taxonomy
from scoring.models.bundled import bundled_smollm2, model_cache
from scoring.models.local import LocalModel
from scoring.models.tree import TreeBatch
from scoring.published import PlainModel, any_place
from scoring.scorer import Result, Scorer, Settings

EPS = 1e-2
BATCH = 16
Records = list[tuple[str, list[dict[str, str]]]]


def records(count: int) -> Records:
    rows = held_out_examples()[:count]
    return [(row["id"], [{"role": "user", "content": row["text"]}]) for row in rows]


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    call()  # the first call pays for memory and for the language's states
    return statistics.median(seconds(call) for _ in range(repeats))


def marginal_only(**more: Any) -> Settings:
    return Settings(estimators=("marginal",), tolerance=EPS, answer_tokens=1, **more)


def against_naive(repeats: int) -> dict[str, Any]:
    """The any-place procedure without a cache against our marginal in batches of 16."""
    scorer = Scorer.load("bundled", "instruct", taxonomy="llama-guard-3", settings=marginal_only())
    batch = records(BATCH)
    ours = median_seconds(lambda: list(scorer.score_records(batch)), repeats) / BATCH
    from transformers import AutoModelForCausalLM

    plain_model = AutoModelForCausalLM.from_pretrained(bundled_smollm2(model_cache()), dtype=torch.float32).eval()
    plain = PlainModel(plain_model, scorer.model.tokenizer, scorer.model.end_ids)
    prompt = scorer.prompts.build(batch[0][1]).ids
    labels = ["unsafe", *scorer.guard.language.codes]
    started = time.perf_counter()
    found = any_place(plain, prompt, labels, eps=EPS)
    naive = time.perf_counter() - started
    (one,) = scorer.score_records(batch[:1])
    return {
        "prompt_tokens": len(prompt),
        "naive_seconds": round(naive, 2),
        "naive_forward_passes": len(found.visited),
        "ours_seconds": round(ours, 3),
        "ours_nodes": one.nodes,
        "naive_over_ours": round(naive / ours, 1),
    }


def floor_call(scorer: Scorer, batch: Records, results: Sequence[Result]) -> Callable[[], Any]:
    """One forward pass over each record's own prompt tokens and as many tokens more as prefixes were visited."""
    nodes = {result.record_id: result.nodes for result in results}
    prompts = []
    for record_id, messages in batch:
        ids = scorer.prompts.build(messages).ids
        prompts.append(ids + ids[-1:] * (nodes[record_id] - 1))  # the root is the prompt's last token
    return prefill_call(scorer, prompts, scorer.prompts.shared_start())


def prefill_call(scorer: Scorer, prompts: list[list[int]], shared: Sequence[int]) -> Callable[[], Any]:
    """One forward pass over all prompts, the `shared` tokens excepted."""
    runner = local(scorer).runner
    prefix = runner.prefix(shared) if shared else None

    def call() -> None:
        tree = TreeBatch(runner, prefix, rows=len(prompts), room=max(map(len, prompts)))
        for row, prompt in enumerate(prompts):
            tree.join(row, prompt)
        tree.run(range(len(prompts)))

    return call


def local(scorer: Scorer) -> LocalModel:
    assert isinstance(scorer.model, LocalModel)
    return scorer.model


def against_floor(repeats: int, taxonomy: Taxonomy, guard_model: str) -> dict[str, Any]:
    scorer = Scorer.load(guard_model, "support-tickets", taxonomy=taxonomy, settings=marginal_only())
    found: dict[str, Any] = {}
    for name, size in (("batch", BATCH), ("single", 1)):
        batches = [records(BATCH)] if size > 1 else [[one] for one in records(6)]
        ratios, floors, times, plain = [], [], [], []
        for batch in batches:
            results = list(scorer.score_records(batch))
            ours = median_seconds(lambda batch=batch: list(scorer.score_records(batch)), repeats)
            floor = median_seconds(floor_call(scorer, batch, results), repeats)
            ids = [scorer.prompts.build(messages).ids for _, messages in batch]
            plain.append(median_seconds(prefill_call(scorer, ids, ()), repeats))
            ratios.append(ours / floor)
            floors.append(floor / len(batch))
            times.append(ours / len(batch))
        found[name] = {
            "ours_over_floor": round(statistics.median(ratios), 2),
            "seconds_a_record": round(statistics.median(times), 4),
            "floor_seconds": round(statistics.median(floors), 4),
            "ours_over_plain_prefill": round(
                statistics.median(t * size / p for t, p in zip(times, plain, strict=True)), 2
            ),
            "nodes": statistics.median(result.nodes for result in results),
            "forward_passes": statistics.median(result.forward_passes for result in results),
        }
    found["nodes_over_fewest"] = nodes_over_fewest(scorer, records(6))
    return found


def nodes_over_fewest(scorer: Scorer, batch: Records) -> float:
    """Visited prefixes over the fewest: the smallest budget, record by record, that reaches the tolerance."""
    before, visited, fewest = scorer.settings, 0, 0
    for record in batch:
        (full,) = scorer.score_records([record])
        low, high = 1, full.nodes
        while low < high:
            middle = (low + high) // 2
            scorer.settings = marginal_only(node_budget=middle)
            (limited,) = scorer.score_records([record])
            bounds = limited.estimates["marginal"]
            reached = float((bounds.upper - bounds.lower).max()) <= EPS + 1e-9
            low, high = (low, middle) if reached else (middle + 1, high)
        scorer.settings = before
        visited, fewest = visited + full.nodes, fewest + low
    return round(visited / fewest, 3)


def curves(taxonomy: Taxonomy, guard_model: str) -> list[dict[str, Any]]:
    """Seconds and prefixes a record against tolerance and batch size, demo guard."""
    rows = []
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        settings = Settings(estimators=("marginal",), tolerance=tolerance, answer_tokens=1, node_budget=4096)
        scorer = Scorer.load(guard_model, "support-tickets", taxonomy=taxonomy, settings=settings)
        batch = records(BATCH)
        results = list(scorer.score_records(batch))
        took = seconds(lambda scorer=scorer, batch=batch: list(scorer.score_records(batch)))
        rows.append(
            {
                "tolerance": tolerance,
                "nodes": statistics.median(result.nodes for result in results),
                "forward_passes": statistics.median(result.forward_passes for result in results),
                "seconds_a_record": round(took / BATCH, 4),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--guard-model", default="bundled-guard")
    parser.add_argument("--skip-naive", action="store_true")
    options = parser.parse_args()
    taxonomy = load_taxonomy("support-tickets")
    floor = against_floor(options.repeats, taxonomy, options.guard_model)
    print(json.dumps({"floor": floor}, indent=2), flush=True)
    table = curves(taxonomy, options.guard_model)
    for row in table:
        print(row, flush=True)
    naive = {} if options.skip_naive else against_naive(options.repeats)
    summary = {
        "naive_over_ours": naive.get("naive_over_ours"),
        "ours_over_floor": floor["batch"]["ours_over_floor"],
        "ours_over_floor_single": floor["single"]["ours_over_floor"],
        "nodes_over_fewest": floor["nodes_over_fewest"],
        "ours_over_plain_prefill": floor["batch"]["ours_over_plain_prefill"],
        "threads": torch.get_num_threads(),
        "model": "SmolLM2-135M-Instruct, float32",
        "naive": naive,
        "curves": table,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
