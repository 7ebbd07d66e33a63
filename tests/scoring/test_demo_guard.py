"""The demo guard: its examples, the packing of its training, the merge of its adapter, and its quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import load_guard
from marginalia.scoring.models.local_model import load_local
from marginalia.scoring.models.lora_adapter import adapted_model
from marginalia.scoring.models.model_reference import BUNDLED_GUARD
from marginalia.scoring.scorer import Scorer, Settings
from marginalia.scoring.training.labelled_examples import read_examples
from marginalia.scoring.training.measure_demo_guard import RANKED, measure
from marginalia.scoring.training.packed_sequences import Tail, answer_loss, pack, states_after
from tests.scoring import tiny

EXAMPLES = Path(__file__).parents[2] / "pipeline" / "demo" / "examples.jsonl"
TAXONOMY = load_taxonomy("support-tickets")
LAYERS = ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj")
SCALE = 3.0


# ---- examples --------------------------------------------------------------------------------------------------------


def test_every_label_has_enough_examples_in_each_split() -> None:
    examples = read_examples(EXAMPLES, TAXONOMY)
    held_out = [example for example in examples if example.split == "held_out"]
    assert len(held_out) >= 120
    for label in TAXONOMY.ids:
        assert sum(label in example.labels for example in examples) >= 35, label
        assert sum(label in example.labels for example in held_out) >= 10, label


def test_examples_have_no_topic_one_or_several() -> None:
    counts = [len(example.labels) for example in read_examples(EXAMPLES, TAXONOMY)]
    shares = [counts.count(size) / len(counts) for size in range(4)]
    assert shares == pytest.approx([0.20, 0.47, 0.25, 0.08], abs=0.03)


def test_no_held_out_message_is_close_to_a_training_message() -> None:
    examples = read_examples(EXAMPLES, TAXONOMY)
    training = [_trigrams(example.text) for example in examples if example.split == "train"]
    for example in examples:
        if example.split == "held_out":
            mine = _trigrams(example.text)
            assert max(len(mine & other) / len(mine | other) for other in training) < 0.4, example.text


def _trigrams(text: str) -> set[str]:
    squeezed = f"  {' '.join(text.casefold().split())}  "
    return {squeezed[at : at + 3] for at in range(len(squeezed) - 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["refunds"]}, "unknown label 'refunds'"),
        ({"labels": ["refund", "return"]}, "in taxonomy order"),
        ({"labels": ["refund", "refund"]}, "each label once"),
        ({"id": "a"}, "duplicate id 'a'"),
        ({"split": "test"}, "not an example"),
    ],
)
def test_a_wrong_example_is_reported_with_its_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    lines = [{"id": name, "text": "x", "labels": [], "split": "train"} for name in "ab"]
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (lines[0], {**lines[1], **change})))
    with pytest.raises(InputError, match=message) as raised:
        read_examples(path, TAXONOMY)
    assert str(raised.value).startswith(f"{path}:2: ")


# ---- packing ---------------------------------------------------------------------------------------------------------


START = [3, 5, 7, 11]
TAILS = [Tail([20, 21, 22], [30, 31, tiny.END]), Tail([40], [41, tiny.END]), Tail([50, 51], [tiny.END])]


def test_packed_answers_have_the_same_loss_as_alone() -> None:
    network = tiny.model(0, sharpness=2.0)
    alone = 0.0
    for tail in TAILS:
        ids = [*START, *tail.prompt, *tail.answer]
        with torch.no_grad():
            steps = network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        first = len(START) + len(tail.prompt) - 1
        alone -= sum(float(steps[first + offset, token]) for offset, token in enumerate(tail.answer))
    with torch.no_grad():
        assert float(answer_loss(network, pack(START, TAILS))) == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("lower", [0, 1])
def test_the_upper_layers_over_cached_states_have_the_same_loss(lower: int) -> None:
    network = tiny.model(0, sharpness=2.0)
    packed = pack(START, TAILS)
    with torch.no_grad():
        whole = float(answer_loss(network, packed))
        start_states, tail_states = states_after(network, lower, START, TAILS)
        network.model.layers = network.model.layers[lower:]
        assert float(answer_loss(network, packed, torch.cat([start_states, *tail_states]))) == pytest.approx(
            whole, abs=1e-4
        )


# ---- merging ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    shapes = {name: weight.shape for name, weight in tiny.model().named_parameters()}
    return _save_adapter(tmp_path / "adapter", {layer: shapes[f"{layer}.weight"] for layer in LAYERS})


def _save_adapter(folder: Path, layers: dict[str, tuple[int, ...]], seed: int = 0, **config: Any) -> Path:
    """Random matrices of rank 2 for these layers, scaled by SCALE."""
    generator = torch.Generator().manual_seed(seed)
    matrices = {}
    for layer, (rows, columns) in layers.items():
        matrices[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(2, columns, generator=generator) * 0.3
        matrices[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(rows, 2, generator=generator) * 0.3
    folder.mkdir(exist_ok=True)
    save_file(matrices, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2 * SCALE, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def _logits(network: LlamaForCausalLM) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])).logits


def test_a_merged_adapter_gives_the_numbers_of_adding_its_matrices_in_the_forward_pass(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    matrices = load_file(adapter / "adapter_model.safetensors")
    network = LlamaForCausalLM.from_pretrained(base).eval()
    plain = _logits(network)
    for layer in LAYERS:
        down, up = (matrices[f"base_model.model.{layer}.lora_{letter}.weight"] for letter in "AB")
        network.get_submodule(layer).register_forward_hook(
            lambda _module, arguments, output, down=down, up=up: output + SCALE * (arguments[0] @ down.T @ up.T)
        )
    explicit = _logits(network)
    merged = _logits(LlamaForCausalLM.from_pretrained(adapted_model(base, adapter, tmp_path / "cache")).eval())
    assert float((explicit - plain).abs().max()) > 0.1
    torch.testing.assert_close(merged, explicit, atol=1e-4, rtol=1e-4)


def test_an_adapter_is_merged_once_and_again_when_it_changes(base: Path, adapter: Path, tmp_path: Path) -> None:
    first = adapted_model(base, adapter, tmp_path / "cache")
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert adapted_model(base, adapter, tmp_path / "cache") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    _save_adapter(adapter, {LAYERS[0]: (16, 32)}, seed=1)
    second = adapted_model(base, adapter, tmp_path / "cache")
    _save_adapter(adapter, {LAYERS[0]: (16, 32)}, seed=1, lora_alpha=5.0)
    third = adapted_model(base, adapter, tmp_path / "cache")
    (base / "generation_config.json").write_text("{}")
    assert len({first, second, third, adapted_model(base, adapter, tmp_path / "cache")}) == 4


@pytest.mark.parametrize(
    ("layers", "config", "message"),
    [
        ({"model.layers.9.self_attn.k_proj": (16, 32)}, {}, "model.layers.9.self_attn.k_proj do not fit"),
        ({LAYERS[0]: (17, 32)}, {}, "k_proj do not fit"),
        ({LAYERS[0]: (16, 32)}, {"use_dora": True}, "not plain LoRA"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_folder(
    base: Path, tmp_path: Path, layers: dict[str, tuple[int, ...]], config: dict[str, Any], message: str
) -> None:
    adapter = _save_adapter(tmp_path / "adapter", layers, **config)
    with pytest.raises(ModelError, match=message):
        adapted_model(base, adapter, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


# ---- the guard -------------------------------------------------------------------------------------------------------


def test_the_demo_guard_knows_its_topics() -> None:
    """Chance is 0.5, the untrained model is at 0.5, the frequencies of the labels alone give less than 0.6."""
    held_out = [example for example in read_examples(EXAMPLES, TAXONOMY) if example.split == "held_out"]
    settings = Settings(estimators=(*RANKED, "greedy"), tolerance=1e-2, node_budget=128)
    scorer = Scorer(load_local(BUNDLED_GUARD), load_guard("support-tickets", TAXONOMY), settings)
    measured = measure(scorer, held_out[::4])
    assert measured["marginal"]["micro_roc_auc"] > 0.75
    assert measured["search"]["off_language"] < 0.01
