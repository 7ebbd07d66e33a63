"""A run in 16 bits says in its manifest, and so in the report, by how much its numbers depend on rounding."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.score_stage import STAGE
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import GoldRecord
from tests.scoring.networks import GUARD, saved

CONFIG = """taxonomy: support-tickets
score:
  guards: [{name: tiny, guard: g.yaml, model: MODEL, dtype: DTYPE}]
  estimators: [marginal]
  tolerance: 0.1
  node_budget: 8
"""


@pytest.mark.parametrize(("dtype", "notes"), [("bfloat16", 1), ("float32", 0)])
def test_the_manifest_holds_the_measured_difference(tmp_path: Path, dtype: str, notes: int) -> None:
    model = saved(tmp_path / "model", "qwen3")
    (tmp_path / "g.yaml").write_text(GUARD)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("MODEL", str(model)).replace("DTYPE", dtype))
    gold = {"status": "final", "labels": [], "soft_labels": [], "votes": [], "n_annotators": 1, "agreement": None}
    gold |= {"method": "majority", "adjudicated": False, "split": "test"}
    rows = [{"id": f"r{n}", "messages": [{"role": "user", "content": f"Where is it {n}?"}], **gold} for n in range(5)]
    write_frame(tmp_path / "gold.parquet", GoldRecord.frame(rows), GoldRecord)
    facts = run_stage(STAGE, open_run(tmp_path)).manifest.facts["tiny"]
    measured = [
        note for note in facts["notes"] if note.startswith("bfloat16: the tree search and plain forward passes")
    ]
    assert len(measured) == notes
