"""A model by its reference: on this machine, or behind a URL."""

from __future__ import annotations

from pathlib import Path

from marginalia.schemas.errors import InputError
from marginalia.scoring.marginal.model_protocol import Model
from marginalia.scoring.score_request import GuardModel


def load_model(wanted: GuardModel, *, relative_to: Path = Path()) -> Model:
    """The model that is named there; a relative path of an endpoint's tokenizer starts from `relative_to`.

    Raises InputError, ModelError and ServiceError, as load_local and load_endpoint do."""
    if wanted.model.startswith(("http://", "https://")):
        from marginalia.scoring.models.endpoint_discovery import load_endpoint

        return load_endpoint(wanted.model, wanted, revision=wanted.revision, relative_to=relative_to)
    for key in ("tokenizer", "endpoint_model", "api_key_env", "extra_body"):
        if getattr(wanted, key):
            raise InputError(
                f"{key} is for a model behind a URL, and '{wanted.model}' is none", hint=f"leave {key} out"
            )
    from marginalia.scoring.models.local_model import load_local

    return load_local(wanted.model, revision=wanted.revision, device=wanted.device, dtype=wanted.dtype)
