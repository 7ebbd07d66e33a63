"""A checkpoint is loaded whole or not at all: transformers would draw what is missing at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Llama4Config,
    Llama4ForConditionalGeneration,
    Llama4VisionConfig,
    SiglipVisionConfig,
)

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models.local_model import load_local
from tests.bad_input.table import GOOD, jsonl, run_command, write
from tests.scoring.networks import CONFIGS
from tests.scoring.tiny import END, save, tokenizer
from tests.scoring.tree_difference import largest_difference

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


def llama4_that_reads_images(folder: Path) -> Path:
    text = CONFIGS["chunked"]()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28, "patch_size": 14}
    projector = {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
    config = Llama4Config(
        text_config=text, vision_config=Llama4VisionConfig(**sizes, **projector, intermediate_size=64)
    )
    torch.manual_seed(0)
    Llama4ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_the_text_model_of_a_checkpoint_that_reads_images(tmp_path: Path) -> None:
    """Llama Guard 4 is published in this form. Its text weights must fit as those of any other checkpoint."""
    folder = llama4_that_reads_images(tmp_path / "m")
    model = load_local(str(folder))
    assert largest_difference(model, range(END)) < 1e-4
    weights = load_file(folder / WEIGHTS)
    prefix = "language_model.model.layers."
    up = f"{prefix}0.feed_forward.shared_expert.up_proj.weight"
    assert torch.equal(model.runner.model.model.layers[0].feed_forward.shared_expert.up_proj.weight, weights[up])
    assert any(name.startswith("vision_model.") for name in weights)
    change(folder, lambda weights: weights.update({f"{prefix}9.self_attn.q_proj.weight": torch.zeros(4, 32)}))
    with pytest.raises(ModelError, match=rf"it has 1 weights that its architecture does not: {prefix}9.self_attn"):
        load_local(str(folder))
    change(folder, lambda weights: (weights.pop(f"{prefix}9.self_attn.q_proj.weight"), weights.pop(up)))
    with pytest.raises(ModelError, match="it lacks 1 weights of its architecture"):
        load_local(str(folder))


def test_gemma_3_as_published_with_its_vision_part(tmp_path: Path) -> None:
    """transformers loads it whole. Here its vision part has as many layers as the text part, whose layers are found by
    their number."""
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=7, num_attention_heads=4, image_size=28, patch_size=14
    )
    config = Gemma3Config(text_config=CONFIGS["sliding and full"](), vision_config=vision, mm_tokens_per_image=4)
    torch.manual_seed(0)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = load_local(str(tmp_path))
    assert {mask.kind for mask in model.runner.masks} == {"sliding", "full"}
    assert largest_difference(model, range(END)) < 1e-4


FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]  # the values of 4-bit floats


def test_4_bit_experts_are_converted_when_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gpt-oss is published with experts of 4 bits (MXFP4). transformers has kernels for them, which are code from the
    Hub: they are not even considered."""

    def considered() -> bool:
        raise AssertionError("kernels are considered")

    monkeypatch.setattr("transformers.quantizers.quantizer_mxfp4.is_kernels_available", considered)
    config = CONFIGS["sinks"]()
    config.hidden_size = config.intermediate_size = 64  # blocks have 32 values
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    torch.manual_seed(0)
    stored: Tensors = {}

    def to_4_bits(weights: Tensors) -> None:
        for name in [name for name in weights if name.endswith(("gate_up_proj", "down_proj"))]:
            experts, size, out = weights.pop(name).shape
            stored[f"{name}_blocks"] = torch.randint(0, 256, (experts, out, size // 32, 16), dtype=torch.uint8)
            stored[f"{name}_scales"] = torch.randint(120, 125, (experts, out, size // 32), dtype=torch.uint8)
        weights.update(stored)

    change(tmp_path, to_4_bits)
    content = json.loads((tmp_path / "config.json").read_text())
    content["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    model = load_local(str(tmp_path))
    assert largest_difference(model, range(END)) < 1e-4
    name = "model.layers.0.mlp.experts.down_proj"
    blocks, scales = stored[f"{name}_blocks"].int(), stored[f"{name}_scales"].float()
    values = torch.tensor(FP4)[torch.stack([blocks & 15, blocks >> 4], -1)].flatten(-2)
    expected = (values * 2 ** (scales - 127)[..., None]).flatten(-2).transpose(1, 2)
    assert torch.equal(model.runner.model.model.layers[0].mlp.experts.down_proj, expected)
