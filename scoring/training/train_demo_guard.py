"""Trains the demo guard: a LoRA adapter for the bundled small model, from the hand-written example messages.

`make train-demo-guard`, or `python -m marginalia.scoring.training.train_demo_guard --out FOLDER`. Seeded; prompts and
answers are the tokens that scoring sees; the loss is on the answers alone, their END included. The lowest layers stay
as they are, so what they make of the examples is computed once and not in every step."""

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
from marginalia.scoring.models.bundled_model import bundled_smollm2, model_cache
from marginalia.scoring.prompt import PromptBuilder
from marginalia.scoring.training.labelled_examples import Example, read_examples
from marginalia.scoring.training.packed_sequences import Tail, answer_loss, pack, states_after

EXAMPLES = Path("pipeline/demo/examples.jsonl")
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class TrainingRecipe:
    """Settings of a training. `peak_rate` is AdamW's after a tenth of the steps, then it falls to 0 as a cosine."""

    epochs: int = 12
    batch: int = 6
    frozen_layers: int = 10
    rank: int = 12
    alpha: int = 24
    peak_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 2026


def tails(examples: list[Example], guard: Guard, prompts: PromptBuilder, end: int) -> tuple[list[int], list[Tail]]:
    """The ids that all prompts start with, and for each example the rest of its prompt and its answer."""
    start = prompts.shared_start()
    codes = {category.id: category.code for category in guard.categories}
    found = []
    for example in examples:
        ids = prompts.build([{"role": "user", "content": example.text}]).ids
        if ids[: len(start)] != start or len(ids) == len(start):
            raise ModelError(f"example {example.id}: its prompt does not start as the others do")
        answer = "unsafe\n" + ",".join(codes[label] for label in example.labels) if example.labels else "safe"
        states = guard.language.walk(answer.encode())
        if len(states) <= len(answer) or states[-1].accepted is None:
            raise InputError(f"guard {guard.name} does not know the answer {answer!r}")
        answer_ids = prompts.tokenizer(answer, add_special_tokens=False)["input_ids"]
        found.append(Tail(ids[len(start) :], [*answer_ids, end]))
    return start, found


def train(network: Any, start: list[int], examples: list[Tail], recipe: TrainingRecipe) -> list[float]:
    """Trains the parameters that ask for it. Returns the mean −log P of an answer in each epoch, in nats."""
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
    """The learning rate of a step as a share of its peak."""
    warm = max(steps // 10, 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def save_adapter(adapted: Any, folder: Path) -> None:
    """Writes adapter_model.safetensors (half precision) and adapter_config.json, in the form that peft reads."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(adapted)
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in sorted(state.items())}
    save_file(halves, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = BASE
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)  # a set: its order would change from run to run
    config.save_pretrained(folder)


def with_adapter(network: Any, recipe: TrainingRecipe) -> Any:
    """`network` with fresh LoRA matrices, the only ones that ask for gradients. Raises ModelError without peft."""
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
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
        return get_peft_model(network, config)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m marginalia.scoring.training.train_demo_guard", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--examples", type=Path, default=EXAMPLES)
    parser.add_argument("--cache", type=Path, default=model_cache(), help="where the bundled model lies")
    parser.add_argument("--threads", type=int, default=2)
    defaults = TrainingRecipe()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
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
    start, found = tails(examples, guard, PromptBuilder(guard, tokenizer), tokenizer.eos_token_id)
    adapted = with_adapter(network, recipe)
    started = time.perf_counter()
    losses = train(adapted.base_model.model, start, found, recipe)
    seconds = time.perf_counter() - started
    save_adapter(adapted, options.out)
    return {"examples": len(examples), **asdict(recipe), "losses": losses, "seconds": round(seconds)}


if __name__ == "__main__":
    sys.exit(main())
