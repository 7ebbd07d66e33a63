"""The tables of docs/architectures.md: `python -m tests.scoring.architectures [--all] [--write]`.

Makes a small random model of each architecture and compares the tree search with plain forward passes. A test repeats
this for the first table, the architectures of guards, which takes seconds. With `--all` also every other causal
language model of transformers. `--write` updates the page; without it the difference is printed."""

from __future__ import annotations

import difflib
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models.checkpoint import quiet_loading
from marginalia.scoring.models.local_model import local_model
from tests.scoring.networks import enlarge
from tests.scoring.tree_difference import largest_difference

PAGE = Path(__file__).parents[2] / "docs/architectures.md"
VOCABULARY = 300
SPECIAL = 3  # the first token ids are special
WINDOW = 16
MOST_PARAMETERS = 20_000_000
SECONDS, BYTES = 60, 6 << 30  # for one architecture of --all
# the architectures that guards are built on, and what is special about them
GUARDS = {
    "llama": "Llama Guard 1 to 3, Nemotron Safety Guard 8B, the demo guard",
    "llama4_text": "Llama Guard 4; experts; layers without rotary encoding whose attention has a temperature",
    "gemma2": "ShieldGemma; soft caps",
    "gemma3_text": "Nemotron Content Safety Reasoning 4B; a rotary encoding for each kind of layer",
    "gpt_oss": "gpt-oss-safeguard; attention sinks; experts",
    "granite": "Granite Guardian 3.0 to 3.3",
    "granitemoe": "Granite Guardian 3.2 3B-A800M; experts",
    "granitemoehybrid": "Granite 4 without recurrent layers; experts",
    "mistral": "WildGuard",
    "qwen2": "PolyGuard-Qwen",
    "qwen3": "Qwen3Guard-Gen",
    "qwen3_moe": "experts",
    "cohere2": "layers without rotary encoding",
    "deepseek_v3": "latent attention; experts",
    "mixtral": "experts",
    "olmo2": "",
    "phi3": "",
    "smollm3": "layers without rotary encoding",
    "lfm2": "layers with convolutions",
    "qwen3_5_text": "recurrent layers",
}
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 256,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "hidden_size": 32,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "intermediate_size_mlp": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 8,
    "n_embd": 32,
    "n_layer": 8,
    "n_head": 4,
    "n_positions": 256,
    "rotary_dim": 4,
    "n_ctx": 256,
    "d_model": 32,
    "n_layers": 8,
    "n_heads": 4,
    "max_seq_len": 256,
    "ffn_dim": 64,
    "word_embed_proj_dim": 32,
    "decoder_layers": 8,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "is_decoder": True,
    "query_pre_attn_scalar": 8,
    "attn_logit_softcapping": 1.0,
    "final_logit_softcapping": 4.0,
    "floor_scale": 4,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
}
# tried in this order until a model can be made and run: not every architecture shares keys and values between heads
ATTEMPTS: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 4, "head_dim": None, "qk_head_dim": None},
)
FURTHER: dict[str, dict[str, Any]] = {
    "granitemoehybrid": {"layer_types": ["attention"] * 8},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 4, "num_dense_layers": 1},
    "modernbert-decoder": {"local_attention": WINDOW},
    "falcon": {"head_dim": None},
    "gemma3n_text": {"num_kv_shared_layers": 2},
    "gemma4_text": {"num_kv_shared_layers": 2},
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"] * 4},
    "gpt_neo": {"num_layers": 8, "num_heads": 4, "window_size": WINDOW, "attention_types": [[["global", "local"], 4]]},
    "inkling_text": {"sliding_window_size": WINDOW},
}


# what its weights are multiplied by; with 4, plain passes in float32 already round by more than 1e-4
FACTORS = {"minicpm3": 2, "youtu": 2}


class _Tokenizer:
    eos_token_id = 2


@dataclass(frozen=True)
class Result:
    """What was found for one architecture. `attention`: the kinds of its layers; `difference`: the largest, in nats;
    `noticed`: what the difference would be if tokens did not see their parents; `problem`: why there is no difference;
    `made`: whether a small model could be made."""

    name: str
    attention: str = ""
    difference: float = float("nan")
    noticed: float = float("nan")
    problem: str = ""
    made: bool = True

    @property
    def equal(self) -> str:
        """With the power of ten that the difference is below."""
        if self.problem:
            return "no: refused"
        power = next((power for power in (-5, -4) if self.difference < 10.0**power), None)
        return "**no**" if power is None else f"yes (below 1e{power})"

    def row(self, notes: str) -> str:
        """Its row of the first table."""
        notes = "; ".join(note for note in (notes, _general(self.problem)) if note)
        return f"| `{self.name}` | {self.attention or '–'} | {self.equal} | {notes} |"


def small_model(name: str, sizes: dict[str, Any]) -> Any:
    """A random model. Its weights are large enough that what a token sees matters."""
    config_class = CONFIG_MAPPING[name]
    wanted = {**SIZES, **FURTHER.get(name, {}), **sizes}
    known = {key for base in config_class.__mro__ for key in getattr(base, "__annotations__", {})}
    known |= set(config_class.attribute_map) | {"pad_token_id", "bos_token_id", "eos_token_id"}
    config = config_class(**{key: value for key, value in wanted.items() if key in known and value is not None})
    if config.get_text_config() is not config:
        raise ModelError("it has more parts than a text model")
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if parameters > MOST_PARAMETERS:
        raise ModelError(f"it has at least {parameters:,} parameters")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    enlarge(model, FACTORS.get(name, 4))
    return model


def examine(name: str) -> Result:
    """Makes a small model and compares. A model that cannot be made, or is refused, has a `problem`."""
    result = Result(name, made=False)
    for sizes in ATTEMPTS:
        try:
            model = small_model(name, sizes)
        except Exception as error:  # each config has requirements of its own
            result = result if result.problem else replace(result, problem=_one_line(error))
            continue
        try:
            loaded = local_model(model, _Tokenizer(), name, "random")
        except ModelError as error:
            reason = error.message.partition(" cannot be scored on this machine: ")[2]
            result = Result(name, problem=reason)
            if "self-check failed" not in reason:
                return result
            continue
        kinds = sorted({mask.kind for mask in loaded.runner.masks})
        ids = range(SPECIAL, VOCABULARY)
        noticed = largest_difference(loaded, ids, forget=1)
        return Result(name, ", ".join(kinds), largest_difference(loaded, ids), noticed)
    return result


def examine_apart(name: str) -> Result:
    """`examine` in a process of its own with bounded memory and time: some architectures have no small model."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        signal.alarm(SECONDS)
        with quiet_loading():
            os.write(writer, json.dumps(asdict(examine(name))).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return (
        Result(**json.loads(answer)) if answer else Result(name, problem="more time or memory than allowed", made=False)
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _general(problem: str) -> str:
    """The reason without what differs from model to model."""
    if "have attention that can be replaced" in problem:
        return "not all layers have attention of transformers' attention interface"
    return re.sub(r"(?: \(|: )?(?:a recurrent state|RuntimeError|[A-Z]\w+Error).*", "", problem)


def first_table(results: Iterable[Result]) -> str:
    """The table of the architectures that guards are built on."""
    head = "| architecture | attention | tree path equal (largest difference) | notes |\n|---|---|---|---|\n"
    return head + "".join(result.row(GUARDS[result.name]) + "\n" for result in results)


def further_lists(results: Sequence[Result]) -> str:
    """All other architectures, by what was found."""
    groups: dict[str, list[str]] = {}
    for result in sorted(results, key=lambda each: (not each.made, bool(each.problem), each.attention)):
        key = f"{result.equal}, {result.attention} attention"
        if result.problem:
            key = (
                f"Refused: {_general(result.problem)}"
                if result.made
                else "Not examined: no small text model could be made"
            )
        groups.setdefault(key, []).append(f"`{result.name}`")
    lines = [f"- **{key[0].upper()}{key[1:]}** ({len(names)}): {', '.join(names)}" for key, names in groups.items()]
    return f"With transformers {transformers.__version__}:\n\n" + "\n".join(lines) + "\n"


def _with_part(page: str, name: str, text: str) -> str:
    """The page with the text between the marks of this name."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}"


def main(arguments: Sequence[str]) -> int:
    """Returns 1 when the page differs and is not written."""
    torch.set_num_threads(1)
    page = PAGE.read_text(encoding="utf-8")
    with quiet_loading():
        new_page = _with_part(page, "guards", first_table([examine(name) for name in GUARDS]))
    if "--all" in arguments:
        others = [examine_apart(name) for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in GUARDS]
        new_page = _with_part(new_page, "others", further_lists(others))
    if "--write" in arguments:
        PAGE.write_text(new_page, encoding="utf-8")
        return 0
    sys.stdout.writelines(difflib.unified_diff(page.splitlines(True), new_page.splitlines(True), "page", "found"))
    return int(new_page != page)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
