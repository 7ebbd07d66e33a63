"""Profiles: errors with the line, hashes, and what `profile_problems` finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import sha256
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.moderation_profile import profile_problems, read_profile

LABELS = load_taxonomy("support-tickets").ids
HEAD = "guard: {name: g, guard: support-tickets, model: bundled-guard}\nlabels:\n"
GOALS = {"max_f1": 0.5, "precision >= 0.9": 0.75}


def profile(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "guard": {"name": "g", "guard": "support-tickets", "model": "bundled-guard"},
        "labels": {label: {"block": 0.75, "review": 0.4} for label in LABELS},
    }
    return values | changes


def written(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def problems(folder: Path, values: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in profile_problems(read_profile(written(folder, values)))]


def thresholds(folder: Path, **changes: Any) -> dict[str, str]:
    cells = {goal: {"threshold": at, "source": "label", "reason": None} for goal, at in GOALS.items()}
    marginal = {"overall": {}, "labels": dict.fromkeys(LABELS, cells)}
    guard = {"recommended": "marginal", "withheld": None, "estimators": {"marginal": marginal}} | changes
    content = {"version": 1, "simulated": False, "taxonomy": "t", "confidence": 0.95, "guards": {"g": guard}}
    path = folder / "thresholds.json"
    path.write_text(json.dumps(content))
    return {"path": path.name, "sha256": sha256(path)}


def calibration(folder: Path, **changes: Any) -> dict[str, str]:
    maps = {label: {"map": {"method": "identity"}, "source": "identity", "positives": 3} for label in LABELS}
    fitted = {
        "simulated": False, "guard": "g", "family": "support-tickets", "model": "bundled-guard",
        "estimator": "marginal", "method": "identity", "records": 9, "cross_fitted_log_loss": {},
        "pooled": {"method": "identity"}, "labels": maps,
    }  # fmt: skip
    path = folder / "calibration.json"
    path.write_text(json.dumps({"calibrations": [fitted | changes]}))
    return {"path": path.name, "sha256": sha256(path)}


def promise(goal: str) -> dict[str, Any]:
    numbers = {"precision": 0.95, "low": 0.91, "high": 1.0, "confidence": 0.95}
    return {"aim": goal, "goal": goal, **numbers, "flagged": 50, "positives": 60, "records": 200}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "  a: {blocks: 0.9}\n", "line 3: unknown key 'blocks'; did you mean 'block'?"),
        (HEAD + "  a: {block: 1.2}\n", "line 3: labels.a.block: Input should be less than or equal to 1"),
        (HEAD + "  a: {block: 0.4, review: 0.5}\n", "line 3: review starts at 0.5, which is not below block at 0.4"),
        (HEAD + "  a: {ignore: true, block: 0.5}\n", "line 3: a label with ignore has no thresholds"),
        (HEAD + "  a: {}\n", "line 3: nothing is decided about this label"),
        (HEAD + "  a: {ignore: true}\n", "line 2: every label is ignored"),
        (HEAD + "  a: {review: 0.1}\nestimator: margnal\n", "line 4: estimator: unknown estimator 'margnal'; did you"),
        (HEAD + "  a: {review: 0.1}\nrules: {fail: opened}\n", "saw 'opened'; did you mean 'open'?"),
        (HEAD + "  a: {review: 0.1}\nrules:\n  straddling: {tolerance: 0.5}\n", "line 5: the second search has"),
        (HEAD + "  a: {review: 0.1}\ncalibration: {path: c.json, sha256: abc}\n", "line 4: calibration.sha256: "),
        ("labels: {a: {review: 0.1}}\n", "key 'guard' is missing"),
    ],
)
def test_each_mistake_is_located(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_profile(path)
    assert message in str(caught.value)


def test_a_complete_profile_has_no_problems(tmp_path: Path) -> None:
    labels = {label: {"block": 0.75, "promise": promise("precision >= 0.9")} for label in LABELS}
    files = {"thresholds": thresholds(tmp_path), "calibration": calibration(tmp_path)}
    assert problems(tmp_path, profile(labels=labels, **files)) == []


def test_labels_must_be_those_of_the_guard(tmp_path: Path) -> None:
    labels = {label: {"block": 0.75} for label in LABELS[1:]} | {"refnd": {"review": 0.2}, "unsafe": {"review": 0.9}}
    unknown, missing = problems(tmp_path, profile(labels=labels))
    assert "line 28: the guard does not score the label 'refnd'; did you mean 'refund'?" in unknown
    assert f"nothing is decided about the labels {LABELS[0]}, which the guard scores" in missing


@pytest.mark.parametrize("key", ["thresholds", "calibration"])
def test_a_changed_or_missing_file_is_refused(tmp_path: Path, key: str) -> None:
    named = {"thresholds": thresholds, "calibration": calibration}[key](tmp_path)
    values = profile(**{key: named})
    assert problems(tmp_path, values) == []
    path = tmp_path / named["path"]
    path.write_text(path.read_text() + " ")
    (changed,) = problems(tmp_path, values)
    assert f"{key}: {path} has changed since the profile was written" in changed and "profile.yaml: line " in changed
    path.unlink()
    (missing,) = problems(tmp_path, values)
    assert f"{key}: {path} does not exist" in missing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guard": {"name": "h", "guard": "support-tickets", "model": "bundled-guard"}}, "has no guard 'h'"),
        ({"estimator": "joint"}, "has no thresholds of 'joint' for 'g'; it has: marginal"),
        ({"estimator": "marginal_constrained"}, "has no thresholds of 'marginal_constrained' for 'g'"),
        ({"block": 0.76}, "line 7: block at 0.76 has a promise about another threshold: for 'precision >= 0.9'"),
        ({"goal": "precision >= 0.8"}, "for 'precision >= 0.8' "),
    ],
)
def test_thresholds_must_be_those_that_the_profile_rests_on(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    goal = changes.pop("goal", "precision >= 0.9")
    rule = {"block": changes.pop("block", 0.75), "promise": promise(goal)}
    labels = {label: {"block": 0.75} for label in LABELS} | {LABELS[0]: rule}
    (found,) = problems(tmp_path, profile(labels=labels, thresholds=thresholds(tmp_path), **changes))
    assert message in found


def test_withheld_files_are_refused(tmp_path: Path) -> None:
    files = {
        "thresholds": thresholds(tmp_path, withheld="it left its format"),
        "calibration": calibration(tmp_path, withheld="it left its format"),
    }
    first, second = problems(tmp_path, profile(**files))
    assert "the thresholds of 'g' are withheld: it left its format" in first
    assert "the maps of 'g' are withheld: it left its format" in second


def test_a_calibration_of_another_guard_is_refused(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, profile(calibration=calibration(tmp_path, family="instruct")))
    assert "'g' was fitted on the guard 'instruct', not on 'support-tickets'" in found


def test_the_model_must_exist(tmp_path: Path) -> None:
    guard = {"name": "g", "guard": "support-tickets", "model": "bundled-gard"}
    (found,) = problems(tmp_path, profile(guard=guard))
    assert "line 4: guard.model: no model 'bundled-gard'" in found and "did you mean 'bundled-guard'?" in found
