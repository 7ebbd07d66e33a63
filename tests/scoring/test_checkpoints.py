"""A checkpoint is loaded whole or not at all: transformers would draw what is missing at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models.local_model import load_local
from tests.bad_input.table import GOOD, jsonl, run_command, write
from tests.scoring.tiny import save

WEIGHTS = "model.safetensors"
HEAD, UP = "lm_head.weight", "model.layers.1.mlp.up_proj.weight"
Tensors = dict[str, torch.Tensor]


def change(folder: Path, how: Callable[[Tensors], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    how(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def without_layer(weights: Tensors) -> None:
    for name in [name for name in weights if "layers.1." in name]:
        del weights[name]


DAMAGED: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "no head": (lambda weights: weights.pop(HEAD), f"it lacks 1 weights of its architecture: {HEAD}"),
    "no layer": (
        without_layer,
        "it lacks 9 weights of its architecture: model.layers.1.input_layernorm.weight, "
        "model.layers.1.mlp.down_proj.weight, model.layers.1.mlp.gate_proj.weight, …",
    ),
    "another shape": (
        lambda weights: weights.update({UP: torch.zeros(3, 32)}),
        f"it has 1 weights of another shape: {UP} is 3×32, not 64×32",
    ),
    "one layer more": (
        lambda weights: weights.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(64, 32)}),
        "it has 1 weights that its architecture does not: model.layers.2.mlp.up_proj.weight",
    ),
    "an adapter beside the weights": (
        lambda weights: weights.update({"model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)}),
        "it has 1 weights that its architecture does not: model.layers.0.self_attn.q_proj.lora_A.weight",
    ),
    "two faults": (
        lambda weights: (weights.pop(HEAD), weights.update({"v.weight": torch.zeros(2, 32)})),
        f"it lacks 1 weights of its architecture: {HEAD}; it has 1 weights that its architecture does not: v.weight",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    how, message = DAMAGED[name]
    monkeypatch.chdir(tmp_path)
    change(save(tmp_path / "m"), how)
    write(tmp_path, {"r.jsonl": jsonl(GOOD)})
    assert run_command("scoring r.jsonl --tolerance 0.9 --node-budget 2 --model m") == (
        3,
        f"error: the checkpoint of 'm' does not fit its config.json: {message} (download or save the model again; an "
        "adapter must be merged into its base model first)\n",
    )
    assert not list(tmp_path.glob("o.*"))


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", tie_word_embeddings=True)
    assert HEAD not in load_file(folder / WEIGHTS)
    model = load_local(str(folder)).runner.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    change(folder, lambda weights: weights.pop("model.embed_tokens.weight"))
    with pytest.raises(ModelError, match=r"lacks 2 weights of its architecture: lm_head.weight, model.embed_tokens"):
        load_local(str(folder))


def test_old_buffers_in_a_checkpoint_do_no_harm(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    change(folder, lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}))
    load_local(str(folder))
