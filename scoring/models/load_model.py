"""Loads a model by its reference: a local model, or an endpoint at a URL."""

from __future__ import annotations

from pathlib import Path

from marginalia.schemas.errors import InputError
from marginalia.scoring.marginal.model_protocol import Model
from marginalia.scoring.score_request import GuardModel


def load_model(options: GuardModel, *, relative_to: Path = Path()) -> Model:
    """Loads the model that `options.model` names. A relative path of an endpoint's tokenizer starts from `relative_to`.

    Raises InputError, ModelError and ServiceError, as load_local and load_endpoint do."""
    if options.model.startswith(("http://", "https://")):
        from marginalia.scoring.models.endpoint_discovery import load_endpoint

        return load_endpoint(options.model, options, revision=options.revision, relative_to=relative_to)
    for key in ("tokenizer", "endpoint_model", "api_key_env", "extra_body"):
        if getattr(options, key):
            raise InputError(
                f"{key} is only for a model behind a URL, and '{options.model}' is not a URL", hint=f"leave {key} out"
            )
    from marginalia.scoring.models.local_model import load_local

    return load_local(options.model, revision=options.revision, device=options.device, dtype=options.dtype)
