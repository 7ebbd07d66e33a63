"""Time and memory to turn a million answers into gold and agreement: 200,000 records, five answers each, 12 labels.

    python -m benchmarks.reconcile                 # last line: JSON with answers, seconds, peak_gib
    python -m benchmarks.reconcile --records 2000

It measures what `marginalia reconcile` does between reading and writing its files: majority gold, and agreement per
label, over label sets, per annotator and per pair, with intervals. Dawid-Skene and MACE are measured separately, on the
first --methods-records records."""

from __future__ import annotations

import argparse
import json
import resource
import time
from datetime import UTC, datetime

import numpy as np
import polars as pl

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.agreement import agreement_of
from marginalia.annotation.gold.label_posteriors import METHODS, posteriors
from marginalia.annotation.gold.reconcile import reconcile
from marginalia.annotation.gold.votes import votes_of
from marginalia.schemas.tables import Answer, PromptRecord

LABELS = [f"label{at:02}" for at in range(12)]
KIB_PER_GIB = 1024**2
MISS, FALSE_ALARM = 0.15, 0.02


def made_up(records: int, answers: int, annotators: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(records, answers): the records' id and messages, and `answers` answers per record, each of a different
    annotator. A label applies to 2 to 25 % of the records; annotators miss labels with probability MISS and assign
    wrong ones with FALSE_ALARM."""
    random = np.random.default_rng(seed)
    truth = random.random((records, len(LABELS))) < np.linspace(0.25, 0.02, len(LABELS))
    record = np.repeat(np.arange(records), answers)
    annotator = (random.integers(annotators, size=records)[:, None] + np.arange(answers)) % annotators
    drawn = random.random((records * answers, len(LABELS)))
    ticked = np.where(truth[record], drawn >= MISS, drawn < FALSE_ALARM)
    columns = [pl.Series(label, ticked[:, at]) for at, label in enumerate(LABELS)]
    now = datetime(2026, 11, 1, tzinfo=UTC)
    chosen = pl.concat_list(pl.when(label).then(pl.lit(label)) for label in LABELS).list.drop_nulls()
    given = pl.DataFrame([pl.Series("at", record), pl.Series("who", annotator.ravel()), *columns]).select(
        record_id=pl.format("r{}", pl.col("at").cast(pl.String).str.zfill(7)),
        annotator=pl.format("A{}", pl.col("who").cast(pl.String).str.zfill(3)),
        labels=chosen,
        status=pl.lit("submitted"),
        note=pl.lit(None, dtype=pl.String),
        submitted_at=pl.lit(now, dtype=pl.Datetime("us", "UTC")),
        pulled_at=pl.lit(now, dtype=pl.Datetime("us", "UTC")),
        round=pl.lit("annotate"),
        judged=pl.lit(None, dtype=Answer.polars_schema()["judged"]),
    )
    ids = given["record_id"].unique().sort()
    texts = pl.lit([{"role": "user", "content": "a text"}], dtype=PromptRecord.polars_schema()["messages"])
    return pl.DataFrame({"id": ids}).with_columns(messages=texts), given.select(list(Answer.polars_schema()))


def peak_gib() -> float:
    """The peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--records", type=int, default=200_000, help="default: %(default)s")
    add("--answers", type=int, default=5, help="per record (default: %(default)s)")
    add("--annotators", type=int, default=50, help="default: %(default)s")
    add("--methods-records", type=int, default=20_000, help="for Dawid-Skene and MACE; 0: none (default: %(default)s)")
    add("--seed", type=int, default=2026, help="default: %(default)s")
    options = parser.parse_args()
    records, answers = made_up(options.records, options.answers, options.annotators, options.seed)
    section = ReconcileSection()

    started = time.perf_counter()
    gold = reconcile(records, answers, LABELS, section, seed=options.seed)
    gold_seconds = time.perf_counter() - started
    print(f"majority gold from {answers.height:,} answers: {gold_seconds:.1f} s, {gold.height:,} records", flush=True)
    agreement = agreement_of(answers, LABELS, section, seed=options.seed, taxonomy="made up", simulated=True)
    seconds = time.perf_counter() - started
    alpha = agreement.alpha_masi
    print(f"agreement with intervals: {seconds - gold_seconds:.1f} s, alpha (MASI) {alpha.value:.3f}", flush=True)
    figures = {"answers": answers.height, "seconds": round(seconds, 2), "peak_gib": round(peak_gib(), 3)}

    few = answers.filter(pl.col("record_id").is_in(records["id"].head(options.methods_records).implode()))
    votes = votes_of(few, LABELS)
    for method in METHODS if votes.n_answers else ():
        started = time.perf_counter()
        posteriors(votes, method, iterations=section.iterations)
        figures[f"{method}_seconds"] = round(time.perf_counter() - started, 3)
        print(f"{method} with {votes.n_answers:,} answers: {figures[f'{method}_seconds']} s", flush=True)
    print(json.dumps({**figures, "methods_answers": votes.n_answers}))


if __name__ == "__main__":
    main()
