"""The cost of a tolerance and its effect on the metrics: `make bench-tolerance`.

Scores the demo guard's held-out messages (or RECORDS with another guard) at several tolerances. Prints one JSON line
per tolerance: the cost of the search, the width of the bounds, the metrics, and the range that the bounds allow as a
share of the sampling interval (`evaluate` shows ranges above a third)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marginalia.pipeline.demo.run_demo import held_out_examples
from marginalia.pipeline.evaluation.metric_bounds import pooled_ranges
from marginalia.scoring.measures import metrics
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.scorer import Result, Scorer, Settings

TOLERANCES = (1e-1, 1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 1e-5, 1e-6)
SHOWN = ("macro_roc_auc", "micro_roc_auc", "micro_average_precision", "micro_f1")
RESAMPLES, SEED = 1000, 1


def rows(scorer: Scorer, records: Sequence[dict[str, Any]], threshold: float) -> Iterator[dict[str, Any]]:
    """One row per tolerance. `beyond`: how many records have bounds wider than the tolerance."""
    truth = np.array([[label in record["labels"] for label in scorer.guard.labels] for record in records])
    messages = [(record["id"], [{"role": "user", "content": record["text"]}]) for record in records]
    list(scorer.score_records(messages[:16]))  # warm-up: computes the language's states
    for tolerance in TOLERANCES:
        scorer.settings = scorer.settings.model_copy(update={"tolerance": tolerance})
        started = time.process_time()
        results = {result.record_id: result for result in scorer.score_records(messages)}
        seconds = time.process_time() - started
        ordered = [results[record["id"]] for record in records]
        estimate = [np.stack([_of(result, name) for result in ordered]) for name in ("probability", "lower", "upper")]
        widths = (estimate[2] - estimate[1])[:, : truth.shape[1]]
        yield {
            "tolerance": tolerance,
            "cpu_milliseconds": round(1000 * seconds / len(records)),
            "prefixes": round(float(np.mean([result.nodes for result in ordered])), 1),
            "passes": round(float(np.mean([result.forward_passes for result in ordered])), 1),
            "beyond": int((widths.max(1) > tolerance + 1e-9).sum()),
            "mean_width": round(float(widths.mean()), 6),
            **measured(truth, *(values[:, : truth.shape[1]] for values in estimate), threshold),
        }


def measured(truth: Flags, p: Array, lower: Array, upper: Array, threshold: float) -> dict[str, Any]:
    """Metric → [value, lowest and highest value that the bounds allow, width of this range / sampling interval]."""
    measure = metrics.combined([metrics.decisions(truth, p >= threshold), metrics.ranking(truth, p)])
    bootstrapped = metrics.bootstrap(measure, len(truth), resamples=RESAMPLES, seed=SEED)
    allowed = pooled_ranges(truth, (lower, upper), threshold)
    shown = {}
    for name in SHOWN:
        low, high = np.nanquantile(bootstrapped.replicates.pooled[name], [0.025, 0.975])
        ends = allowed[name]
        values = [bootstrapped.value.pooled[name][0], *ends, (ends[1] - ends[0]) / (high - low) if high > low else 0.0]
        shown[name] = [round(float(value), 4) for value in values]
    return shown


def _of(result: Result, field: str) -> Array:
    return np.asarray(getattr(result.estimates["marginal"], field), dtype=np.float64)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=Path, help="JSONL with id, text and labels; default: the held-out messages")
    parser.add_argument("--model", default="bundled-guard", help="default: %(default)s")
    parser.add_argument("--guard", default="support-tickets", help="default: %(default)s")
    parser.add_argument("--taxonomy", default="support-tickets", help="default: %(default)s")
    parser.add_argument("--threshold", type=float, default=0.5, help="of the decisions (default: %(default)s)")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N records")
    parser.add_argument("--node-budget", type=int, default=256, help="prefixes per record (default: %(default)s)")
    options = parser.parse_args()
    text = options.records.read_text(encoding="utf-8").splitlines() if options.records else None
    records = [json.loads(line) for line in text] if text else held_out_examples()
    settings = Settings(estimators=("marginal",), node_budget=options.node_budget, answer_tokens=1)
    scorer = Scorer.load(options.model, options.guard, taxonomy=options.taxonomy, settings=settings)
    for row in rows(scorer, records[: options.first], options.threshold):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
