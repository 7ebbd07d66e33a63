"""What a model reference may be: a folder, a GGUF file, a bundled model or a pinned Hub id. Checked without loading."""

from __future__ import annotations

import re
from pathlib import Path

from marginalia.schemas.errors import InputError, did_you_mean

BUNDLED = "bundled"
BUNDLED_GUARD = "bundled-guard"
MODEL_HINT = (
    "--model takes a folder with config.json, tokenizer and *.safetensors, a .gguf file, "
    f"'{BUNDLED_GUARD}' or '{BUNDLED}' (both are installed with Marginalia), a Hub id with --revision, or a URL"
)


def check_reference(reference: str, revision: str | None) -> None:
    """Raises InputError when there is no such model on this machine and the reference is no Hub id with a revision."""
    path = Path(reference)
    if reference in (BUNDLED, BUNDLED_GUARD):
        return
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"{path}: no such GGUF file", hint=MODEL_HINT)
        return
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"{path}: no config.json in this folder", hint=MODEL_HINT)
        return
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", reference) or reference.startswith("."):
        near = did_you_mean(reference, (BUNDLED, BUNDLED_GUARD))
        raise InputError(f"no model '{reference}': no such folder{near}", hint=MODEL_HINT)
    if revision is None:
        raise InputError(
            f"no folder '{reference}', and a Hub model needs a pinned revision",
            hint="set revision (--revision) to a commit id from the model's Hub page",
        )
