"""Time and memory of evaluation on a large simulated set: `make bench-evaluate`."""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import polars as pl

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.schemas.tables import GoldRecord, LabelScore, PromptRecord, ScoredRecord
from marginalia.schemas.taxonomy import load_taxonomy

FORMS = ("chat", "e-mail", "phone note")


def frames(n: int, estimators: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(gold, scores, scored records, prompts) of `n` records: labels of 20 % down to 0.2 % of the records, three votes
    per record."""
    labels = load_taxonomy("llama-guard-3").ids
    rng = np.random.default_rng(seed)
    rates = np.geomspace(0.2, 0.002, len(labels))
    truth = rng.random((n, len(labels))) < rates
    votes = sum((truth ^ (rng.random(truth.shape) < 0.03)).astype(np.int64) for _ in range(3))
    ids = pl.Series("id", [f"r{number:07d}" for number in range(n)])
    long = pl.DataFrame({"label": labels * n, "yes": votes.ravel(), "n": 3, "at": np.repeat(np.arange(n), len(labels))})
    cells = long.group_by("at", maintain_order=True).agg(
        soft_labels=pl.struct("label", probability=pl.col("yes") / 3), votes=pl.struct("label", "yes", "n")
    )
    own = [[label for label, flag in zip(labels, row, strict=True) if flag] for row in truth]
    message = [{"role": "user", "content": "text"}]
    gold = pl.DataFrame(
        {
            "id": ids,
            "messages": [message] * n,
            "status": ["final"] * n,
            "labels": own,
            "judged": [None] * n,
            "soft_labels": cells["soft_labels"],
            "votes": cells["votes"],
            "n_annotators": [3] * n,
            "agreement": [0.9] * n,
            "method": ["majority"] * n,
            "adjudicated": [False] * n,
            "split": rng.choice(["calibration", "test"], n),
        },
        schema=GoldRecord.polars_schema(),
    )
    rows = [*labels, "unsafe"]
    parts = []
    for number in range(estimators):
        z = -3 + 4 * truth + rng.normal(size=truth.shape) * (1 + 0.1 * number)
        p = 1 / (1 + np.exp(-z))
        p = np.column_stack([p, p.max(1)])
        flat, width = p.ravel(), rng.uniform(0, 1e-3, p.size)  # widths of bounds
        parts.append(
            pl.DataFrame(
                {
                    "record_id": ids.gather(np.repeat(np.arange(n), len(rows))),
                    "estimator": pl.repeat(f"e{number}" if number else "marginal", n * len(rows), eager=True),
                    "label": pl.Series(rows * n),
                    "probability": flat,
                    "lower": flat * (1 - width),
                    "upper": flat + (1 - flat) * width,
                },
                schema=LabelScore.polars_schema(),
            )
        )
    records = ScoredRecord.frame(
        [
            {
                "record_id": record,
                "answer": "safe",
                "predicted": [],
                "off_language": 0.0,
                "unexplored": 0.0,
                "nodes": 9,
                "forward_passes": 3,
                "seconds": 0.1,
                "error": None,
            }
            for record in ids
        ]
    )
    prompts = pl.DataFrame(
        {
            "id": ids,
            "messages": [message] * n,
            "intended_labels": own,
            "slot_id": ids,
            "generator": ["writer"] * n,
            "created_at": [None] * n,
            "attributes": [[{"name": "form", "value": FORMS[row % 3]}] for row in range(n)],
        },
        schema=PromptRecord.polars_schema(),
    )
    return gold, pl.concat(parts), records, prompts


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--estimators", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--resamples", type=int, default=1000, help="at least 100 (default: %(default)s)")
    options = parser.parse_args()
    gold, scores, records, prompts = frames(options.records, options.estimators, seed=1)
    started = time.perf_counter()
    results = evaluate(
        gold,
        [GuardScores("guard", scores, records)],
        prompts,
        load_taxonomy("llama-guard-3"),
        EvaluateSection(resamples=options.resamples),
        seed=1,
        simulated=True,
    )
    seconds = time.perf_counter() - started
    best = results.evaluation.guards[0].estimators[0].metrics["macro_roc_auc"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{options.records:,} records × 14 labels × {options.estimators} estimators, {options.resamples} resamples: "
        f"{seconds:.1f} s, peak memory {peak:.1f} GiB; macro ROC AUC {best.value:.4f} [{best.low:.4f}, {best.high:.4f}]"
    )


if __name__ == "__main__":
    main()
