"""A run with two guards, `small` and `large`, whose differences are planted label by label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from marginalia.pipeline.compare.compared_run import ComparedRun, load_compared_run
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import GoldRecord, LabelScore, ScoredRecord
from tests.pipeline.synthetic_run import Synthetic, make_frames

CONFIG = """\
taxonomy: support-tickets
score:
  guards:
    - {{name: small, guard: instruct, model: bundled}}
    - {{name: large, guard: instruct, model: bundled}}
evaluate:
  resamples: {resamples}
"""
# how far positives score above negatives, in standard deviations of the noise: (small, large); 1.5 where not named
PLANTED = {
    "late_delivery": (0.8, 6.0),  # large is better and reaches 90 % precision
    "damaged_or_faulty": (6.0, 0.8),  # small is better
    "wrong_or_missing_item": (4.0, 4.0),  # equal
    "return": (0.0, 0.0),  # both at chance
}
NOT_COVERED = "discount"  # by small
ONLY_BOUNDS = "invoice"  # of small
PARTLY_JUDGED = "refund"  # judged in every second record


def write_two_guards(folder: Path, *, n: int = 320, resamples: int = 200, width: float = 0.0) -> Path:
    """Writes and evaluates the run. `width`: of the bounds of each probability."""
    frames = make_frames(Synthetic(n=n, unresolved=0, failed=0))
    labels, ids = frames.taxonomy.ids, frames.gold["id"].to_list()
    gold = frames.gold.with_columns(
        judged=pl.Series(
            [None if row % 2 else [label for label in labels if label != PARTLY_JUDGED] for row in range(n)],
            dtype=pl.List(pl.String),
        )
    )
    judged_here = pl.when(pl.col("judged").is_null()).then("labels").otherwise(
        pl.col("labels").list.set_intersection("judged")
    )  # fmt: skip
    folder.mkdir(parents=True)
    truth = np.array([[label in own for label in labels] for own in gold["labels"].to_list()])
    write_frame(folder / "gold.parquet", gold.with_columns(labels=judged_here), GoldRecord)
    rng = np.random.default_rng(11)
    common = rng.normal(size=truth.shape)
    for number, guard in enumerate(("small", "large")):
        skills = np.array([PLANTED.get(label, (1.5, 1.5))[number] for label in labels])
        z = -2 + skills * truth + 0.8 * common + 0.6 * rng.normal(size=truth.shape)
        p = 1 / (1 + np.exp(-z))
        verdict = 1 - np.prod(1 - 0.6 * p, axis=1)
        rows = []
        for row, record in enumerate(ids):
            for label, value in [*zip(labels, p[row].tolist(), strict=True), ("unsafe", float(verdict[row]))]:
                if guard == "small" and label == NOT_COVERED:
                    continue
                unknown = guard == "small" and label == ONLY_BOUNDS
                half = 0.2 if unknown else width / 2
                bounds = max(0.0, value - half), min(1.0, value + half)
                rows.append((record, "marginal", label, None if unknown else value, *bounds))
        scores = pl.DataFrame(rows, schema=LabelScore.polars_schema(), orient="row")
        write_frame(folder / f"scores/{guard}.parquet", scores, LabelScore)
        cost = {"seconds": pl.lit(0.5 + number), "forward_passes": pl.lit(8 + number, dtype=pl.Int64)}
        write_frame(folder / f"scores/{guard}.records.parquet", frames.records.with_columns(**cost), ScoredRecord)
    (folder / "config.yaml").write_text(CONFIG.format(resamples=resamples), encoding="utf-8")
    run_stage(EVALUATE, open_run(folder))
    return folder


def loaded(folder: Path) -> tuple[ComparedRun, ComparedRun]:
    """Both guards of the run, small first."""
    return load_compared_run(folder, "small", "marginal"), load_compared_run(folder, "large", "marginal")
