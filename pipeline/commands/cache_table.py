"""What `marginalia cache` prints: the folder of converted models, its entries and their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marginalia.schemas.terminal import table, wrapped
from marginalia.scoring.models.model_cache import VARIABLE, CachedModelState


def cache_table(folder: Path, models: list[CachedModelState]) -> str:
    """One row per cached model, with its size and whether it is intact."""
    rows = [(model.name, _megabytes(model.bytes), _state(model)) for model in models]
    count = "1 model" if len(models) == 1 else f"{len(models)} models"
    lines = [
        f"{folder} (set {VARIABLE} to use another folder)",
        *([table(["model", "MB", "state"], rows)] if rows else []),
    ]
    lines.append(f"  {count}, {_megabytes(sum(model.bytes for model in models))} MB")
    if any(model.problem for model in models):
        lines.append(
            "Damaged models, and those of older versions, are not used. Free their space: marginalia cache --clear"
        )
    return wrapped("\n".join(lines))


def cache_data(folder: Path, models: list[CachedModelState]) -> dict[str, Any]:
    """The same for `--json`."""
    rows = [{"name": model.name, "bytes": model.bytes, "problem": model.problem} for model in models]
    return {"folder": str(folder), "bytes": sum(model.bytes for model in models), "models": rows}


def _state(model: CachedModelState) -> str:
    return "intact" if model.problem is None else f"not used: {model.problem}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"
