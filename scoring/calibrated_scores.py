"""calibration.json applied to scores: what `--calibration FILE` does in production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.calibration_json import Calibration, CalibrationFile, Identity
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.storage.files import read_model
from marginalia.scoring import COMMAND
from marginalia.scoring.measures.calibration import apply, apply_map
from marginalia.scoring.score_request import BASELINE_NAMES, ESTIMATOR_NAMES

BOUNDS = ("probability", "lower", "upper")
HINT = "calibration.json is written by marginalia evaluate, for the guards of its run"


@dataclass(frozen=True)
class ChosenMaps:
    """The maps of one guard out of a calibration.json, by estimator; `notes`: what readers of the scores must know."""

    path: Path
    maps: dict[str, Calibration]
    notes: list[str]


def load_calibrations(path: Path) -> CalibrationFile:
    """calibration.json, checked. Raises InputError when it is missing or something else."""
    found = read_model(path, CalibrationFile, made_by="marginalia evaluate --run RUN")
    if not found.calibrations:
        raise InputError.at(path, "holds no calibration", hint=HINT)
    return found


def choose_maps(
    path: Path,
    *,
    guard: str,
    rows: Sequence[str],
    model: str,
    estimators: Sequence[str] | None,
    named: str | None = None,
) -> ChosenMaps:
    """The maps in `path` for the guard `guard` (its file's name) that scores the labels `rows`.

    `estimators`: those that must have a map; None takes all that have one. `named` picks one of several guards of the
    same family by its name in the run. Raises InputError when the guard, an estimator or the labels do not match."""
    calibrations = load_calibrations(path).calibrations
    mine = _of_guard(path, calibrations, guard, model, named)
    known = [calibration.estimator for calibration in mine]
    for name in estimators or []:
        if name not in known:
            near = did_you_mean(name, known)
            raise InputError.at(
                path, f"has no map for the estimator '{name}'{near}", hint=f"--estimator: {', '.join(known)}"
            )
    wanted = (*ESTIMATOR_NAMES, *BASELINE_NAMES) if estimators is None else estimators
    maps = {found.estimator: found for found in mine if found.estimator in wanted}
    if not maps:
        raise InputError.at(path, f"has maps only for {', '.join(known)}, which {COMMAND} does not compute")
    first = next(iter(maps.values()))
    return ChosenMaps(path, maps, [*_check_labels(path, first, rows), *_notes(path, first, model)])


def _of_guard(
    path: Path, calibrations: list[Calibration], guard: str, model: str, named: str | None
) -> list[Calibration]:
    names = list(dict.fromkeys(found.guard for found in calibrations))
    if named is not None:
        if named not in names:
            hint = f"it holds: {', '.join(names)}"
            raise InputError.at(path, f"has no guard named '{named}'{did_you_mean(named, names)}", hint=hint)
        mine = [found for found in calibrations if found.guard == named]
        if mine[0].family not in (None, guard):
            raise InputError.at(path, f"'{named}' was fitted on the guard '{mine[0].family}', not on '{guard}'")
        return mine
    mine = [found for found in calibrations if (found.family or found.guard) == guard]
    if not mine:
        families = list(dict.fromkeys(found.family or found.guard for found in calibrations))
        raise InputError.at(path, f"was not fitted on the guard '{guard}' but on {', '.join(families)}", hint=HINT)
    fitting = [found for found in mine if found.model == model] or mine
    several = list(dict.fromkeys(found.guard for found in fitting))
    if len(several) > 1:
        message = f"holds maps of several models of the guard '{guard}': {', '.join(several)}"
        raise InputError.at(path, message, hint=f"choose one: --calibration-name {several[0]}")
    return fitting


def _check_labels(path: Path, found: Calibration, rows: Sequence[str]) -> list[str]:
    """Raises InputError when the maps speak of labels that the guard does not score; names those without a map."""
    strange = sorted(found.labels.keys() - {*rows, UNSAFE})
    if strange:
        near = did_you_mean(strange[0], rows)
        raise InputError.at(
            path,
            f"has a map for the label '{strange[0]}', which this guard does not score{near}",
            hint="the maps belong to another taxonomy or guard file",
        )
    without = [row for row in rows if row not in found.labels and row != UNSAFE]
    notes = [f"no map of their own, so the pooled one: {', '.join(without)}"] if without else []
    if UNSAFE in rows and UNSAFE not in found.labels:
        notes.append(f"no map for the verdict '{UNSAFE}': its probabilities are the guard's own")
    return notes


def _notes(path: Path, found: Calibration, model: str) -> list[str]:
    notes = [f"probability, lower and upper are calibrated by {path}; thresholds.json is for uncalibrated ones"]
    if found.simulated:
        notes.append(f"{path} was fitted on SIMULATED annotators")
    if found.model is not None and found.model != model:
        notes.append(f"the maps were fitted on the model {found.model}; another model needs maps of its own")
    return notes


def calibrate_scores(scores: pl.DataFrame, chosen: ChosenMaps) -> pl.DataFrame:
    """`scores` (LabelScore) with calibrated probability, lower and upper; the order of rows is kept.

    All maps are monotone, so that lower <= probability <= upper still holds. Every estimator must have maps."""
    columns = {name: scores[name].to_numpy().copy() for name in BOUNDS}
    groups = scores.with_row_index("row").group_by("estimator", "label", maintain_order=True).agg("row")
    for estimator, label, rows in groups.iter_rows():
        calibration, places = chosen.maps[estimator], np.array(rows)
        for name in BOUNDS:
            values = columns[name][places]
            if label == UNSAFE and label not in calibration.labels:
                columns[name][places] = apply_map(Identity(), values)
            else:
                columns[name][places] = apply(calibration, label, values)
    # rounding may part the bounds from the value by one bit
    columns["lower"] = np.minimum(columns["lower"], columns["probability"])
    columns["upper"] = np.maximum(columns["upper"], columns["probability"])
    return scores.with_columns([pl.Series(name, values) for name, values in columns.items()])
