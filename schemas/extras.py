"""Packages of the optional extras, and the install command to show when one of them is missing."""

from __future__ import annotations

from marginalia.schemas.errors import InputError

# top-level module → the extra of pyproject.toml that installs it
EXTRA_OF = {
    "argilla": "annotation",
    "datasets": "pipeline",
    "fastapi": "demo",
    "httpx": "annotation",
    "krippendorff": "annotation",
    "peft": "train",
    "py3langid": "generate",
    "ray": "ray",
    "scipy": "pipeline",
    "uvicorn": "demo",
}


def missing_extra(error: ModuleNotFoundError) -> InputError | None:
    """The error for a missing package of an extra; None for any other module."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF:
        return None
    return InputError(
        f"this needs the package '{package}', which is not installed",
        hint=f"pip install 'marginalia[{EXTRA_OF[package]}]'",
    )
