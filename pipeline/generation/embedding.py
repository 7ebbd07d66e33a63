"""Sentence embeddings of texts, from a model on this machine."""

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
from marginalia.schemas.hub_client import check_downloads
from marginalia.schemas.storage.files import sha256
from marginalia.scoring.models.checkpoint import check_complete, quiet_loading

_LONGEST = 512  # tokens, where the model names no limit of its own
_BATCH = 32  # texts a forward pass
_MODULES = {"Transformer", "Pooling", "Normalize"}  # of a sentence-transformers folder: what is computed here
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


class Embedder:
    """A transformers model whose token states are pooled into one unit vector a text (Reimers & Gurevych 2019).

    The folder may be one of sentence-transformers: its pooling (mean or first token) and longest text are obeyed; any
    other is pooled by the mean. `revision` is what identifies the model in a manifest."""

    def __init__(self, section: DuplicatesSection, *, relative_to: Path) -> None:
        """Raises InputError when there is no such model, ModelError when it is of no use, ServiceError for the Hub."""
        from transformers import AutoModel, AutoTokenizer

        assert section.model is not None
        self._prefix = section.prefix
        folder, self.revision = _folder(section.model, section.revision, relative_to)
        self._first_token = _pools_first_token(folder)
        device = section.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        options = {"local_files_only": True}
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
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"cannot load the embedding model '{section.model}': {said}") from error
        # heads are of no use here, nor is BERT's pooler: token states are pooled
        missing = {name for name in info["missing_keys"] if not name.startswith("pooler.")}
        check_complete(section.model, {**info, "missing_keys": missing, "unexpected_keys": ()})
        self._longest = _longest(folder, self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimensions), each row of length 1. Equal batches give equal rows."""
        # a text is a row of its own length's batch: less padding, and nothing depends on which came first
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        parts = [
            self._batch([self._prefix + texts[place] for place in order[start : start + _BATCH]])
            for start in range(0, len(order), _BATCH)
        ]
        if not parts:
            return np.zeros((0, 0), dtype=np.float32)
        sorted_vectors = np.concatenate(parts)
        vectors = np.empty_like(sorted_vectors)
        vectors[order] = sorted_vectors
        return vectors

    def _batch(self, texts: list[str]) -> Vectors:
        # a lone surrogate is no text for a tokenizer
        readable = [text.encode("utf-8", "replace").decode() for text in texts]
        inputs = self._tokenizer(
            readable, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
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
                "the embedding model gave numbers that are not finite", hint="set another duplicates.model"
            )
        return vectors


def _folder(reference: str, revision: str | None, relative_to: Path) -> tuple[Path, str]:
    """The model's folder, and what to record as its revision."""
    folder = relative_to / reference
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise InputError.at(folder, "no config.json in this folder", hint="expected a transformers model folder")
        return folder, f"local folder, SHA-256 {sha256(folder)[:12]}"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", reference) or revision is None:
        hint = (
            "generate.duplicates.model: a folder, or a Hub id such as intfloat/multilingual-e5-small with its revision"
        )
        raise InputError(f"no embedding model '{reference}' to be found from {relative_to}", hint=hint)
    return _from_hub(reference, revision), revision


def _from_hub(reference: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    check_downloads()
    try:
        return Path(snapshot_download(reference, revision=revision, allow_patterns=list(_FILES)))
    except (httpx2.HTTPError, OSError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ServiceError(f"cannot fetch the embedding model '{reference}': {said}") from error


def _pools_first_token(folder: Path) -> bool:
    """Whether the text's vector is that of its first token. Raises ModelError for a pooling that is unknown here."""
    for module in _json(folder / "modules.json") or []:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in _MODULES:
            raise ModelError(f"{folder}: the embedding model has a part '{kind}', of which nothing is known here")
    pooling = _json(folder / "1_Pooling" / "config.json") or {}
    modes = {name for name, value in pooling.items() if name.startswith("pooling_mode") and value is True}
    modes |= {str(pooling["pooling_mode"])} if isinstance(pooling.get("pooling_mode"), str) else set()
    if modes <= {"pooling_mode_mean_tokens", "mean"}:
        return False
    if modes <= {"pooling_mode_cls_token", "cls"}:
        return True
    raise ModelError(f"{folder}: the embedding model pools by {', '.join(sorted(modes))}; mean and cls are known here")


def _longest(folder: Path, tokenizer: Any) -> int:
    told = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    return int(told) if isinstance(told, int) and told > 0 else min(int(tokenizer.model_max_length), _LONGEST)


def _json(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
