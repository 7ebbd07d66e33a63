"""Attack: a taxonomy of thousands of labels, whose pairs fill the memory. What is too large is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from marginalia.pipeline.config.generation import PlanSection
from marginalia.pipeline.generation.plan_slots import plan_slots
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import MOST_LABELS, Taxonomy, read_taxonomy


def taxonomy(labels: int) -> dict[str, object]:
    entries = [{"id": f"l{number}", "name": f"Label {number}", "definition": "d"} for number in range(labels)]
    return {"id": "large", "version": "1", "title": "large", "subject": "texts", "labels": entries}


def test_a_taxonomy_with_too_many_labels_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(yaml.dump(taxonomy(MOST_LABELS + 1), Dumper=yaml.CSafeDumper), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_taxonomy(path)
    assert str(caught.value) == (
        f"{path}: line 2: 1,001 labels; at most 1,000 are possible "
        "(divide the policy into several taxonomies, with a run for each)"
    )


def test_a_plan_too_small_for_many_labels_says_at_once_how_many_records_it_needs() -> None:
    large = Taxonomy.model_validate(taxonomy(400))
    with pytest.raises(InputError, match=r"raise plan\.records to 1000 or more"):
        plan_slots(PlanSection(records=60), large, seed=1)
    assert plan_slots(PlanSection(records=1010), large, seed=1).height == 1010


@pytest.mark.parametrize(
    ("shares", "hint"), [({1: 1.0}, "raise the shares of larger sets"), ({0: 1.0}, "raise the shares")]
)
def test_targets_that_no_number_of_records_meets_are_reported(shares: dict[int, float], hint: str) -> None:
    large = Taxonomy.model_validate(taxonomy(400))
    with pytest.raises(InputError, match=hint):
        plan_slots(PlanSection(records=60, shares=shares, min_per_pair=1), large, seed=1)
