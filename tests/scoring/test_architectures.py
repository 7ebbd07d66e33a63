"""Every architecture either gives the numbers of its plain forward passes, or is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from marginalia.schemas.errors import ModelError
from marginalia.scoring.marginal.record_batches import RecordJob
from marginalia.scoring.models import prefix_tree, tree_self_check
from marginalia.scoring.models.attention_masks import Mask, classify
from marginalia.scoring.models.eager_attention import eager_attention
from marginalia.scoring.models.local_model import load_local
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.networks import GUARD, plain, saved
from tests.scoring.tiny import END
from tests.scoring.tree_difference import largest_difference

SUPPORTED = {
    "llama": {Mask("full")},
    "llama 3": {Mask("full")},
    "yarn": {Mask("full")},
    "linear": {Mask("full")},
    "dynamic": {Mask("full")},
    "longrope": {Mask("full")},
    "sliding": {Mask("sliding", 16)},
    "sliding and full": {Mask("sliding", 16), Mask("full")},
    "chunked": {Mask("chunked", 16), Mask("full")},
    "chunked with a temperature": {Mask("chunked", 16), Mask("full")},
    "soft caps": {Mask("sliding", 16), Mask("full")},
    "sinks": {Mask("sliding", 16), Mask("full")},
    "granite experts": {Mask("full")},
    "keys of earlier layers": {Mask("sliding", 16), Mask("full")},
    "experts": {Mask("full")},
    "qwen3": {Mask("full")},
    "neox": {Mask("full")},
    "opt": {Mask("full")},
    "gpt2": {Mask("full")},
}
REFUSED = {
    "mamba": "0 of its 2 layers have attention that can be replaced .*serve it and use an endpoint URL",
    "recurrent layers": "0 of its 4 layers have attention that can be replaced .*serve it and use an endpoint URL",
    "recurrent beside attention": "depend on other tokens by other means than attention",
    "bidirectional": "its attention sees later tokens too",
    "bidirectional window": "its attention sees later tokens too",
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_supported_architectures_give_the_numbers_of_plain_passes(tmp_path: Path, name: str) -> None:
    model = load_local(str(saved(tmp_path, name)))
    assert set(model.runner.masks) == SUPPORTED[name]
    assert largest_difference(model, range(END)) < 1e-4


@pytest.mark.parametrize("name", ["sliding and full", "chunked with a temperature", "soft caps", "sinks"])
def test_prompts_in_several_passes_give_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(prefix_tree, "PREFILL_CHUNK", 7)
    assert largest_difference(load_local(str(saved(tmp_path, name))), range(END)) < 1e-4


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


@pytest.mark.parametrize(
    ("name", "without"), [("soft caps", {"cap": None}), ("sinks", {"sinks": None}), ("soft caps", {"cap": 1.01})]
)
def test_the_check_notices_attention_without_its_caps_or_sinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, without: dict[str, Any]
) -> None:
    monkeypatch.setattr(
        prefix_tree,
        "eager_attention",
        lambda *tensors, **options: eager_attention(*tensors, **{**options, **without}),
    )
    with pytest.raises(ModelError, match=r"cannot be scored on this machine: the tree search and its own .* differ by"):
        load_local(str(saved(tmp_path, name)))


@pytest.mark.parametrize("name", ["chunked", "chunked with a temperature"])
def test_the_check_notices_a_temperature_by_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In the first model it changes after 8192 tokens only, which no test sequence has."""

    def position_ids_only(_model: Any, positions: torch.Tensor) -> dict[str, Any]:
        return {"position_ids": positions[None], "use_cache": False}

    monkeypatch.setattr(prefix_tree, "position_arguments", position_ids_only)
    with pytest.raises(ModelError, match="differ by"):
        load_local(str(saved(tmp_path, name)))


@pytest.mark.parametrize("name", ["soft caps", "sinks", "chunked with a temperature", "granite experts"])
@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.5), ("float16", 0.05)])
def test_16_bits(tmp_path: Path, name: str, dtype: str, most: float) -> None:
    model = load_local(str(saved(tmp_path, name, getattr(torch, dtype))), dtype=dtype)
    assert largest_difference(model, range(END)) < most


def test_windows_too_long_to_cross_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_self_check, "OPERATIONS", {"cpu": 1.0})
    model = load_local(str(saved(tmp_path, "sliding")))
    assert model.notes == [
        "the self-check did not cross the attention windows of 16 tokens: it would take too long",
    ]


def test_windows_that_take_too_much_memory_to_cross_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soft caps are compared with attention that keeps all scores."""
    monkeypatch.setattr(tree_self_check, "EAGER_BYTES", 16 * 4 * 20**2)  # 4 heads, 20 tokens
    note = "the self-check did not cross the attention windows of 16 tokens: it would take too much memory"
    assert load_local(str(saved(tmp_path / "caps", "soft caps"))).notes == [note]
    assert load_local(str(saved(tmp_path / "none", "sliding"))).notes == []


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


def test_shieldgemma_on_this_machine(tmp_path: Path) -> None:
    """The score that its card defines, P(Yes) / (P(Yes) + P(No)), of one policy per call. The prompts are longer than
    the window and share most of their start. The first token decides: Yes and No begin with different ones."""
    folder = saved(tmp_path, "soft caps")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    settings = Settings(estimators=("marginal_constrained",), tolerance=0.0)
    scorer = Scorer.load(str(folder), "shieldgemma", settings=settings)
    records = [(text, [{"role": "user", "content": text}]) for text in ("hello", "a longer text of a user")]
    first = {word: scorer.model.tokenizer(word)["input_ids"][0] for word in ("Yes", "No")}
    for result in scorer.score_records(records):
        (messages,) = [messages for text, messages in records if text == result.record_id]
        found = dict(zip(scorer.guard.rows, result.estimates["marginal_constrained"].probability, strict=True))
        for row, call in scorer.calls.items():
            job = call.prepare(result.record_id, messages)
            assert isinstance(job, RecordJob)
            yes, no = (
                float(plain(scorer.model.runner.model, job.ids)[-1][first[word]].exp()) for word in ("Yes", "No")
            )
            assert abs(found[row] - yes / (yes + no)) < 1e-4
