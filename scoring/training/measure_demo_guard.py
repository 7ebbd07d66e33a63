"""Measures a guard on the held-out example messages.

`python -m marginalia.scoring.training.measure_demo_guard` prints JSON: ROC AUC and average precision of the estimators,
F1 of the greedy answers, and the cost of the search. Seconds depend on the machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import load_guard
from marginalia.scoring.measures.metrics import decisions, ranking
from marginalia.scoring.models.local_model import load_local
from marginalia.scoring.models.model_reference import BUNDLED_GUARD
from marginalia.scoring.scorer import Result, Scorer, Settings
from marginalia.scoring.training.labelled_examples import Example, read_examples
from marginalia.scoring.training.train_demo_guard import EXAMPLES

RANKED = ("marginal", "joint", "conditional")


def measure(scorer: Scorer, examples: Sequence[Example]) -> dict[str, Any]:
    """{estimator: {metric: value}} over these examples; under `search` the averages per record of prefixes evaluated,
    forward passes, off-language mass, the width of the widest bounds, and seconds."""
    started = time.perf_counter()
    results = {
        result.record_id: result
        for result in scorer.score_records(
            (example.id, [{"role": "user", "content": example.text}]) for example in examples
        )
    }
    seconds = time.perf_counter() - started
    ordered = [results[example.id] for example in examples]
    truth = np.array([[label in example.labels for label in scorer.guard.labels] for example in examples])
    values: dict[str, Any] = {"examples": len(examples)}
    for name in RANKED:
        measured = ranking(truth, _probabilities(ordered, name, truth.shape[1]))(np.ones((1, len(examples)))).pooled
        values[name] = {metric: round(float(value[0]), 4) for metric, value in measured.items()}
    answered = np.array([[label in (result.predicted or []) for label in scorer.guard.labels] for result in ordered])
    measured = decisions(truth, answered)(np.ones((1, len(examples)))).pooled
    values["greedy"] = {
        name: round(float(measured[name][0]), 4) for name in ("micro_f1", "macro_f1", "subset_accuracy")
    }
    values["search"] = {
        "nodes": round(float(np.mean([result.nodes for result in ordered])), 1),
        "forward_passes": round(float(np.mean([result.forward_passes for result in ordered])), 1),
        "off_language": round(float(np.mean([result.off_language for result in ordered])), 6),
        "widest_bounds": round(float(np.mean([_width(result) for result in ordered])), 4),
        "seconds_per_record": round(seconds / len(examples), 3),
    }
    return values


def _probabilities(results: Sequence[Result], estimator: str, n_labels: int) -> np.ndarray:
    return np.stack([result.estimates[estimator].probability[:n_labels] for result in results])


def _width(result: Result) -> float:
    marginal = result.estimates["marginal"]
    return float((marginal.upper - marginal.lower).max())


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m marginalia.scoring.training.measure_demo_guard", description=__doc__
    )
    parser.add_argument("--model", default=BUNDLED_GUARD, help="model to measure (default: %(default)s)")
    parser.add_argument("--examples", type=Path, default=EXAMPLES, help="JSON Lines file (default: %(default)s)")
    parser.add_argument("--tolerance", type=float, default=1e-2, help="width of the bounds (default: %(default)s)")
    parser.add_argument("--node-budget", type=int, default=256, help="prefixes per record (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        taxonomy = load_taxonomy("support-tickets")
        examples = [example for example in read_examples(options.examples, taxonomy) if example.split == "held_out"]
        settings = Settings(
            estimators=(*RANKED, "greedy"), tolerance=options.tolerance, node_budget=options.node_budget
        )
        guard = load_guard("support-tickets", taxonomy)
        values = measure(Scorer(load_local(options.model), guard, settings), examples)
    except MarginaliaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(values, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
