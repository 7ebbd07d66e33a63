"""Downloads a data set on the Hub to a Parquet file in the run folder, so that the import itself needs no network."""

from __future__ import annotations

from pathlib import Path

from marginalia.pipeline.importing.column_mapping import HubSource
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.hub_client import check_downloads, commit_id, download_problem
from marginalia.schemas.storage.files import write_whole

SNAPSHOT = "source.parquet"


def fetch(repository: str, part: HubSource, target: Path) -> str:
    """Downloads one split to `target` and returns the commit that was read. Raises ServiceError when that fails,
    InputError when the token would be sent unencrypted."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    check_downloads()
    try:
        commit = part.revision or commit_id(HfApi().dataset_info(repository).sha)
        data = load_dataset(repository, part.config, split=part.split, revision=commit)
    except Exception as error:  # `datasets` raises its own exceptions and those of huggingface_hub, httpx2 and pyarrow
        raise ServiceError(
            f"cannot read {repository} (split {part.split}) from the Hub: {download_problem(error)}",
            hint="check the name, hub.config and hub.split of the mapping, the network, and HF_TOKEN for a gated set",
        ) from None  # the library's error has the server's message
    write_whole(target, data.to_parquet)
    return str(commit)
