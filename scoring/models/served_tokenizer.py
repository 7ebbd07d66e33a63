"""The tokenizer of a model that is served elsewhere, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.storage.files import content_hash
from marginalia.scoring.models.bundled_model import model_cache
from marginalia.scoring.models.local_model import resolve


@dataclass(frozen=True)
class ServedTokenizer:
    """`end_ids` as the model's generation_config says, `context` in tokens (None when nothing says it)."""

    tokenizer: Any
    end_ids: tuple[int, ...]
    context: int | None

    @property
    def digest(self) -> str:
        """Of everything that the tokenizer does, its chat template and the end ids included."""
        backend = self.tokenizer.backend_tokenizer.to_str()
        return content_hash([backend, getattr(self.tokenizer, "chat_template", None), list(self.end_ids)])[:16]


def load_tokenizer(
    reference: str | None, *, revision: str | None = None, cache: Path | None = None, relative_to: Path = Path()
) -> ServedTokenizer:
    """Loads the tokenizer and generation_config of a folder, a .gguf file, the bundled model or a pinned Hub id.

    Raises InputError when none is named or there is no such one, ModelError when it cannot be loaded."""
    if reference is None:
        raise InputError(
            "a model behind a URL needs its tokenizer on this machine",
            hint="set tokenizer (--tokenizer) to the served model's folder, .gguf file or Hub id",
        )
    beside = relative_to / reference
    if beside.is_dir() and any((beside / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        folder, options = str(beside), {"local_files_only": True}
    else:
        local = str(beside) if beside.exists() else reference
        folder, options, _ = resolve(local, revision, cache or model_cache())
    options.pop("use_safetensors", None)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = next((line for line in str(error).split("\n") if line.strip()), type(error).__name__)
        raise ModelError(f"cannot load the tokenizer '{reference}': {reason}") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"the tokenizer '{reference}' is not a fast one", hint="use a model folder with tokenizer.json"
        )
    configured, context = _configured(folder, options)
    ends = configured if configured is not None else tokenizer.eos_token_id
    if ends is None:
        raise ModelError(
            f"the tokenizer '{reference}' names no end-of-sequence token",
            hint="set eos_token_id in its generation_config.json",
        )
    return ServedTokenizer(tokenizer, tuple(ends) if isinstance(ends, list | tuple) else (int(ends),), context)


def _configured(folder: str, options: dict[str, Any]) -> tuple[int | list[int] | None, int | None]:
    """eos_token_id of generation_config.json, else of config.json; and the context that config.json gives."""
    from transformers import AutoConfig, GenerationConfig

    ends = context = None
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options).get_text_config()
        ends, context = getattr(config, "eos_token_id", None), getattr(config, "max_position_embeddings", None)
    except (OSError, ValueError, KeyError):
        pass  # a folder of just the tokenizer has none
    if "gguf_file" not in options:
        try:
            configured = GenerationConfig.from_pretrained(folder, **options).eos_token_id
            ends = configured if configured is not None else ends
        except (OSError, ValueError):
            pass
    return ends, context
