"""The YAML header of a card is what huggingface_hub reads, with values that the Hub knows."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, DatasetCardData

from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.release.release_stage import STAGE
from tests.pipeline.release.labelled_run import make_run

# from https://huggingface.co/docs/hub/datasets-cards and the Hub's filters for data sets
ANNOTATIONS_CREATORS = {"crowdsourced", "expert-generated", "found", "machine-generated", "no-annotation", "other"}
SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "n>1M"}
# keys that the Hub's documentation describes and DatasetCardData takes as further arguments
FURTHER = {"configs", "license_link", "tags", "extra_gated_heading", "extra_gated_prompt", "extra_gated_fields"}

CONFIGS = {
    "nothing set": "",
    "simulated": "simulated: true\n",
    "all set": "release:\n  repo_id: lab/tickets\n  license: cc-by-4.0\n  authors: [The Lab]\n  tags: [tickets]\n"
    '  title: "Tickets: a test, with {braces} and # marks"\n',
    "open": "release:\n  license: other\n  license_link: https://x.example/terms\n  gated: open\n",
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_huggingface_hub_reads_the_header_and_writes_it_unchanged(tmp_path: Path, config: str) -> None:
    run = make_run(tmp_path, config=config)
    run_stage(STAGE, run)
    path = run.path("release") / "README.md"
    card = DatasetCard.load(path)  # raises for a header that is not valid
    header = card.data.to_dict()
    assert DatasetCard(str(card)).data.to_dict() == header
    assert card.text.lstrip().startswith("# ")

    assert header.keys() <= inspect.signature(DatasetCardData).parameters.keys() | FURTHER
    assert set(header["annotations_creators"]) <= ANNOTATIONS_CREATORS
    assert set(header["size_categories"]) <= SIZES
    assert header["task_categories"] == ["text-classification"]
    assert header["task_ids"] == ["multi-label-classification"]  # a subtask of text-classification on the Hub
    assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in header["language"])
    assert isinstance(header["pretty_name"], str)
    assert all(isinstance(tag, str) for tag in header["tags"])
    assert set(header.get("extra_gated_fields", {}).values()) <= {"text", "checkbox"}
    for subset in header["configs"]:
        assert subset.keys() <= {"config_name", "default", "data_files"}
        for files in subset["data_files"]:
            for name in [files["path"]] if isinstance(files["path"], str) else files["path"]:
                assert (path.parent / name).is_file()
    assert sum(subset.get("default", False) for subset in header["configs"]) == 1
