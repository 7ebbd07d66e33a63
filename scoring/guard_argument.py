"""Which guard `Scorer.load` takes when none is named, and an error for arguments in the wrong order."""

from __future__ import annotations

from marginalia.schemas.errors import InputError
from marginalia.scoring.guard import SHIPPED
from marginalia.scoring.models.lora_adapter import DEMO_ADAPTER
from marginalia.scoring.models.model_reference import BUNDLED_GUARD

BUNDLED_MODELS = ("bundled", BUNDLED_GUARD)


def guard_argument(model: str | list[str], guard: str | None) -> str:
    """The guard to load. Raises InputError when the model does not have a guard of its own, and for a model in the
    guard's place."""
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    if guard is None and model == BUNDLED_GUARD:
        return DEMO_ADAPTER.name
    if guard is None:
        raise InputError(
            f"no guard for the model '{model}': a guard says how the model is asked and what its answers mean",
            hint="Scorer.load(model, guard) with a shipped guard, such as llama-guard-3 (marginalia guards list shows "
            "all), or the path of a guard file",
        )
    if guard in BUNDLED_MODELS or (model in shipped and guard not in shipped and not guard.endswith((".yaml", ".yml"))):
        raise InputError(
            f"'{guard}' is in the place of the guard, and '{model}' in that of the model",
            hint=f"the model comes first: Scorer.load('{guard}', '{model}')",
        )
    return guard
