"""Loading a network's weights: all of them, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from marginalia.schemas.errors import ModelError

SHOWN = 3  # names of weights in a message


def load_network(reference: str, folder: str, options: dict[str, Any], **further: Any) -> Any:
    """transformers' causal language model with its own attention ("sdpa"), on the CPU.

    Raises ModelError where the checkpoint lacks a weight (transformers would draw it at random), has one more than the
    architecture, or one of another shape; whatever transformers raises for files that it cannot read."""
    from transformers import AutoModelForCausalLM

    with quiet_loading():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation="sdpa",
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named: nothing is ignored below
            **options,
            **further,
        )
    check_complete(reference, info)
    return model


def check_complete(reference: str, info: dict[str, Any]) -> None:
    """`info`: transformers' loading info. Raises ModelError that names the first few weights that do not fit."""
    shapes = {name: f"{name} is {_shape(here)}, not {_shape(wanted)}" for name, here, wanted in info["mismatched_keys"]}
    problems = [
        (sorted(info["missing_keys"]), "lacks", "weights of its architecture"),
        ([shapes[name] for name in sorted(shapes)], "has", "weights of another shape"),
        (sorted(info["unexpected_keys"]), "has", "weights that its architecture does not"),
    ]
    faults = [
        f"{verb} {len(names)} {what}: {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
        for names, verb, what in problems
        if names
    ]
    if faults:
        raise ModelError(
            f"the checkpoint of '{reference}' does not fit its config.json: it {'; it '.join(faults)}",
            hint="download or save the model again; an adapter must be merged into its base model first",
        )


def _shape(size: Any) -> str:
    return "×".join(str(length) for length in size) or "one number"


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """transformers reports its loading on stderr by a progress bar of its own; ours tells what the user needs."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    shown = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if shown:
            logging.enable_progress_bar()
