"""Trains the demo guard: a LoRA adapter for the bundled small model, from the hand-written example messages.

`make train-demo-guard`, or `python -m marginalia.scoring.training.train_demo_guard --out FOLDER`. Training is seeded.
Prompts and answers have the same tokens as in scoring. The loss is on the answers alone, with their end tokens. The
lowest layers are frozen, so their output for the examples is computed once and not in every step."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from marginalia.schemas.errors import InputError, MarginaliaError, ModelError
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.models.bundled_model import bundled_smollm2
from marginalia.scoring.models.model_cache import model_cache
from marginalia.scoring.prompt import PromptBuilder
from marginalia.scoring.training.labelled_examples import Example, read_examples
from marginalia.scoring.training.packed_sequences import Tail, answer_loss, pack, states_after

EXAMPLES = Path("pipeline/demo/examples.jsonl")
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class TrainingRecipe:
    """Hyperparameters. `peak_rate`: AdamW's learning rate after a warm-up over a tenth of the steps; it then decays to
    0 as a cosine. `rank` and `alpha` are LoRA's."""

    epochs: int = 12
    batch: int = 6
    frozen_layers: int = 10
    rank: int = 12
    alpha: int = 24
    peak_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 2026


def tails(examples: list[Example], guard: Guard, prompts: PromptBuilder, end: int) -> tuple[list[int], list[Tail]]:
    """(the token ids that all prompts start with, one Tail per example). `end`: the id of the end token.

    Raises ModelError or InputError for an example that does not fit the guard."""
    start = prompts.shared_start()
    codes = {category.id: category.code for category in guard.categories}
    tails_of_examples = []
    for example in examples:
        ids = prompts.build([{"role": "user", "content": example.text}]).ids
        if ids[: len(start)] != start or len(ids) == len(start):
            raise ModelError(f"example {example.id}: its prompt does not begin with the tokens that all prompts share")
        answer = "unsafe\n" + ",".join(codes[label] for label in example.labels) if example.labels else "safe"
        states = guard.language.walk(answer.encode())
        if len(states) <= len(answer) or states[-1].accepted is None:
            raise InputError(f"example {example.id}: {answer!r} is not an answer of guard {guard.name}")
        answer_ids = prompts.tokenizer(answer, add_special_tokens=False)["input_ids"]
        tails_of_examples.append(Tail(ids[len(start) :], [*answer_ids, end]))
    return start, tails_of_examples


def train(network: Any, start: list[int], examples: list[Tail], recipe: TrainingRecipe) -> list[float]:
    """Trains the parameters that require gradients. Returns each epoch's mean −ln P of an answer, in nats."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.peak_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(examples) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    states_of_start, states = states_after(network, recipe.frozen_layers, start, examples)
    every_layer = network.model.layers
    network.model.layers = every_layer[recipe.frozen_layers :]
    network.train()
    losses = []
    with tqdm(total=steps, desc="training", unit="step", disable=None) as progress:
        for epoch in range(recipe.epochs):
            order = list(range(len(examples)))
            random.Random(f"{recipe.seed}:epoch {epoch}").shuffle(order)
            total = 0.0
            for first in range(0, len(order), recipe.batch):
                chosen = order[first : first + recipe.batch]
                packed = pack(start, [examples[index] for index in chosen])
                loss = answer_loss(network, packed, torch.cat([states_of_start, *(states[index] for index in chosen)]))
                (loss / len(chosen)).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                total += float(loss.detach())
                progress.update()
                progress.set_postfix(loss=f"{float(loss.detach()) / len(chosen):.2f}")
            losses.append(total / len(examples))
    network.eval()
    network.model.layers = every_layer
    return losses


def _rate(step: int, steps: int) -> float:
    """The learning rate at a step, as a share of its peak."""
    warm_up = max(steps // 10, 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))


def save_adapter(adapted: Any, folder: Path) -> None:
    """Writes adapter_model.safetensors (half precision) and adapter_config.json, in the format of peft."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(adapted)
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in sorted(state.items())}
    save_file(halves, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = BASE
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)  # a set, whose order would change from run to run
    config.save_pretrained(folder)


def with_adapter(network: Any, recipe: TrainingRecipe) -> Any:
    """`network` with new LoRA matrices as its only trainable parameters. Raises ModelError when peft is missing."""
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise ModelError("training needs peft", hint="pip install --editable '.[train]'") from error
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=TARGETS,
        layers_to_transform=list(range(recipe.frozen_layers, network.config.num_hidden_layers)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # from peft's use of transformers
        return get_peft_model(network, config)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m marginalia.scoring.training.train_demo_guard", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the adapter to")
    parser.add_argument("--examples", type=Path, default=EXAMPLES, help="JSON Lines file (default: %(default)s)")
    parser.add_argument(
        "--cache", type=Path, default=model_cache(), help="folder of the bundled model (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    defaults = TrainingRecipe()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="default: %(default)s")
    options = parser.parse_args(arguments)
    recipe = TrainingRecipe(**{name: getattr(options, name) for name in asdict(defaults)})
    try:
        summary = _run(options, recipe)
    except MarginaliaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(summary))
    return 0


def _run(options: argparse.Namespace, recipe: TrainingRecipe) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.manual_seed(recipe.seed)
    taxonomy = load_taxonomy("support-tickets")
    guard = load_guard("support-tickets", taxonomy)
    examples = [example for example in read_examples(options.examples, taxonomy) if example.split == "train"]
    base = bundled_smollm2(options.cache)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    network = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True, trust_remote_code=False
    )
    start, tails_of_examples = tails(examples, guard, PromptBuilder(guard, tokenizer), tokenizer.eos_token_id)
    adapted = with_adapter(network, recipe)
    started = time.perf_counter()
    losses = train(adapted.base_model.model, start, tails_of_examples, recipe)
    seconds = time.perf_counter() - started
    save_adapter(adapted, options.out)
    return {"examples": len(examples), **asdict(recipe), "losses": losses, "seconds": round(seconds)}


if __name__ == "__main__":
    sys.exit(main())
