"""A data set on the Hub as a Parquet file in the run folder, so that the import itself needs no network."""

from __future__ import annotations

from pathlib import Path

from marginalia.pipeline.importing.column_mapping import HubSource
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.hub_client import check_downloads
from marginalia.schemas.storage.files import write_whole

SNAPSHOT = "source.parquet"


def fetch(repository: str, which: HubSource, target: Path) -> str:
    """Downloads one split to `target` and returns the commit that it was read at. Raises ServiceError, and InputError
    when the token would travel unencrypted."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    check_downloads()
    try:
        commit = which.revision or HfApi().dataset_info(repository).sha
        data = load_dataset(repository, which.config, split=which.split, revision=commit)
    except Exception as error:  # datasets raises many kinds, those of huggingface_hub, httpx2 and pyarrow among them
        first = next(iter(str(error).split("\n")), type(error).__name__)
        raise ServiceError(
            f"cannot read {repository} (split {which.split}) from the Hub: {first}",
            hint="check the name, hub.config and hub.split of the mapping, the network, and HF_TOKEN for a gated set",
        ) from error
    write_whole(target, data.to_parquet)
    return str(commit)
