"""What the tests of plan and generate share: a taxonomy nobody ships, and a run over a loopback endpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.core.run import Run, open_run
from marginalia.schemas.taxonomy import Label, Taxonomy

LABELS = ("parcel", "invoice", "password", "voucher", "repair", "forbidden_one")


@pytest.fixture
def taxonomy() -> Taxonomy:
    """Six labels: the last is withheld, and a repair never goes with a voucher."""
    labels = [
        Label(
            id=name,
            name=name.replace("_", " ").title(),
            definition=f"The text is about the {name} of an order that somebody made.",
            examples=[f"Example {number}: what about my {name}, it is {word}?" for number, word in enumerate(words)],
            generation="withheld" if name == "forbidden_one" else "allowed",
        )
        for name in LABELS
        for words in [("blue today", "gone since the autumn", "of no use to anybody here")]
    ]
    return Taxonomy(
        id="tests",
        version="1",
        title="Tests",
        subject="messages to a shop",
        labels=labels,
        forbidden_pairs=[("voucher", "repair")],
    )


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path, taxonomy: Taxonomy) -> MakeRun:
    """`make_run(url, records=…, **generate)`: a run folder with its config and taxonomy."""

    def make(url: str, *, name: str = "run", records: int = 24, **generate: Any) -> Run:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy.model_dump(mode="json")), encoding="utf-8")
        config = {
            "taxonomy": "taxonomy.yaml",
            "seed": 7,
            "plan": {"records": records, "min_per_label": 1},
            "generate": {"endpoint": {"base_url": url, "model": "test-model"}, **generate},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        return open_run(folder)

    return make


@pytest.fixture
def section() -> GenerateSection:
    return GenerateSection()
