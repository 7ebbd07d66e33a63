"""Gold in which some labels were not judged in some records."""

from __future__ import annotations

from dataclasses import replace

from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.taxonomy import load_taxonomy
from tests.pipeline.release.labelled_run import gold_row
from tests.pipeline.synthetic_run import Frames, Synthetic, make_frames

LABELS = load_taxonomy("support-tickets").ids
# five final records; r2 was judged on 3 of 12 labels, r4 on one: it is not known to be safe
PARTLY = [
    gold_row("r1", ["late_delivery"], "calibration"),
    gold_row("r2", ["late_delivery", "refund"], "calibration", judged=["refund", "invoice", "late_delivery"]),
    gold_row("r3", [], "test"),
    gold_row("r4", [], "test", judged=["invoice"]),
    gold_row("r5", None, "test", status="needs_answers", judged=["invoice"]),
    gold_row("r7", [], "train", judged=LABELS),
]
SYNTHETIC = Synthetic(n=160, skill=0.6)


def masked_frames() -> Frames:
    """160 records; in every third one only the first five labels were judged, and in every fourth other one all but the
    last."""
    frames = make_frames(SYNTHETIC)
    rows = frames.gold.to_dicts()
    for number, row in enumerate(rows):
        judged = LABELS[:5] if number % 3 == 0 else LABELS[:-1] if number % 4 == 0 else None
        row["judged"] = judged
        if judged is not None and row["labels"] is not None:
            row["labels"] = [label for label in row["labels"] if label in judged]
        if judged is not None:
            for column in ("soft_labels", "votes"):
                row[column] = [cell for cell in row[column] if cell["label"] in judged]
    return replace(frames, gold=GoldRecord.frame(rows))
