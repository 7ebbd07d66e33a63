"""Loads the tokenizer of a model that is served elsewhere, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.hub_client import download_problem
from marginalia.schemas.storage.files import content_hash
from marginalia.scoring.models.local_model import resolve
from marginalia.scoring.models.model_cache import model_cache
from marginalia.scoring.models.model_files import check_model_files


@dataclass(frozen=True)
class ServedTokenizer:
    """A tokenizer, and what scoring needs to know about its model. `end_ids`: the end-of-sequence ids of the model's
    generation_config; `context`: the longest sequence in tokens, None when unknown."""

    tokenizer: Any
    end_ids: tuple[int, ...]
    context: int | None

    @property
    def digest(self) -> str:
        """Hash of everything that determines its output, including its chat template and the end ids."""
        backend = self.tokenizer.backend_tokenizer.to_str()
        return content_hash([backend, getattr(self.tokenizer, "chat_template", None), list(self.end_ids)])[:16]


def load_tokenizer(
    reference: str | None, *, revision: str | None = None, cache: Path | None = None, relative_to: Path = Path()
) -> ServedTokenizer:
    """Loads the tokenizer and generation_config of a folder, a .gguf file, the bundled model or a pinned Hub id.

    A relative path starts from `relative_to`. Raises InputError when `reference` is None or does not exist, ModelError
    when it cannot be loaded."""
    if reference is None:
        raise InputError(
            "a model behind a URL needs a local copy of its tokenizer",
            hint="set tokenizer (--tokenizer) to the served model's folder, .gguf file or Hub id",
        )
    path = relative_to / reference
    if path.is_dir() and any((path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        folder, options = str(path), {"local_files_only": True}
    else:
        local = str(path) if path.exists() else reference
        folder, options, _ = resolve(local, revision, cache or model_cache())
    options.pop("use_safetensors", None)
    check_model_files(reference, folder, options)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"cannot load the tokenizer '{reference}': {download_problem(error)}") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"the tokenizer '{reference}' is not a fast tokenizer", hint="use a model folder with tokenizer.json"
        )
    configured_ids, context = _configured(folder, options)
    end_ids = configured_ids if configured_ids is not None else tokenizer.eos_token_id
    if end_ids is None:
        raise ModelError(
            f"the tokenizer '{reference}' has no end-of-sequence token",
            hint="set eos_token_id in its generation_config.json",
        )
    return ServedTokenizer(tokenizer, tuple(end_ids) if isinstance(end_ids, list | tuple) else (int(end_ids),), context)


def _configured(folder: str, options: dict[str, Any]) -> tuple[int | list[int] | None, int | None]:
    """(eos_token_id of generation_config.json or else of config.json, context length of config.json)."""
    from transformers import AutoConfig, GenerationConfig

    end_ids = context = None
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options).get_text_config()
        end_ids, context = getattr(config, "eos_token_id", None), getattr(config, "max_position_embeddings", None)
    except (OSError, ValueError, KeyError):
        pass  # a folder with only the tokenizer has no config.json
    if "gguf_file" not in options:
        try:
            configured_ids = GenerationConfig.from_pretrained(folder, **options).eos_token_id
            end_ids = configured_ids if configured_ids is not None else end_ids
        except (OSError, ValueError):
            pass
    return end_ids, context
