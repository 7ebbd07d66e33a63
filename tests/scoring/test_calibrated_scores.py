"""calibration.json in production: the maps of the right guard, estimator and labels, or a clear error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from marginalia.schemas.calibration_json import Calibration, CalibrationFile, Identity, Isotonic, LabelMap, Platt
from marginalia.schemas.errors import InputError
from marginalia.schemas.label_coverage import GuardCoverage
from marginalia.schemas.tables import LabelScore
from marginalia.scoring.calibrated_scores import calibrate_scores, choose_maps
from marginalia.scoring.measures.calibration import apply_map
from tests.scoring.test_command import command, here, write_records
from tests.scoring.tiny import save

OWN, POOLED = Platt(slope=0.5, intercept=-1.0), Platt(slope=2.0, intercept=0.0)


def calibration(guard: str = "run-guard", estimator: str = "marginal", **changes: object) -> Calibration:
    values = {
        "simulated": False,
        "guard": guard,
        "family": "instruct",
        "model": "here",
        "estimator": estimator,
        "method": "platt",
        "records": 50,
        "cross_fitted_log_loss": {},
        "pooled": POOLED,
        "labels": {
            "refund": LabelMap(map=OWN, source="label", positives=20),
            "return": LabelMap(map=Isotonic(x=[0.2, 0.6], y=[0.1, 0.5]), source="label", positives=20),
            "unsafe": LabelMap(map=Identity(), source="identity", positives=40),
        },
        **changes,
    }
    return Calibration.model_validate(values)


def written(path: Path, *calibrations: Calibration) -> Path:
    path.write_text(CalibrationFile(calibrations=list(calibrations)).model_dump_json(), encoding="utf-8")
    return path


def choose(path: Path, **changes: object):  # type: ignore[no-untyped-def]
    rows = ("refund", "return", "invoice", "unsafe")
    values = {"guard": "instruct", "rows": rows, "model": "here", "estimators": None, **changes}
    return choose_maps(path, **values)  # type: ignore[arg-type]


def test_maps_of_other_categories_are_refused(tmp_path: Path) -> None:
    def consists_of(*categories: str) -> GuardCoverage:
        labels = [
            {"label": label, "kind": "union", "any_of": categories, "part_of": []} for label in ("refund", "return")
        ]
        return GuardCoverage.model_validate({"labels": labels, "not_covered": [], "unused": []})

    mine = consists_of("a", "b")
    path = written(tmp_path / "c.json", calibration(categories=mine.labels))
    assert choose(path, coverage=mine).maps
    for other in (consists_of("a", "c"), None):
        with pytest.raises(InputError, match="was fitted with other categories of the guard for the label 'refund'"):
            choose(path, coverage=other)
    without = written(tmp_path / "without.json", calibration())
    assert '"categories"' not in without.read_text()
    with pytest.raises(InputError, match="was fitted with other categories"):
        choose(without, coverage=mine)


def test_maps_by_hand_and_the_pooled_one_for_labels_without(tmp_path: Path) -> None:
    chosen = choose(written(tmp_path / "c.json", calibration()))
    assert "the pooled map is used for labels without one of their own: invoice" in chosen.notes
    rows = [
        {"record_id": "r", "estimator": "marginal", "label": label, "probability": 0.8, "lower": 0.5, "upper": 1.0}
        for label in ("refund", "return", "invoice", "unsafe")
    ]
    found = calibrate_scores(LabelScore.frame(rows), chosen)
    # odds 4: sqrt(4) / e; 16; interpolation at 0.8 is flat after 0.6
    expected = [2 / np.e / (1 + 2 / np.e), 0.5, 16 / 17, 0.8]
    assert found["probability"].to_list() == pytest.approx(expected)
    assert found["lower"].to_list() == pytest.approx([1 / (1 + np.e), 0.4, 0.5, 0.5])
    assert found["label"].to_list() == ["refund", "return", "invoice", "unsafe"]
    assert found.filter(
        (pl.col("lower") > pl.col("probability")) | (pl.col("probability") > pl.col("upper"))
    ).is_empty()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guard": "llama-guard-3"}, "was not fitted on the guard 'llama-guard-3', but on instruct"),
        ({"estimators": ["marginl"]}, "no map for the estimator 'marginl'; did you mean 'marginal'"),
        (
            {"rows": ("refund", "returns", "unsafe")},
            "the label 'return', which this guard does not score; did you mean",
        ),
        ({"named": "other"}, "has no guard named 'other'"),
    ],
)
def test_what_does_not_match_is_said(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = written(tmp_path / "c.json", calibration())
    with pytest.raises(InputError, match=message):
        choose(path, **changes)


def test_several_models_of_a_guard_are_told_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "c.json", calibration("small"), calibration("large", model="there"))
    assert choose(path, model="there").maps["marginal"].guard == "large"
    with pytest.raises(
        InputError, match=r"maps for several models of the guard 'instruct': small, large .*--calibration-name"
    ):
        choose(path, model="elsewhere")
    named = choose(path, model="elsewhere", named="large")
    assert any("fitted on the model there" in note for note in named.notes)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        choose(tmp_path / "none.json")
    (tmp_path / "t.json").write_text(json.dumps({"version": 1, "thresholds": []}), encoding="utf-8")
    with pytest.raises(InputError, match=r"t.json: calibrations: Field required"):
        choose(tmp_path / "t.json")


def test_the_command_writes_calibrated_scores_and_says_so(tmp_path: Path) -> None:
    model = save(tmp_path / "model", 4, sharpness=3.0)
    records = write_records(tmp_path / "r.jsonl", 3)
    path = written(tmp_path / "c.json", calibration(model=str(model), simulated=True))
    asked = ["--estimator", "marginal"]
    raw, out = tmp_path / "raw.parquet", tmp_path / "out.parquet"
    for target, more in ((raw, asked), (out, ["--calibration", str(path)])):
        done = here(command(records, model, target, *more))
        assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: 3 records × 1 estimator × 13 labels, calibrated by {path}\n"
    assert "fitted on SIMULATED annotators" in done.stderr
    both = pl.read_parquet(raw).join(pl.read_parquet(out), on=["record_id", "estimator", "label"], suffix="_after")
    assert both.height == 3 * 13
    for label, mapping in (("refund", OWN), ("invoice", POOLED), ("unsafe", Identity())):
        rows = both.filter(pl.col("label") == label)
        for name in ("probability", "lower", "upper"):
            expected = apply_map(mapping, rows[name].to_numpy())
            assert rows[f"{name}_after"].to_numpy() == pytest.approx(expected, abs=1e-12)
    done = here(command(records, model, out, "--calibration", str(path), "--estimator", "joint"))
    assert (done.returncode, "has no map for the estimator 'joint'" in done.stderr) == (2, True)
