"""Checks the files of a model before transformers reads them. A model folder is untrusted input.

transformers does what some keys of its JSON files ask for: it loads native code from the Hub, or files outside the
model folder. Others are sizes, which can ask for any amount of memory and time. Keys that name Python code (`auto_map`,
`custom_generate`) need no check: they have no effect with `trust_remote_code=False`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.storage.files import read_text
from marginalia.schemas.storage.regular_files import check_file_or_folder
from marginalia.scoring.models.checkpoint import attention_of
from marginalia.scoring.models.gguf_sizes import check_gguf

SETTINGS = ("config.json", "tokenizer_config.json", "adapter_config.json", "model.safetensors.index.json")
SUFFIXES = (".json", ".jinja", ".safetensors", ".gguf", ".model", ".txt", ".bin")  # of files that transformers reads
MOST_BYTES = 1 << 26  # of each of SETTINGS
# by pattern of a key: the values that select an implementation which is part of transformers
IMPLEMENTATIONS = {
    "attn_implementation": ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"),
    "experts_implementation": ("eager", "batched_mm", "grouped_mm"),
}
NEVER = ("configuration_files", "init_inputs", "kernel_config", "use_kernels")  # other settings, arguments, kernels
FILE_NAMES = ("fast_tokenizer_files", "transformers_weights", "weight_map", "architecture", "backbone")
LAYERS = re.compile(r"(num|n)_(\w*_)?(layers?|blocks)|(en|de)coder_layers|depth")
EXPERTS = re.compile(r"\w*experts")
MOST_LAYERS, MOST_EXPERTS, MOST_MODULES = 1_000, 4_096, 100_000  # modules: layers × experts
FREE_BYTES = 1 << 30  # a model may need this much memory, however small its checkpoint
MOST_EXPANSION = 16  # bytes in memory per byte on disk: 4 bits become float32, and tied weights may be separate


def check_model_files(reference: str, folder: str, options: dict[str, Any]) -> None:
    """Checks the model in `folder`, or with this Hub id. `options`: those for from_pretrained.

    Raises InputError for a named pipe or a device in place of a file, and ModelError for settings that load code or
    files from elsewhere or that are too large."""
    block_hub_kernels()
    if Path(folder).is_dir():
        for path in sorted(Path(folder).iterdir()):
            if path.suffix in SUFFIXES:
                check_file_or_folder(path)
    if "gguf_file" in options:  # it has none of these keys
        check_gguf(reference, Path(folder) / options["gguf_file"])
        return
    for name in SETTINGS:
        settings = _path(folder, name, options)
        if settings is not None:
            _check_settings(reference, name, _content(reference, settings))


def block_hub_kernels() -> None:
    """Makes transformers refuse kernels from the Hub, which are native code, unless USE_HUB_KERNELS is set to allow
    them. Without this it loads some when the package `kernels` is installed and the type of a model asks for them."""
    from transformers.integrations import hub_kernels

    if os.environ.get("USE_HUB_KERNELS", "").upper() not in ("1", "ON", "YES", "TRUE"):
        hub_kernels.get_kernel = _refuse_kernel


def _refuse_kernel(name: str, *_: Any, **__: Any) -> None:
    # transformers takes its own code instead where it can
    raise FileNotFoundError(f"the kernel '{name}' is native code from the Hub, which is not loaded")


def _path(folder: str, name: str, options: dict[str, Any]) -> Path | None:
    if Path(folder).is_dir():
        path = Path(folder) / name
        return path if path.exists() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(folder, name, revision=options.get("revision"), _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # from_pretrained meets and reports the same error
        return None
    return None if found is None else Path(found)


def _content(reference: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path, most_bytes=MOST_BYTES))
    except InputError as error:
        raise ModelError(f"cannot load the model '{reference}': {error.message}") from error
    except (ValueError, RecursionError):
        return {}  # from_pretrained reports it
    return value if isinstance(value, dict) else {}


def _check_settings(reference: str, name: str, content: dict[str, Any]) -> None:
    if name == "adapter_config.json":
        raise ModelError(
            f"the model '{reference}' has an adapter (adapter_config.json), which names code and another model",
            hint="merge it into its base model with peft, then use that folder as the model",
        )
    for key, value in _items(content):
        if problem := _problem(key, value):
            raise ModelError(
                f"the model '{reference}': {name}: {problem}",
                hint=f"delete the key from {name} if you trust the model without it",
            )
    _check_sizes(reference, name, content)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys at all levels, with their values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)


def _problem(key: str, value: Any) -> str:
    """What is wrong with a key; empty if nothing is."""
    for pattern, allowed in IMPLEMENTATIONS.items():
        if key.strip("_").removesuffix("_internal") == pattern:
            named = list(value.values()) if isinstance(value, dict) else [value]
            if other := [one for one in named if one is not None and one not in allowed]:
                shown = f"allowed are {', '.join(allowed)}"
                return f"{key} is {str(other[0])[:80]!r}, which can be code from the Hub; {shown}"
    if key in NEVER and value:
        return f"{key} can load code or files from elsewhere"
    if key in FILE_NAMES:
        for text in _texts(value):
            if "/" in text or "\\" in text or ":" in text:
                return f"{key} names a file outside the model folder: {text[:80]!r}"
            if key == "weight_map" and not text.endswith(".safetensors"):
                return f"{key} names a file that is not safetensors: {text[:80]!r}"
    return ""


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        values = value.values() if isinstance(value, dict) else value
        return [text for inner in values for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _check_sizes(reference: str, name: str, content: dict[str, Any]) -> None:
    """Raises ModelError when a model of these settings would have very many modules: making them takes minutes, before
    its weights are compared with those of the checkpoint. `name`: the file, for the message."""
    layers = experts = 1
    for key, value in _items(content):
        if isinstance(value, list) and len(value) > MOST_MODULES and name == "config.json":
            raise ModelError(f"the model '{reference}': {name}: {key} has {len(value):,} items")
        if not isinstance(value, int):
            continue
        layers = max(layers, value) if LAYERS.fullmatch(key) else layers
        experts = max(experts, value) if EXPERTS.fullmatch(key) else experts
    if layers > MOST_LAYERS or experts > MOST_EXPERTS or layers * experts > MOST_MODULES:
        raise ModelError(
            f"the model '{reference}': {name}: {layers:,} layers and {experts:,} experts; at most {MOST_LAYERS:,} "
            f"layers, {MOST_EXPERTS:,} experts and {MOST_MODULES:,} of both multiplied are supported"
        )


def check_memory(reference: str, folder: str, options: dict[str, Any], auto_class: Any = None) -> None:
    """Raises ModelError when the model's settings need far more memory than its checkpoint has bytes: transformers
    would first allocate it, and then find that no weight fits. Makes the model without memory for its weights.

    Does nothing for a Hub model, whose weights are not on this machine yet, and for a GGUF (see check_gguf).
    `auto_class`: that of transformers for the model; default: AutoModelForCausalLM, with the attention "sdpa"."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import meta_device_safe_creation_ops, no_init_weights

    if not Path(folder).is_dir() or "gguf_file" in options:
        return
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
    with torch.device("meta"), no_init_weights(), meta_device_safe_creation_ops():
        if auto_class is not None:
            model = auto_class.from_config(config, trust_remote_code=False)
        else:
            model = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, attn_implementation=attention_of(config)
            )
    needed = sum(4 * tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    stored = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    if needed > FREE_BYTES + MOST_EXPANSION * stored:
        raise ModelError(
            f"the model '{reference}' needs {needed:,} bytes for the sizes in its config.json, and its checkpoint has "
            f"only {stored:,}",
            hint="download or save the model again",
        )
