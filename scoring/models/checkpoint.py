"""Loads a network's weights, and refuses a checkpoint that does not have exactly the weights of its architecture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from marginalia.schemas.errors import ModelError

SHOWN = 3  # weights listed in a message


def load_network(reference: str, folder: str, options: dict[str, Any], **further: Any) -> Any:
    """Loads a causal language model with transformers, with its own attention, on the CPU.

    Raises ModelError when the checkpoint lacks a weight (transformers would initialise it at random), has one that the
    architecture does not, or one of another shape. Errors of transformers for unreadable files pass through."""
    from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config

    with quiet_loading():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
        if _quantization(config) == "mxfp4":  # gpt-oss; otherwise transformers may load kernels from the Hub for it
            further["quantization_config"] = Mxfp4Config(dequantize=True)
        if "gguf_file" in options:
            further["config"] = config  # reading it takes seconds
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation=attention_of(config),
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported in `info` and refused below, with their names
            **options,
            **further,
        )
    if config.get_text_config() is not config and model.config.get_text_config() is model.config:
        # the text model of a checkpoint that also reads images: the weights of its other parts are not needed
        text = f"{model.base_model_prefix}."
        info["unexpected_keys"] = [name for name in info["unexpected_keys"] if name.startswith(text)]
    check_complete(reference, info)
    return model


def _quantization(config: Any) -> str | None:
    given = getattr(config, "quantization_config", None) or {}
    return given.get("quant_method") if isinstance(given, dict) else None


def attention_of(config: Any) -> str:
    """The attention implementation that transformers chooses for the causal model of a config."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    from marginalia.scoring.models.attention_masks import own_implementation

    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return "sdpa" if model_class is None else own_implementation(model_class)


def check_complete(reference: str, info: dict[str, Any]) -> None:
    """Raises ModelError with the first few weights that do not fit. `info`: the loading info of transformers."""
    shapes = {
        name: f"{name} is {_shape(stored)}, not {_shape(expected)}"
        for name, stored, expected in info["mismatched_keys"]
    }
    problems = [
        (sorted(info["missing_keys"]), "lacks", "weights of its architecture"),
        ([shapes[name] for name in sorted(shapes)], "has", "weights of another shape"),
        (sorted(info["unexpected_keys"]), "has", "weights that its architecture does not"),
    ]
    misfits = [
        f"{verb} {len(names)} {description}: {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
        for names, verb, description in problems
        if names
    ]
    if misfits:
        raise ModelError(
            f"the checkpoint of '{reference}' does not fit its config.json: it {'; it '.join(misfits)}",
            hint="download or save the model again; an adapter must be merged into its base model first",
        )


def _shape(size: Any) -> str:
    return "×".join(str(length) for length in size) or "one number"


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Turns off the messages and progress bar that transformers writes to stderr while it loads a model."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    had_progress_bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_progress_bar:
            logging.enable_progress_bar()
