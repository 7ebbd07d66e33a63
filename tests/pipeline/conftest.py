"""One small run of all stages, for tests that only read it or work on a copy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from marginalia.pipeline.demo import run_demo


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo run with 8 generated and 24 included records; every stage has run once."""
    root = tmp_path_factory.mktemp("demo")
    config = yaml.safe_load(run_demo.CONFIG.read_text())
    config["plan"] |= {"records": 8, "min_per_label": 0}
    config["score"] |= {"node_budget": 40}
    config["evaluate"] = config.get("evaluate", {}) | {"allow_off_format": True}  # many searches reach that budget
    config["reconcile"] = {"bootstrap": 100}
    config["evaluate"] = {**config.get("evaluate", {}), "resamples": 200}
    small = root / "config.yaml"
    small.write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_demo, "CONFIG", small)
        few = run_demo.held_out_examples()[:24]
        patch.setattr(run_demo, "held_out_examples", lambda: few)
        run_demo.run_demo(fresh=False, root=root / "runs")
    return root / "runs" / "demo"
