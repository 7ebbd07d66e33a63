"""Draw precision and recall by threshold, all labels together, on records that the threshold was not chosen on.

Run it with: python examples/threshold_plot.py runs/demo tickets threshold.svg [attribute=value]
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from marginalia.pipeline.release.card_charts import STYLE
from marginalia.pipeline.report.svg import standalone
from marginalia.pipeline.report.threshold_plot import threshold_curve, threshold_plot, threshold_sentence
from marginalia.scoring.measures.thresholds import best_f1

folder, guard, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
gold = pl.read_parquet(folder / "gold.parquet").filter(pl.col("status") == "final")
if len(sys.argv) > 4:  # only records with this attribute, as evaluate.where does it: source=included
    name, value = sys.argv[4].split("=")
    prompts = pl.read_parquet(folder / "prompts.parquet").explode("attributes").unnest("attributes")
    gold = gold.join(prompts.filter(name=name, value=value), on="id", how="semi")
scores = pl.read_parquet(folder / f"scores/{guard}.parquet")
scores = scores.filter(pl.col("estimator") == "marginal", pl.col("label") != "unsafe")  # unsafe: at least one label
table = gold.join(scores.pivot("label", index="record_id", values="probability"), left_on="id", right_on="record_id")

labels = scores["label"].unique(maintain_order=True).to_list()
truth = np.column_stack([table["labels"].list.contains(label).to_numpy() for label in labels])  # (records, labels)
p = table.select(labels).to_numpy()
calibration, test = (table["split"].to_numpy() == split for split in ("calibration", "test"))

chosen = best_f1(truth[calibration].ravel(), p[calibration].ravel())
curve = threshold_curve(truth[test], p[test], title=f"{len(labels)} labels", chosen=chosen)
out.write_text(standalone(threshold_plot(curve), STYLE.read_text("utf-8"), threshold_sentence(curve)), "utf-8")
print(threshold_sentence(curve))
