"""A model by its reference: on this machine, or behind a URL."""

from __future__ import annotations

from pathlib import Path

from marginalia.schemas.errors import InputError
from marginalia.scoring.config import EndpointOptions
from marginalia.scoring.marginal.model_protocol import Model


def load_model(
    reference: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    endpoint: EndpointOptions | None = None,
    relative_to: Path = Path(),
) -> Model:
    """The model that `reference` names; `endpoint` is for URLs, `device` and `dtype` for all others.

    Raises InputError, ModelError and ServiceError, as load_local and load_endpoint do."""
    if reference.startswith(("http://", "https://")):
        from marginalia.scoring.models.endpoint_discovery import load_endpoint

        return load_endpoint(reference, endpoint or EndpointOptions(), revision=revision, relative_to=relative_to)
    for key in ("tokenizer", "endpoint_model", "api_key_env", "extra_body"):
        if endpoint is not None and getattr(endpoint, key):
            raise InputError(f"{key} is for a model behind a URL, and '{reference}' is none", hint=f"leave {key} out")
    from marginalia.scoring.models.local_model import load_local

    return load_local(reference, revision=revision, device=device, dtype=dtype)
