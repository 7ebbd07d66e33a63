"""Invalid plans, answers, gold and scores: the whole messages. The files have no manifests, whose hashes would
refuse them before they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marginalia.schemas.taxonomy import load_taxonomy
from tests.bad_input.table import SHIPPED, Files, Row, check, names
from tests.pipeline.synthetic_run import Synthetic, make_frames

FRAMES = make_frames(Synthetic(n=6, unresolved=1))
PLAN = FRAMES.plan.with_columns(difficulty=pl.lit("plain"), language=pl.lit("en"), near_miss_of=pl.lit(None, pl.String))
CONFIG = "taxonomy: support-tickets\nscore:\n  guards:\n  - {name: smollm2, guard: instruct, model: bundled}\n"
GENERATE, RECONCILE, EVALUATE = "generate --run runs/r", "reconcile --run runs/r", "evaluate --run runs/r"
SCORE = "score --run runs/r"
WITHHELD = {"labels": ["child_sexual_exploitation"]}
HAZARDS = "taxonomy: llama-guard-3\n"


def changed(frame: pl.DataFrame, **changes: Any) -> pl.DataFrame:
    """The frame with other values, of the column's type, in its last row."""
    head, last = frame[:-1], frame[-1:]
    columns = [pl.Series(name, [value], dtype=frame.schema[name]) for name, value in changes.items()]
    return pl.concat([head, last.with_columns(columns)])


def run(config: str = CONFIG, **files: Any) -> Files:
    """A run with all files up to scores; `files` (`_` for `/`) replace some of them."""
    frames = {
        "plan": PLAN,
        "prompts": FRAMES.prompts,
        "annotations": FRAMES.annotations,
        "gold": FRAMES.gold,
        "scores_smollm2": FRAMES.scores,
        "scores_smollm2.records": FRAMES.records,
        **files,
    }
    given = {f"runs/r/{name.replace('_', '/')}.parquet": frame for name, frame in frames.items() if frame is not None}
    return {"runs/r/config.yaml": config, **given}


def scores(**changes: Any) -> Files:
    return run(scores_smollm2=changed(FRAMES.scores, **changes))


ROWS: list[Row] = [
    (
        "plan: missing",
        run(plan=None),
        GENERATE,
        2,
        "runs/r/plan.parquet: no such file; generate reads it (marginalia plan --run runs/r)",
    ),
    (
        "plan: empty file",
        {**run(), "runs/r/plan.parquet": ""},
        GENERATE,
        2,
        "runs/r/plan.parquet: not a readable Parquet file: parquet: File out of specification: A "
        "Parquet file must contain a header and footer with at least 12 bytes (marginalia plan --"
        "run runs/r)",
    ),
    (
        "plan: wrong columns",
        run(plan=PLAN.rename({"labels": "label"})),
        GENERATE,
        2,
        "runs/r/plan.parquet: column 'labels' is missing; it has ['slot_id', 'label', 'form', 'di"
        "fficulty', 'language', 'near_miss_of'] (rebuild it with marginalia plan --run runs/r)",
    ),
    (
        "plan: no language",
        run(plan=PLAN.drop("language")),
        GENERATE,
        2,
        "runs/r/plan.parquet: column 'language' is missing; it has slot_id, labels, form, difficu"
        "lty, near_miss_of (marginalia plan --run runs/r --force)",
    ),
    (
        "plan: another type",
        run(plan=PLAN.with_columns(labels=pl.lit("refund"))),
        GENERATE,
        2,
        "runs/r/plan.parquet: column 'labels' is String, expected List(String) (rebuild it with m"
        "arginalia plan --run runs/r)",
    ),
    (
        "plan: a null",
        run(plan=changed(PLAN, slot_id=None)),
        GENERATE,
        2,
        "runs/r/plan.parquet: column 'slot_id' has 1 nulls (rebuild it with marginalia plan --run runs/r)",
    ),
    (
        "plan: duplicate ids",
        run(plan=pl.concat([PLAN, PLAN[:1]])),
        GENERATE,
        2,
        "runs/r/plan.parquet: duplicate slot_id: 's00000' (rebuild it with marginalia plan --run runs/r)",
    ),
    (
        "plan: unknown label",
        run(plan=changed(PLAN, labels=["refnd"])),
        GENERATE,
        2,
        "runs/r/plan.parquet: slot 's00009': unknown label 'refnd', which the taxonomy support-ti"
        "ckets does not have; did you mean 'refund'? (marginalia plan --run runs/r --force)",
    ),
    (
        "plan: withheld label",
        run(HAZARDS, plan=changed(PLAN, **WITHHELD)),
        GENERATE,
        2,
        "runs/r/plan.parquet: slot 's00009': 'child_sexual_exploitation' is withheld from generat"
        "ion (marginalia plan --run runs/r --force)",
    ),
    (
        "answers: missing",
        run(annotations=None),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: no such file; reconcile reads it (marginalia pull --run runs/r)",
    ),
    (
        "answers: wrong columns",
        run(annotations=FRAMES.annotations.drop("annotator")),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: column 'annotator' is missing; it has ['record_id', 'labels'"
        ", 'status', 'note', 'submitted_at', 'pulled_at', 'round', 'judged'] (rebuild it with marg"
        "inalia pull --run runs/r)",
    ),
    (
        "answers: duplicate",
        run(annotations=pl.concat([FRAMES.annotations, FRAMES.annotations[:1]])),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: duplicate record_id × annotator × round: 'r00000' × 'A01' × 'annotate' "
        "(rebuild it with marginalia pull --run runs/r)",
    ),
    (
        "answers: unknown label",
        run(annotations=changed(FRAMES.annotations, labels=["refnd"])),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: record 'r00005': A03 ticked 'refnd', which is not in the "
        "taxonomy; did you mean 'refund'? (the taxonomy changed after these answers were given: "
        "restore its labels, or start annotation again)",
    ),
    (
        "answers: none with a category",
        run(annotations=changed(FRAMES.annotations, labels=["none", "refund"])),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: record 'r00005': A03 ticked 'none', which is not in the "
        "taxonomy (the taxonomy changed after these answers were given: restore its labels, or "
        "start annotation again)",
    ),
    (
        "answers: a status that is none",
        run(annotations=changed(FRAMES.annotations, status="sent")),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: column 'status' contains 'sent', expected submitted, discarded, draft "
        "(rebuild it with marginalia pull --run runs/r)",
    ),
    (
        "answers: a label that was not judged",
        run(annotations=changed(FRAMES.annotations, labels=["refund"], judged=["return"])),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: an answer to record 'r00005' has the label 'refund', which 'judged' "
        "leaves out (rebuild it with marginalia pull --run runs/r --force)",
    ),
    (
        "answers: judged on an unknown label",
        run(annotations=changed(FRAMES.annotations, labels=[], judged=["refnd"])),
        RECONCILE,
        2,
        "runs/r/annotations.parquet: record 'r00005': unknown label 'refnd', which the taxonomy support-tickets "
        "does not have; did you mean 'refund'? (rebuild it with marginalia pull --run runs/r --force)",
    ),
    (
        "gold: missing",
        run(gold=None),
        SCORE,
        2,
        "runs/r/gold.parquet: no such file; score reads it (marginalia reconcile --run runs/r)",
    ),
    (
        "gold: duplicate ids",
        run(gold=pl.concat([FRAMES.gold, FRAMES.gold[:1]])),
        SCORE,
        2,
        "runs/r/gold.parquet: duplicate id: 'r00000' (rebuild it with marginalia reconcile --run runs/r)",
    ),
    (
        "gold: unknown label",
        run(gold=changed(FRAMES.gold, labels=["refnd"])),
        EVALUATE,
        2,
        "runs/r/gold.parquet: record 'r00005': unknown label 'refnd', which the taxonomy support-"
        "tickets does not have; did you mean 'refund'? (rebuild it with marginalia reconcile --ru"
        "n runs/r --force)",
    ),
    (
        "gold: none with a category",
        run(gold=changed(FRAMES.gold, labels=["none", "refund"])),
        EVALUATE,
        2,
        "runs/r/gold.parquet: record 'r00005': unknown label 'none', which the taxonomy support-t"
        "ickets does not have (rebuild it with marginalia reconcile --run runs/r --force)",
    ),
    (
        "gold: final without labels",
        run(gold=changed(FRAMES.gold, labels=None)),
        EVALUATE,
        2,
        "runs/r/gold.parquet: record 'r00005' is final and has no labels (rebuild it with margina"
        "lia reconcile --run runs/r --force)",
    ),
    (
        "gold: a label that was not judged",
        run(gold=changed(FRAMES.gold, labels=["refund"], judged=["return"])),
        EVALUATE,
        2,
        "runs/r/gold.parquet: record 'r00005' has the label 'refund', which 'judged' leaves out "
        "(rebuild it with marginalia reconcile --run runs/r --force)",
    ),
    (
        "gold: unknown guard",
        run(CONFIG.replace("guard: instruct", "guard: instrct")),
        SCORE,
        2,
        "runs/r/config.yaml: line 4: guard: no guard 'instrct'; did you mean 'instruct'? "
        f"(shipped: {SHIPPED}; or give the path of a .yaml file)",
    ),
    (
        "scores: missing",
        run(scores_smollm2=None),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: no such file; evaluate reads it (marginalia score --run runs/r)",
    ),
    (
        "scores: no Parquet",
        {**run(), "runs/r/scores/smollm2.parquet": "hello"},
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: not a readable Parquet file: parquet: File out of specifi"
        "cation: A Parquet file must contain a header and footer with at least 12 bytes (marginal"
        "ia score --run runs/r)",
    ),
    (
        "scores: wrong columns",
        run(scores_smollm2=FRAMES.scores.drop("upper")),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: column 'upper' is missing; it has ['record_id', 'estimato"
        "r', 'label', 'probability', 'lower'] (rebuild it with marginalia score --run runs/r)",
    ),
    (
        "scores: extra column",
        run(scores_smollm2=FRAMES.scores.with_columns(x=1)),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: unknown column 'x'; expected ['record_id', 'estimator', '"
        "label', 'probability', 'lower', 'upper'] (rebuild it with marginalia score --run runs/r)",
    ),
    (
        "scores: duplicate",
        run(scores_smollm2=pl.concat([FRAMES.scores, FRAMES.scores[:1]])),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: duplicate record_id × estimator × label: 'r00002' × 'marginal' × "
        "'late_delivery' (rebuild it with marginalia score --run runs/r)",
    ),
    (
        "scores: unknown label",
        scores(label="refnd"),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: unknown label 'refnd', which the taxonomy support-tickets"
        " does not have; did you mean 'refund'? (marginalia score --run runs/r --force)",
    ),
    (
        "scores: NaN",
        scores(probability=float("nan")),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: column 'probability' contains NaN (rebuild it with marginalia score --run "
        "runs/r)",
    ),
    (
        "scores: infinite",
        scores(upper=float("inf")),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: record 'r00005', estimator 'greedy', label 'unsafe': expe"
        "cted 0 ≤ lower ≤ probability ≤ upper ≤ 1, saw 0.6, 0.6, inf (marginalia score --run runs"
        "/r --force)",
    ),
    (
        "scores: above 1",
        scores(probability=1.5, upper=1.5),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: record 'r00005', estimator 'greedy', label 'unsafe': expe"
        "cted 0 ≤ lower ≤ probability ≤ upper ≤ 1, saw 0.6, 1.5, 1.5 (marginalia score --run runs"
        "/r --force)",
    ),
    (
        "scores: outside its bounds",
        scores(lower=0.9, probability=0.1, upper=0.95),
        EVALUATE,
        2,
        "runs/r/scores/smollm2.parquet: record 'r00005', estimator 'greedy', label 'unsafe': expe"
        "cted 0 ≤ lower ≤ probability ≤ upper ≤ 1, saw 0.9, 0.1, 0.95 (marginalia score --run run"
        "s/r --force)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=names(ROWS))
def test_the_whole_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, row)


def test_the_frames_as_they_are_make_no_complaint(tmp_path: Path) -> None:
    assert FRAMES.taxonomy.ids == load_taxonomy("support-tickets").ids
