"""Applies the maps of calibration.json to scores (`--calibration FILE`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from marginalia.schemas.calibration_json import Calibration, CalibrationFile, Identity
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.label_coverage import GuardCoverage
from marginalia.schemas.storage.files import read_model
from marginalia.scoring import COMMAND
from marginalia.scoring.guard_kinds import SOURCE_ESTIMATORS
from marginalia.scoring.measures.calibration import apply, apply_map
from marginalia.scoring.score_request import BASELINE_NAMES, ESTIMATOR_NAMES

BOUNDS = ("probability", "lower", "upper")
HINT = "marginalia evaluate writes calibration.json for the guards of its run"


@dataclass(frozen=True)
class ChosenMaps:
    """The maps of one guard from calibration.json, by estimator. `notes`: what readers of the scores should know."""

    path: Path
    maps: dict[str, Calibration]
    notes: list[str]


def load_calibrations(path: Path) -> CalibrationFile:
    """Reads calibration.json. Raises InputError when it is missing or invalid, or contains no calibration."""
    file = read_model(path, CalibrationFile, made_by="marginalia evaluate --run RUN")
    if not file.calibrations:
        raise InputError.at(path, "contains no calibration", hint=HINT)
    return file


def choose_maps(
    path: Path,
    *,
    guard: str,
    rows: Sequence[str],
    model: str,
    estimators: Sequence[str] | None,
    named: str | None = None,
    coverage: GuardCoverage | None = None,
) -> ChosenMaps:
    """The maps in `path` for the guard family `guard`, which scores the labels `rows` with `model`.

    `estimators`: those that must have a map; None selects all that have one. `named` selects one of several guards of
    the same family by its name in the run; `coverage`: of the labels, for a guard with other categories. Raises
    InputError when the guard, an estimator, the labels or their categories do not match."""
    calibrations = load_calibrations(path).calibrations
    mine = _of_guard(path, calibrations, guard, model, named)
    known = [calibration.estimator for calibration in mine]
    for name in estimators or []:
        if name not in known:
            near = did_you_mean(name, known)
            raise InputError.at(
                path, f"has no map for the estimator '{name}'{near}", hint=f"--estimator: {', '.join(known)}"
            )
    selected = (*ESTIMATOR_NAMES, *BASELINE_NAMES, *SOURCE_ESTIMATORS) if estimators is None else estimators
    maps = {calibration.estimator: calibration for calibration in mine if calibration.estimator in selected}
    if not maps:
        raise InputError.at(path, f"has maps only for {', '.join(known)}, which {COMMAND} does not compute")
    first = next(iter(maps.values()))
    _check_categories(path, first, coverage)
    return ChosenMaps(path, maps, [*_check_labels(path, first, rows), *_notes(path, first, model)])


def _of_guard(
    path: Path, calibrations: list[Calibration], guard: str, model: str, named: str | None
) -> list[Calibration]:
    names = list(dict.fromkeys(calibration.guard for calibration in calibrations))
    if named is not None:
        if named not in names:
            hint = f"it has: {', '.join(names)}"
            raise InputError.at(path, f"has no guard named '{named}'{did_you_mean(named, names)}", hint=hint)
        mine = [calibration for calibration in calibrations if calibration.guard == named]
        if mine[0].family not in (None, guard):
            raise InputError.at(path, f"'{named}' was fitted on the guard '{mine[0].family}', not on '{guard}'")
        return mine
    mine = [calibration for calibration in calibrations if (calibration.family or calibration.guard) == guard]
    if not mine:
        families = list(dict.fromkeys(calibration.family or calibration.guard for calibration in calibrations))
        raise InputError.at(path, f"was not fitted on the guard '{guard}', but on {', '.join(families)}", hint=HINT)
    of_model = [calibration for calibration in mine if calibration.model == model] or mine
    candidates = list(dict.fromkeys(calibration.guard for calibration in of_model))
    if len(candidates) > 1:
        message = f"has maps for several models of the guard '{guard}': {', '.join(candidates)}"
        raise InputError.at(path, message, hint=f"choose one: --calibration-name {candidates[0]}")
    return of_model


def _check_labels(path: Path, calibration: Calibration, rows: Sequence[str]) -> list[str]:
    """Notes on labels without a map. Raises InputError when there are maps for labels that the guard does not score."""
    unknown = sorted(calibration.labels.keys() - {*rows, UNSAFE})
    if unknown:
        suggestion = did_you_mean(unknown[0], rows)
        raise InputError.at(
            path,
            f"has a map for the label '{unknown[0]}', which this guard does not score{suggestion}",
            hint="the maps belong to another taxonomy or guard file",
        )
    without = [row for row in rows if row not in calibration.labels and row != UNSAFE]
    notes = [f"the pooled map is used for labels without one of their own: {', '.join(without)}"] if without else []
    if UNSAFE in rows and UNSAFE not in calibration.labels:
        notes.append(f"there is no map for the verdict '{UNSAFE}', so its probabilities are not calibrated")
    return notes


def _check_categories(path: Path, calibration: Calibration, coverage: GuardCoverage | None) -> None:
    """Raises InputError when the maps were fitted on labels that consist of other categories of the guard."""
    fitted = {label.label: label for label in calibration.categories or []}
    scored = {label.label: label for label in coverage.labels} if coverage is not None else {}
    for label in calibration.labels:
        if fitted.get(label) != scored.get(label):
            raise InputError.at(
                path,
                f"was fitted with other categories of the guard for the label '{label}'",
                hint="use the same --categories as the run in which it was fitted, or evaluate a run with these",
            )


def _notes(path: Path, calibration: Calibration, model: str) -> list[str]:
    notes = [f"probability, lower and upper are calibrated with {path}; thresholds.json is for uncalibrated ones"]
    if calibration.withheld is not None:
        notes.append(f"the maps should not be used: {calibration.withheld}")
    if calibration.simulated:
        notes.append(f"{path} was fitted on SIMULATED annotators")
    if calibration.model is not None and calibration.model != model:
        notes.append(f"the maps were fitted on the model {calibration.model}, and may not suit {model}")
    return notes


def calibrate_scores(scores: pl.DataFrame, chosen: ChosenMaps) -> pl.DataFrame:
    """`scores` (LabelScore) with calibrated probability, lower and upper, in the same order. Every estimator in it must
    have maps. A null stays null. All maps are monotone, so lower <= probability <= upper still holds."""
    columns = {name: scores[name].to_numpy().copy() for name in BOUNDS}
    groups = scores.with_row_index("row").group_by("estimator", "label", maintain_order=True).agg("row")
    for estimator, label, rows in groups.iter_rows():
        calibration, positions = chosen.maps[estimator], np.array(rows)
        for name in BOUNDS:
            values = columns[name][positions]
            if label == UNSAFE and label not in calibration.labels:
                columns[name][positions] = apply_map(Identity(), values)
            else:
                columns[name][positions] = apply(calibration, label, values)
    # rounding may move a bound past the probability by one bit
    columns["lower"] = np.fmin(columns["lower"], columns["probability"])
    columns["upper"] = np.fmax(columns["upper"], columns["probability"])
    return scores.with_columns([pl.Series(name, values).fill_nan(None) for name, values in columns.items()])
