"""Sentence embeddings of texts by a local model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch

from marginalia.pipeline.config.generation import DuplicatesSection
from marginalia.pipeline.generation.acceptance.semantic_duplicates import Vectors
from marginalia.schemas.errors import InputError, ModelError, ServiceError
from marginalia.schemas.hub_client import check_downloads, download_problem
from marginalia.schemas.storage.files import sha256
from marginalia.scoring.models.checkpoint import check_complete, quiet_loading
from marginalia.scoring.models.model_files import check_model_files

_MAX_TOKENS = 512  # per text, where the model does not set a limit
_BATCH = 32  # texts per forward pass
_MODULES = {"Transformer", "Pooling", "Normalize"}  # the supported parts of a sentence-transformers model
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


class Embedder:
    """A transformers model whose token states are pooled into one unit vector per text (Reimers & Gurevych 2019).

    For a sentence-transformers folder, its pooling (mean or first token) and maximum length are used; any other model
    is pooled by the mean. `revision` identifies the model in a manifest."""

    def __init__(self, section: DuplicatesSection, *, relative_to: Path) -> None:
        """Raises InputError when the model does not exist, ModelError when it cannot be used, and ServiceError when the
        Hub cannot be reached."""
        from transformers import AutoModel, AutoTokenizer

        assert section.model is not None
        self._prefix = section.prefix
        folder, self.revision = _folder(section.model, section.revision, relative_to)
        self._first_token = _pools_first_token(folder)
        device = section.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        options = {"local_files_only": True}
        check_model_files(section.model, str(folder), options)
        try:
            with quiet_loading():
                self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
                model, info = AutoModel.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    **options,
                )
            self._model = model.to(device).eval()
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(f"cannot load the embedding model '{section.model}': {download_problem(error)}") from None
        # heads and BERT's pooler are not used here: token states are pooled
        missing = {name for name in info["missing_keys"] if not name.startswith("pooler.")}
        check_complete(section.model, {**info, "missing_keys": missing, "unexpected_keys": ()})
        self._max_tokens = _max_tokens(folder, self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimensions), each row of length 1. Equal batches give equal rows."""
        # batches of texts of similar length: less padding, and no result depends on the order of `texts`
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        parts = [
            self._batch([self._prefix + texts[index] for index in order[start : start + _BATCH]])
            for start in range(0, len(order), _BATCH)
        ]
        if not parts:
            return np.zeros((0, 0), dtype=np.float32)
        sorted_vectors = np.concatenate(parts)
        vectors = np.empty_like(sorted_vectors)
        vectors[order] = sorted_vectors
        return vectors

    def _batch(self, texts: list[str]) -> Vectors:
        # tokenizers do not accept lone surrogates
        readable = [text.encode("utf-8", "replace").decode() for text in texts]
        inputs = self._tokenizer(
            readable, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        if self._first_token:
            pooled = states[torch.arange(len(texts)), mask[..., 0].argmax(dim=1)]
        else:
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        vectors: Vectors = torch.nn.functional.normalize(pooled, dim=1).float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ModelError(
                "the embedding model returned non-finite numbers", hint="set another generate.duplicates.model"
            )
        return vectors


def _folder(reference: str, revision: str | None, relative_to: Path) -> tuple[Path, str]:
    """The model's folder, and what the manifest records as its revision."""
    folder = relative_to / reference
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise InputError.at(folder, "config.json not found", hint="expected a transformers model folder")
        return folder, f"local folder, SHA-256 {sha256(folder, links=True)[:12]}"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", reference) or revision is None:
        hint = (
            "generate.duplicates.model: a folder, or a Hub id such as intfloat/multilingual-e5-small with its revision"
        )
        raise InputError(f"no embedding model folder '{reference}' in {relative_to}", hint=hint)
    return _from_hub(reference, revision), revision


def _from_hub(reference: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    check_downloads()
    try:
        return Path(snapshot_download(reference, revision=revision, allow_patterns=list(_FILES)))
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise ServiceError(f"cannot download the embedding model '{reference}': {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _pools_first_token(folder: Path) -> bool:
    """Whether a text's vector is that of its first token. Raises ModelError for a pooling that is not supported."""
    for module in _json(folder / "modules.json") or []:
        module_type = str(module.get("type", "")).rpartition(".")[2]
        if module_type not in _MODULES:
            raise ModelError(f"{folder}: the embedding model has a module '{module_type}', which is not supported")
    pooling = _json(folder / "1_Pooling" / "config.json") or {}
    modes = {name for name, value in pooling.items() if name.startswith("pooling_mode") and value is True}
    modes |= {str(pooling["pooling_mode"])} if isinstance(pooling.get("pooling_mode"), str) else set()
    if modes <= {"pooling_mode_mean_tokens", "mean"}:
        return False
    if modes <= {"pooling_mode_cls_token", "cls"}:
        return True
    raise ModelError(f"{folder}: the embedding model pools by {', '.join(sorted(modes))}; mean and cls are supported")


def _max_tokens(folder: Path, tokenizer: Any) -> int:
    limit = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    return int(limit) if isinstance(limit, int) and limit > 0 else min(int(tokenizer.model_max_length), _MAX_TOKENS)


def _json(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: invalid JSON: {error}") from error
