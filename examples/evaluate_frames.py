"""Evaluate scores from data frames, without a run folder: a table with a threshold per label, and a plot of one label.

Run it with: python examples/evaluate_frames.py runs/demo tickets
"""

import sys
from pathlib import Path

import polars as pl

from marginalia import evaluate

folder, guard = Path(sys.argv[1]), sys.argv[2]
gold = pl.read_parquet(folder / "gold.parquet").select("id", "labels", "split")  # id and labels are enough
scores = pl.read_parquet(folder / f"scores/{guard}.parquet")  # or: Scorer.load(…).score_frame(texts)

result = evaluate(gold, {guard: scores}, simulated=True)  # the demo simulates its annotators
print(result.summary())
print(result.plot("roc", "late_delivery").save("late_delivery.svg"))
