"""Tree attention against plain forward passes, over architectures and batch shapes."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Qwen3Config, Qwen3ForCausalLM

from marginalia.scoring.models.prefix_tree import ATTENTION, Prefix, TokenToRun, TreeBatch, TreeRunner
from tests.scoring.tiny import model

SIZES = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 1,
}
NETWORKS = {
    "llama": lambda: model(0, vocab_size=200),
    "llama with as many heads": lambda: model(0, vocab_size=200, num_key_value_heads=4),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)).eval(),
    "gemma3 with a sliding window of 8": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **SIZES, sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 1 + ["sliding_attention"]
        )
    ).eval(),
}


def plain(network: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    before = network.config._attn_implementation
    network.set_attn_implementation("sdpa")
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    network.set_attn_implementation(before)
    return logits


def opened(runner: TreeRunner, prompts: list[list[int]], prefix: Prefix | None = None) -> TreeBatch:
    batch = TreeBatch(runner, prefix, rows=len(prompts), room=max(map(len, prompts)))
    for row, prompt in enumerate(prompts):
        batch.join(row, prompt)
    return batch


def grow(batch: TreeBatch, record: int, parents: list[tuple[int, list[int]]], token: int) -> TokenToRun:
    """One more token after the path of `parents` (token, slots so far)."""
    sees = [slot for _, slots in parents for slot in slots]
    prompt = len(batch.prompts[record])
    return TokenToRun(record, token, batch.take_slot(record), prompt + len(parents), prompt, sees)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shared", [0, 5])
def test_a_tree_gives_the_numbers_of_its_paths(name: str, shared: int) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    start = [3, 5, 7, 11, 13]
    prompts = [[*start, 20, 21, 22, 23, 24, 25, 26, 27], [*start, 30, 31], [*start, 40, 41, 42, 43]]
    expected = [plain(network, prompt) for prompt in prompts]
    network.set_attn_implementation(ATTENTION)
    runner = TreeRunner(network)
    batch = opened(runner, prompts, runner.prefix(start[:shared]) if shared else None)
    for ours, theirs in zip(batch.run(range(len(prompts))), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)
    # record 0: a → b and a → c in two passes; record 2: d alone; record 1: nothing
    first = [grow(batch, 0, [], 50), grow(batch, 2, [], 60)]
    logits = batch.run([], first)
    assert torch.allclose(logits[0], plain(network, [*prompts[0], 50]), atol=2e-4)
    assert torch.allclose(logits[1], plain(network, [*prompts[2], 60]), atol=2e-4)
    second = [grow(batch, 0, [(50, [first[0].slot])], 51), grow(batch, 0, [(50, [first[0].slot])], 52)]
    logits = batch.run([], second)
    assert torch.allclose(logits[0], plain(network, [*prompts[0], 50, 51]), atol=2e-4)
    assert torch.allclose(logits[1], plain(network, [*prompts[0], 50, 52]), atol=2e-4)
    deep = batch.run([], [grow(batch, 0, [(50, [first[0].slot]), (52, [second[1].slot])], 53)])
    assert torch.allclose(deep[0], plain(network, [*prompts[0], 50, 52, 53]), atol=2e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_goes_to_the_next_prompt_while_others_are_under_way(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    start, other = [3, 5, 7, 11, 13], [9, 9, 4, 4, 2, 2, 8]
    longest = [*start, *range(20, 44)]
    paths = [[*start, 20, 21, 50], [*start, 30, 60], other, longest, [*start, 70, 71]]
    expected = [plain(network, path) for path in paths]
    network.set_attn_implementation(ATTENTION)
    runner = TreeRunner(network)
    batch = opened(runner, [[*start, 20, 21], [*start, 30]], runner.prefix(start))
    # the prompts' pass takes a prefix along
    logits = batch.run([0, 1], [grow(batch, 0, [], 50)])
    assert torch.allclose(logits[2], expected[0], atol=2e-4)
    batch.join(0, other)  # it does not start as the others do, so the row's shared start is gone
    logits = batch.run([0], [grow(batch, 1, [], 60)])
    assert torch.allclose(logits[0], expected[2], atol=2e-4)
    assert torch.allclose(logits[1], expected[1], atol=2e-4)
    batch.join(0, longest)  # many new tokens beside few
    batch.join(1, [*start, 70])
    logits = batch.run([0, 1], [grow(batch, 1, [], 71)])
    assert torch.allclose(logits[0], expected[3], atol=2e-4)
    assert torch.allclose(logits[2], expected[4], atol=2e-4)


def test_buffers_grow() -> None:
    network = model(0, vocab_size=200)
    network.set_attn_implementation(ATTENTION)
    batch = opened(TreeRunner(network), [[1, 2, 3]])
    batch.run([0])
    path: list[tuple[int, list[int]]] = []
    for token in range(10, 100):
        item = grow(batch, 0, path, token)
        last = batch.run([], [item])
        path.append((token, [item.slot]))
    assert torch.allclose(last[0], plain(network, [1, 2, 3, *range(10, 100)]), atol=5e-4)


def test_long_prompts_are_run_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.scoring.models.prefix_tree.PREFILL_CHUNK", 7)
    network = model(0, vocab_size=200)
    prompts = [list(range(5, 45)), list(range(60, 71))]
    expected = [plain(network, prompt) for prompt in prompts]
    network.set_attn_implementation(ATTENTION)
    batch = opened(TreeRunner(network), prompts)
    for ours, theirs in zip(batch.run(range(len(prompts))), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)
    assert batch.forward_passes == 6
