"""A model with a LoRA adapter merged into its weights: W + scale · B A (Hu et al., arXiv 2106.09685).

The merged model is written once into a folder of the cache, so scoring needs neither peft nor a second matrix
product."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.storage.files import read_model, sha256
from marginalia.scoring.models.bundled_model import NAME, bundled_smollm2
from marginalia.scoring.models.model_cache import ENTRY, cached_folder, content_of

if TYPE_CHECKING:
    from torch import Tensor

DEMO_ADAPTER = Path(__file__).parents[1] / "adapters" / "support-tickets"
WEIGHTS = "model.safetensors"
_ADAPTER = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_MERGE = "1"  # to be raised when _merge_into writes other files


class AdapterConfig(BaseModel):
    """The keys of peft's adapter_config.json that the merge depends on. Unsupported variants of LoRA are refused: by
    the constraints of these fields, or in `merge`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    r: int = Field(ge=1)
    lora_alpha: float
    peft_type: str = Field(pattern="^LORA$")
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: dict[str, int] = Field(default={}, max_length=0)
    alpha_pattern: dict[str, float] = Field(default={}, max_length=0)

    @property
    def scale(self) -> float:
        """The factor of B A in the merged weights."""
        return self.lora_alpha / self.r


def bundled_guard(cache: Path) -> Path:
    """The folder of the demo guard: the bundled small model with its adapter for the topics of support tickets."""
    return adapted_model(bundled_smollm2(cache), DEMO_ADAPTER, cache)


def bundled_guard_revision() -> str:
    """What is recorded as the demo guard's revision, which is part of the fingerprint of its scores."""
    return f"{NAME}+{DEMO_ADAPTER.name}-{sha256(DEMO_ADAPTER / _ADAPTER)[:16]}"


def adapted_model(base_folder: Path, adapter: Path, cache: Path) -> Path:
    """A folder in `cache` with the model in `base_folder` (one safetensors file) and `adapter` merged into it.

    Merges on the first call, which takes a second or two, and again when a file of the model or the adapter changes.
    Raises InputError when one of the folders lacks a file, ModelError when the adapter does not fit the model, and what
    `cached_folder` raises."""
    for folder, name in ((base_folder, WEIGHTS), (adapter, _ADAPTER), (adapter, _CONFIG)):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name} in this folder")
    inputs = {
        "base": content_of(base_folder),
        "adapter": sha256(adapter / _ADAPTER),
        "config": sha256(adapter / _CONFIG),
        "merge": _MERGE,
    }
    name = f"{base_folder.name}+{adapter.name}"
    return cached_folder(cache, name, inputs, lambda new_folder: _merge_into(new_folder, base_folder, adapter))


def _merge_into(new_folder: Path, base_folder: Path, adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = read_model(adapter / _CONFIG, AdapterConfig, made_by="peft")
    for path in base_folder.iterdir():
        if path.is_file() and path.name not in (WEIGHTS, ENTRY):
            shutil.copyfile(path, new_folder / path.name)
    merged = merge(load_file(base_folder / WEIGHTS), load_file(adapter / _ADAPTER), config)
    save_file(merged, new_folder / WEIGHTS, metadata={"format": "pt"})


def merge(weights: dict[str, Tensor], adapter: dict[str, Tensor], config: AdapterConfig) -> dict[str, Tensor]:
    """A copy of `weights` with W + scale · B A for each pair of matrices; computed in float32, stored in W's dtype.

    Raises ModelError for a matrix without its partner, one that fits no weight, or a variant of LoRA."""
    if config.use_rslora or config.use_dora or config.fan_in_fan_out:
        raise ModelError("this adapter is not plain LoRA", hint="merge it with peft, then use that folder as the model")
    merged = dict(weights)
    unused = dict(adapter)
    for name in [name for name in adapter if name.endswith(".lora_A.weight")]:
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        target = f"{layer}.weight"
        down, up = unused.pop(name), unused.pop(name.replace(".lora_A.", ".lora_B."), None)
        if up is None or target not in merged or (up.shape[0], down.shape[1]) != merged[target].shape:
            raise ModelError(f"the adapter's matrices for {layer} do not fit the model")
        delta = config.scale * (up.float() @ down.float())
        merged[target] = (merged[target].float() + delta).to(merged[target].dtype)
    if unused:
        raise ModelError(f"the adapter contains '{min(unused)}', which is not a LoRA matrix of a layer")
    return merged
