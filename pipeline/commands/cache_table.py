"""What `marginalia cache` prints: the folder of converted models, its entries and their size."""

from __future__ import annotations

from pathlib import Path

from marginalia.scoring.models.model_cache import VARIABLE, cached_models


def cache_table(folder: Path) -> str:
    """One line per cached model, with its size and whether it is intact. Hashes every file."""
    models = cached_models(folder)
    lines = [f"{folder} (set {VARIABLE} to use another folder)"]
    width = max((len(model.name) for model in models), default=0)
    for model in models:
        state = "intact" if model.problem is None else f"not used: {model.problem}"
        lines.append(f"  {model.name:{width}}  {model.bytes / 1e6:7,.0f} MB  {state}")
    count = "1 model" if len(models) == 1 else f"{len(models)} models"
    lines.append(f"  {count}, {sum(model.bytes for model in models) / 1e6:,.0f} MB")
    if any(model.problem for model in models):
        lines.append(
            "Damaged models, and those of older versions, are not used. Free their space: marginalia cache --clear"
        )
    return "\n".join(lines)
