"""Every architecture either gives the numbers of its plain forward passes, or is refused with a reason."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models import tree_self_check
from marginalia.scoring.models.attention_masks import Mask, classify
from marginalia.scoring.models.local_model import LocalModel, load_local
from marginalia.scoring.models.prefix_tree import TokenToRun, TreeBatch
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.networks import GUARD, plain, saved
from tests.scoring.tiny import END

SUPPORTED = {
    "llama": {Mask("full")},
    "llama 3": {Mask("full")},
    "yarn": {Mask("full")},
    "linear": {Mask("full")},
    "dynamic": {Mask("full")},
    "longrope": {Mask("full")},
    "sliding": {Mask("sliding", 16)},
    "sliding and full": {Mask("sliding", 16), Mask("full")},
    "chunked": {Mask("chunked", 32), Mask("full")},
    "experts": {Mask("full")},
    "qwen3": {Mask("full")},
    "neox": {Mask("full")},
    "opt": {Mask("full")},
    "gpt2": {Mask("full")},
}
REFUSED = {
    "mamba": "cannot load the model .*serve it and use an endpoint URL",
    "recurrent layers": "0 of its 4 layers have attention that can be replaced .*serve it and use an endpoint URL",
    "recurrent beside attention": "depend on other tokens by other means than attention",
    "bidirectional": "its attention sees later tokens too",
    "bidirectional window": "its attention sees later tokens too",
}


def drawn(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(END) for _ in range(count)]


def largest_difference(model: LocalModel) -> float:
    """Nats, over prompts of a batch (one that crosses all borders, two short ones) and a path of 8 tokens after each,
    with a token beside each step that the path does not go through."""
    rng = random.Random(0)
    start = drawn(rng, 10)
    prompts = [start + drawn(rng, count) for count in (min(model.context, 150) - 18, 5, 20)]
    paths = [drawn(rng, 8) for _ in prompts]
    batch = TreeBatch(model.runner, model.runner.prefix(start), rows=3, room=max(map(len, prompts)))
    for row, prompt in enumerate(prompts):
        batch.join(row, prompt)
    found = [(row, len(prompts[row]) - 1, logits) for row, logits in enumerate(batch.run([0, 1, 2]))]
    slots: list[list[int]] = [[], [], []]
    for step in range(8):
        wanted = []
        for row, prompt in enumerate(prompts):
            for token in (rng.randrange(END), paths[row][step]):
                slot, position = batch.take_slot(row), len(prompt) + step
                wanted.append(TokenToRun(row, token, slot, position, len(prompt), tuple(slots[row])))
            slots[row].append(slot)
        found += [(row, len(prompts[row]) + step, logits) for row, logits in enumerate(batch.run([], wanted)[1::2])]
    expected = [plain(model.runner.model, prompt + path) for prompt, path in zip(prompts, paths, strict=True)]
    return max(float((logits.log_softmax(-1) - expected[row][at]).abs().max()) for row, at, logits in found)


@pytest.mark.parametrize("name", SUPPORTED)
def test_supported_architectures_give_the_numbers_of_plain_passes(tmp_path: Path, name: str) -> None:
    model = load_local(str(saved(tmp_path, name)))
    assert set(model.runner.masks) == SUPPORTED[name]
    assert largest_difference(model) < 1e-4


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_others_are_refused_with_the_reason_in_every_dtype(tmp_path: Path, name: str, dtype: str) -> None:
    with pytest.raises(ModelError, match=REFUSED[name]):
        load_local(str(saved(tmp_path, name, getattr(torch, dtype))), dtype=dtype)


def test_a_mask_over_more_than_positions_is_of_no_kind() -> None:
    blocks = torch.tensor([[0, 0, 1]])
    with pytest.raises(ModelError, match="neither full nor sliding nor chunked"):
        classify(lambda _b, _h, query, key: (key <= query) & ((query - key) % 3 < 2), 16)
    with pytest.raises(ModelError, match="depend on more than positions"):
        classify(lambda _b, _h, query, key: blocks[0, query] == blocks[0, key], 0)
    with pytest.raises(ModelError, match="sees later tokens"):
        classify(lambda _b, _h, query, key: (query - key).abs() < 16, 16)
    assert classify(lambda _b, _h, query, key: (key <= query) & (query - key < 16), 16) == Mask("sliding", 16)


def test_the_check_notices_a_window_that_the_tree_does_not_keep(tmp_path: Path) -> None:
    """The windows are longer than a dozen tokens: only a sequence that crosses them can tell."""
    model = load_local(str(saved(tmp_path, "chunked")))
    network = model.runner.model
    assert tree_self_check.check_structure(network, model.runner.masks, model.limits) == []
    shifted = tuple(Mask(mask.kind, mask.size + 1) if mask.size else mask for mask in model.runner.masks)
    with pytest.raises(ModelError, match="differ by"):
        tree_self_check.check_structure(network, shifted, model.limits)


def test_windows_too_long_to_cross_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_self_check, "OPERATIONS", {"cpu": 1.0})
    model = load_local(str(saved(tmp_path, "sliding")))
    assert model.notes == [
        "the self-check did not cross the attention windows of 16 tokens: it would take too long",
    ]


def test_the_copy_that_is_checked_has_one_layer_of_each_kind_and_shares_its_weights(tmp_path: Path) -> None:
    model = load_local(str(saved(tmp_path, "sliding and full")))
    network = model.runner.model
    assert tree_self_check._layers_to_see(network, model.runner.masks) == 6  # Gemma's sixth layer is its first full one
    short = tree_self_check.first_layers(network, 2)
    assert len(short.model.layers) == 2
    assert len(network.model.layers) == 7
    assert short.model.layers[0].mlp.up_proj.weight is network.model.layers[0].mlp.up_proj.weight


@pytest.mark.parametrize(("name", "limit"), [("longrope", 64), ("dynamic", 256)])
def test_a_record_does_not_depend_on_longer_ones_in_its_batch(tmp_path: Path, name: str, limit: int) -> None:
    """Their frequencies change once any sequence of a pass is long: such records are refused, with the reason."""
    guard = tmp_path / "g.yaml"
    guard.write_text(GUARD)
    settings = Settings(tolerance=0.1, node_budget=8, answer_tokens=8)
    scorer = Scorer.load(str(saved(tmp_path / "m", name)), str(guard), settings=settings)
    short = ("short", [{"role": "user", "content": "a b c"}])
    long = ("long", [{"role": "user", "content": "a b c " * 60}])
    together = {result.record_id: result for result in scorer.score_records([short, long])}
    (alone,) = scorer.score_records([short])
    before, after = alone.estimates["marginal"], together["short"].estimates["marginal"]
    assert abs(before.probability - after.probability).max() < 1e-6
    reason = f"the model accepts {limit - 8} (above {limit} tokens its position encoding ({name}) depends on the length"
    assert reason in str(together["long"].error)
