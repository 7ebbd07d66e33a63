"""Draw precision and recall by threshold, all labels together, on records that the threshold was not chosen on.

Run it with: python examples/threshold_plot.py runs/demo tickets threshold.svg [attribute=value]
"""

import sys
from pathlib import Path

import polars as pl

from marginalia import evaluate

folder, guard, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
gold = pl.read_parquet(folder / "gold.parquet")
scores = pl.read_parquet(folder / f"scores/{guard}.parquet").filter(pl.col("estimator") == "marginal")
prompts = pl.read_parquet(folder / "prompts.parquet")  # the records' attributes
where = dict(option.split("=") for option in sys.argv[4:])  # only records with this attribute: source=included

plot = evaluate(gold, scores, prompts, where=where).plot("threshold")  # plot("threshold", "refund") is of one label
plot.save(out)
print(plot.title)
