"""The scorer's speed as ratios, measured in one run: `make bench-scorer`.

naive_over_ours   seconds per record of the paper's any-place procedure (scoring/paper/published_procedures.py) without
a KV cache, with one full forward pass per prefix, divided by ours; same model, same policy prompt with 14 categories,
same eps ours_over_floor   our seconds divided by those of one forward pass over the tokens that must be evaluated: the
prompt tokens that no other record shares and the visited prefixes, with the logits after each of these; demo guard,
tolerance 1e-2, float32. `stream`: 64 records, 16 at a time; its floor is four passes of 16 records. `one_batch`: 16
records alone. `single`: one record alone

The last line of output is one JSON object."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.scorer_curves import curves
from marginalia.pipeline.demo.run_demo import held_out_examples
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from marginalia.scoring.models.bundled_model import bundled_smollm2
from marginalia.scoring.models.local_model import LocalModel
from marginalia.scoring.models.lora_adapter import bundled_guard
from marginalia.scoring.models.model_cache import model_cache
from marginalia.scoring.models.prefix_tree import TokenToRun, TreeBatch
from marginalia.scoring.paper.published_procedures import PlainModel, any_place
from marginalia.scoring.scorer import Result, Scorer, Settings

EPS = 1e-2
BATCH = 16
STREAM = 64
Records = list[tuple[str, list[dict[str, str]]]]


def records(count: int) -> Records:
    """The first held-out messages of the demo, as (id, messages)."""
    rows = held_out_examples()[:count]
    return [(row["id"], [{"role": "user", "content": row["text"]}]) for row in rows]


def seconds(call: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median time of `repeats` calls after a first one."""
    call()  # allocates memory and computes the language's states
    return statistics.median(seconds(call) for _ in range(repeats))


def marginal_only(**more: Any) -> Settings:
    """Settings for `marginal` alone, at tolerance EPS."""
    return Settings(estimators=("marginal",), tolerance=EPS, answer_tokens=1, **more)


def against_naive(scorer: Scorer, name: str, count: int) -> dict[str, Any]:
    """The any-place procedure without a KV cache on `count` records, compared with our marginal on a batch of 16."""
    from transformers import AutoModelForCausalLM

    batch = records(BATCH)
    results = {result.record_id: result for result in scorer.score_records(batch)}
    ours = median_seconds(lambda: list(scorer.score_records(batch)), 3) / BATCH
    plain_model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
    plain = PlainModel(plain_model, scorer.model.tokenizer, scorer.model.end_ids)
    labels = ["unsafe", *scorer.guard.language.codes]
    naive_seconds, visited, prompt = 0.0, 0, []
    for _, messages in batch[:count]:
        prompt = scorer.prompts.build(messages).ids
        started = time.perf_counter()
        visited += len(any_place(plain, prompt, labels, eps=EPS).visited)
        naive_seconds += time.perf_counter() - started
    return {
        "prompt_tokens": len(prompt),
        "naive_seconds": round(naive_seconds / count, 2),
        "naive_forward_passes": visited / count,
        "ours_seconds": round(ours, 4),
        "ours_nodes": statistics.mean(result.nodes for result in results.values()),
        "naive_over_ours": round(naive_seconds / count / ours, 1),
    }


def floor_call(scorer: Scorer, batch: Records, results: Sequence[Result]) -> Callable[[], Any]:
    """A call that runs the floor: one forward pass over each record's unshared prompt tokens and over as many further
    tokens as prefixes were visited, with the logits after each visited prefix."""
    nodes = {result.record_id: result.nodes for result in results}
    prompts = [scorer.prompts.build(messages).ids for _, messages in batch]
    further = [nodes[record_id] - 1 for record_id, _ in batch]  # the root is the prompt's last token
    return pass_call(scorer, prompts, further, scorer.prompts.shared_start())


def pass_call(
    scorer: Scorer, prompts: list[list[int]], further: Sequence[int], shared: Sequence[int]
) -> Callable[[], Any]:
    """A call that runs one forward pass over the prompts without their `shared` tokens, each followed by a chain of as
    many tokens as `further` says."""
    assert isinstance(scorer.model, LocalModel)
    runner = scorer.model.runner
    prefix = runner.prefix(shared) if shared else None

    def call() -> None:
        tree = TreeBatch(runner, prefix, rows=len(prompts), room=max(map(len, prompts)))
        tokens = []
        for row, (prompt, count) in enumerate(zip(prompts, further, strict=True)):
            tree.join(row, prompt)
            slots = [tree.take_slot(row) for _ in range(count)]
            tokens += [
                TokenToRun(row, prompt[-1], slot, slot, len(prompt), slots[:at]) for at, slot in enumerate(slots)
            ]
        tree.run(range(len(prompts)), tokens)

    return call


def against_floor(repeats: int, scorer: Scorer) -> dict[str, Any]:
    """Our time compared with the floor: for the stream, for batches alone and for single records."""
    by_length = sorted(records(STREAM), key=lambda record: len(scorer.prompts.build(record[1]).ids))
    batches = [by_length[start : start + BATCH] for start in range(0, STREAM, BATCH)]
    results = list(scorer.score_records(by_length))
    floors = [median_seconds(floor_call(scorer, batch, results), repeats) for batch in batches]
    prompts = [[scorer.prompts.build(messages).ids for _, messages in batch] for batch in batches]
    plain = sum(median_seconds(pass_call(scorer, ids, [0] * BATCH, ()), 1) for ids in prompts)
    stream = median_seconds(lambda: list(scorer.score_records(by_length)), repeats)
    alone = [median_seconds(lambda batch=batch: list(scorer.score_records(batch)), repeats) for batch in batches]
    singles = [single(scorer, record, repeats) for record in records(9)]
    return {
        "stream": {
            "ours_over_floor": round(stream / sum(floors), 2),
            "seconds_a_record": round(stream / STREAM, 4),
            "ours_over_plain_prefill": round(stream / plain, 2),
            "nodes": statistics.mean(result.nodes for result in results),
            "forward_passes": statistics.mean(result.forward_passes for result in results),
        },
        "one_batch": round(statistics.median(ours / floor for ours, floor in zip(alone, floors, strict=True)), 2),
        "single": {name: round(statistics.median(one[name] for one in singles), 2) for name in singles[0]},
        "nodes_over_fewest": nodes_over_fewest(scorer, records(6)),
    }


def single(scorer: Scorer, record: tuple[str, list[dict[str, str]]], repeats: int) -> dict[str, float]:
    """One record alone: our time divided by that of the floor, of a plain prefill of its prompt, and of its greedy
    answer."""
    results = list(scorer.score_records([record]))
    ours = median_seconds(lambda: list(scorer.score_records([record])), repeats)
    ids = scorer.prompts.build(record[1]).ids
    floor = median_seconds(floor_call(scorer, [record], results), repeats)
    prefill = median_seconds(pass_call(scorer, [ids], [0], ()), repeats)
    return {
        "ours_over_floor": ours / floor,
        "ours_over_plain_prefill": ours / prefill,
        "ours_over_greedy_answer": ours / median_seconds(lambda: greedy(scorer, ids), 1),
    }


def greedy(scorer: Scorer, ids: list[int]) -> None:
    """The greedy answer by transformers' own `generate`."""
    assert isinstance(scorer.model, LocalModel)
    model = scorer.model.runner.model
    ours = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        prompt = torch.tensor([ids])
        model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=24)
    model.set_attn_implementation(ours)


def nodes_over_fewest(scorer: Scorer, batch: Records) -> float:
    """Visited prefixes divided by the fewest possible: for each record the smallest budget that reaches the
    tolerance."""
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


def demo_scorer(taxonomy: Taxonomy, model: str) -> Scorer:
    """The demo guard with `marginal_only` settings."""
    return Scorer.load(model, "support-tickets", taxonomy=taxonomy, settings=marginal_only())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="of each timing (default: %(default)s)")
    parser.add_argument("--guard-model", default="bundled-guard", help="default: %(default)s")
    parser.add_argument("--only-floor", action="store_true", help="skip the curves and the naive procedure")
    options = parser.parse_args()
    guard = demo_scorer(load_taxonomy("support-tickets"), options.guard_model)
    floor = against_floor(options.repeats, guard)
    print(json.dumps({"floor": floor}, indent=2), flush=True)
    summary = {
        "naive_over_ours": None,
        "ours_over_floor": floor["stream"]["ours_over_floor"],
        "ours_over_floor_one_batch": floor["one_batch"],
        "ours_over_floor_single": floor["single"]["ours_over_floor"],
        "nodes_over_fewest": floor["nodes_over_fewest"],
        "threads": torch.get_num_threads(),
        "model": "SmolLM2-135M-Instruct, float32",
    }
    if not options.only_floor:
        table = []
        for row in curves(guard, records(BATCH)):
            table.append(row)
            print(row, flush=True)
        policy = Scorer.load("bundled", "instruct", taxonomy="llama-guard-3", settings=marginal_only())
        bare = against_naive(policy, str(bundled_smollm2(model_cache())), 1)
        trained = against_naive(guard, str(bundled_guard(model_cache())), 3)
        summary |= {"naive_over_ours": bare["naive_over_ours"], "naive": bare, "naive_demo_guard": trained}
        summary["curves"] = table
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
