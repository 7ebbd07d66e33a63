"""Pick one threshold for all labels from a run's gold and scores, and evaluate it on other records.

Run it with: python examples/pick_threshold.py runs/demo tickets
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from marginalia.schemas.judged_labels import judged_cells
from marginalia.scoring.measures.thresholds import best_f1, outcome

folder, guard = Path(sys.argv[1]), sys.argv[2]
gold = pl.read_parquet(folder / "gold.parquet").filter(pl.col("status") == "final")
scores = pl.read_parquet(folder / f"scores/{guard}.parquet")
scores = scores.filter(pl.col("estimator") == "marginal", pl.col("label") != "unsafe")  # unsafe: at least one label
table = gold.join(scores.pivot("label", index="record_id", values="probability"), left_on="id", right_on="record_id")

labels = scores["label"].unique(maintain_order=True).to_list()
truth = np.column_stack([table["labels"].list.contains(label).to_numpy() for label in labels])  # (records, labels)
p = table.select(labels).to_numpy()
calibration, test = (table["split"].to_numpy() == split for split in ("calibration", "test"))

# other cells are neither positive nor negative; gold of older versions is judged on all labels
judged = judged_cells(table["judged"], labels) if "judged" in table.columns else np.ones_like(truth)
fit = judged & calibration[:, None]
threshold = best_f1(truth[fit], p[fit])
result = outcome(truth[test], p[test], threshold, split="test", confidence=0.95, judged=judged[test])
print(f"threshold {threshold:.2f}, picked on {calibration.sum()} records, judged on {test.sum()} others:")
for name in ("precision", "recall", "false_positive_rate"):
    metric = getattr(result, name)
    print(f"  {name:20} {metric.value:.2f}  (95 % interval {metric.low:.2f} to {metric.high:.2f})")
