"""`marginalia new`: creates a run folder with a commented config and its own copy of a taxonomy."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marginalia.pipeline.config.config_text import config_text, key_data, list_keys
from marginalia.pipeline.config.config_text import explain as explain_key
from marginalia.pipeline.config.run_config import Config, load_config
from marginalia.pipeline.core.artifacts import IMPORT_SETTINGS
from marginalia.pipeline.core.run import RUNS, Run, run_folder
from marginalia.pipeline.importing.import_stage import first_settings
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import cannot_write, fsync_folder, read_text, write_text
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import SHIPPED as GUARDS
from marginalia.scoring.guard import named_taxonomy

HEAD = """\
# {title}
# All settings with their defaults; `marginalia config --explain KEY` describes one.
# A line such as `#key: value` shows a default: remove the # to change it.

"""
CHOSEN = (  # keys that are not commented out, with their defaults
    "seed",
    "plan.records",
    "generate.endpoint.base_url",
    "generate.endpoint.model",
    "generate.endpoint.api_key_env",
    "annotation.url",
    "annotation.annotators",
    "annotation.team",
    "reconcile.method",
    "reconcile.splits.train",
    "reconcile.splits.calibration",
    "reconcile.splits.test",
    "score.guards",
    "evaluate.threshold",
    "release.repo_id",
    "release.license",
    "release.private",
    "release.gated",
)
HIDDEN = ("simulated", "simulation")  # only for the demo and for tests
YOUR_ENDPOINT = {  # placeholders to be filled in
    "generate.endpoint.base_url": "http://127.0.0.1:8000/v1",
    "generate.endpoint.model": "your-model",
    "generate.endpoint.api_key_env": "OPENAI_API_KEY",
}
# by taxonomy: the model of the guard that was made for it
HUB_MODELS = {
    "llama-guard-3": "meta-llama/Llama-Guard-3-8B",
    "llama-guard-2": "meta-llama/Meta-Llama-Guard-2-8B",
    "wildguard": "allenai/wildguard",
}


def new_run(name: str, taxonomy: str, *, data: Sequence[str] = (), root: Path = RUNS) -> Path:
    """Creates `root/name` with config.yaml and taxonomy.yaml, completely or not at all; returns the folder.

    `taxonomy` is a shipped name, the name of a guard's own taxonomy or a YAML file, which is copied unchanged. `data`:
    files that the run will import; import.yaml names them, so that no texts are planned. Raises InputError for an
    invalid name, a run that exists, an invalid taxonomy, and a file that does not exist."""
    folder = run_folder(name, root=root)
    if folder.exists():
        raise InputError(f"{folder} exists already; nothing was changed", hint="choose another name")
    source = named_taxonomy(taxonomy)
    loaded = load_taxonomy(str(source))
    temporary = root / f".{name}.{secrets.token_hex(4)}.partial"
    try:
        temporary.mkdir(parents=True)
        write_text(temporary / "taxonomy.yaml", read_text(source))
        write_text(temporary / "config.yaml", run_config(loaded.id, f"Run {name}: {loaded.title}"))
        config = load_config(temporary / "config.yaml")
        if data:
            write_text(temporary / IMPORT_SETTINGS, first_settings(Run(folder, config), data))
        # fails if another process has created the folder meanwhile, unless it is empty
        os.rename(temporary, folder)  # noqa: PTH104
        fsync_folder(root)
    except FileExistsError:
        raise InputError(f"{folder} exists already; nothing was changed", hint="choose another name") from None
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def run_config(taxonomy_id: str, title: str) -> str:
    """The text of config.yaml for a run with this taxonomy.

    A content-safety taxonomy gets the guard made for it and an endpoint to fill in. Any other taxonomy gets the bundled
    model as writer, and as guard an instruct model with the policy in its prompt."""
    values: dict[str, Any] = {"taxonomy": "taxonomy.yaml", "score.guards": [_guard(taxonomy_id)]}
    if taxonomy_id in HUB_MODELS:
        values |= YOUR_ENDPOINT
    return HEAD.format(title=title) + config_text(Config, values, CHOSEN, HIDDEN)


def _guard(taxonomy_id: str) -> dict[str, Any]:
    if taxonomy_id in HUB_MODELS and (GUARDS / f"{taxonomy_id}.yaml").exists():
        model = HUB_MODELS[taxonomy_id]
        return {"name": taxonomy_id, "guard": taxonomy_id, "model": model, "revision": "main"}
    return {"name": "policy-prompt", "guard": "instruct", "model": "bundled"}


def explain(key: str | None) -> str:
    """The text that `marginalia config --explain [KEY]` prints. Raises InputError for an unknown key."""
    return explain_key(Config, key) if key is not None else list_keys(Config)


def explained(key: str | None) -> list[dict[str, Any]]:
    """The same for `--json`."""
    explain(key)  # raises InputError for an unknown key
    return key_data(Config, key)
