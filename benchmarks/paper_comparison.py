r"""The exact marginal compared with the paper's procedures, on the same model, prompts and records.

    python -m benchmarks.paper_comparison RECORDS.jsonl --records 20 --threads 2 --out comparison.json

    python -m benchmarks.paper_comparison pipeline/demo/examples.jsonl --split held_out --text text --labels labels \
        --model bundled-guard --guard support-tickets --taxonomy support-tickets --top-p 0.99

RECORDS is the paper's own JSONL (columns `unsafe_query` and `llama_guard_3_categories`), or any JSONL with the columns
given by --text and --labels; its labels are the guard's codes or ids of the taxonomy. The published procedures run with
a KV cache, which gives the same numbers (tests/scoring/test_published_procedures.py) in less time; as published, they
take the time of one plain pass per prefix."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, roc_auc_score
from tqdm import tqdm

from marginalia.scoring.models.prefix_tree import ATTENTION
from marginalia.scoring.paper import published_procedures
from marginalia.scoring.paper.published_procedures import PlainModel
from marginalia.scoring.paper.strategies import Remembered
from marginalia.scoring.scorer import Result, Scorer, Settings

import torch  # isort: skip - after scoring, which sets how torch's threads wait

Table = npt.NDArray[np.float64]
EXACT = ("marginal", "joint", "conditional", "greedy")


def main() -> None:
    """The command."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(estimators=EXACT, tolerance=options.tolerance, node_budget=options.node_budget)
    scorer = Scorer.load(options.model, options.guard, taxonomy=options.taxonomy, settings=settings)
    codes = [category.code for category in scorer.guard.categories]
    records = _read(options, dict(zip(scorer.guard.labels, codes, strict=True)))
    started = time.perf_counter()
    exact = _exact(scorer, [text for text, _ in records])
    seconds = time.perf_counter() - started
    theirs, costs = _published(scorer, [text for text, _ in records], codes, options)
    truth = np.array([[code in labels for code in codes] for _, labels in records])
    comparison = {
        "model": scorer.model.name,
        "guard": scorer.guard.name,
        "records": len(records),
        "prompt_tokens": round(float(np.mean([len(_prompt(scorer, text)) for text, _ in records]))),
        "tolerance": options.tolerance,
        "widest_bounds": round(
            max(float((r.estimates["marginal"].upper - r.estimates["marginal"].lower).max()) for r in exact), 4
        ),
        "exact_stopped": {reason: sum(r.stopped == reason for r in exact) for reason in {r.stopped for r in exact}},
        "off_language": _summary([r.off_language or 0.0 for r in exact]),
        "unexplored": _summary([r.unexplored or 0.0 for r in exact]),
        "exact_nodes": _summary([float(r.nodes) for r in exact]),
        "exact_passes": _summary([float(r.forward_passes) for r in exact]),
        "exact_seconds_a_record": round(seconds / len(records), 3),
        **costs,
        "against_marginal": {name: _differences(table, exact, codes) for name, table in theirs.items()},
        "any_place_by_label": _by_label(theirs["any_place"], exact, codes),
        "quality": _quality(truth, {**theirs, **{name: _table(exact, name) for name in EXACT}}),
    }
    text = json.dumps(comparison, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def _read(options: argparse.Namespace, code_of: dict[str, str]) -> list[tuple[str, list[str]]]:
    """(text, codes) of the first --records rows, only those of --split if given."""
    rows = [json.loads(line) for line in options.file.read_text().splitlines() if line.strip()]
    if options.split is not None:
        rows = [row for row in rows if row["split"] == options.split]
    if not rows:
        raise SystemExit(f"{options.file}: no rows{f' with split {options.split}' if options.split else ''}")
    return [
        (str(row[options.text]), [code_of.get(label, label) for label in row[options.labels]])
        for row in rows[: options.records]
    ]


def _prompt(scorer: Scorer, text: str) -> list[int]:
    return scorer.prompts.build([{"role": "user", "content": text}]).ids


def _exact(scorer: Scorer, texts: Sequence[str]) -> list[Result]:
    """Results in the order of the texts."""
    records = [(str(number), [{"role": "user", "content": text}]) for number, text in enumerate(texts)]
    results = {
        result.record_id: result for result in tqdm(scorer.score_records(records), total=len(records), desc="exact")
    }
    for result in results.values():
        if result.error is not None:
            raise SystemExit(f"record {result.record_id}: {result.error}")
    return [results[record_id] for record_id, _ in records]


def _published(
    scorer: Scorer, texts: Sequence[str], codes: Sequence[str], options: argparse.Namespace
) -> tuple[dict[str, Table], dict[str, Any]]:
    """(procedure → (n, L) scores, costs); runs the model with its own attention instead of the tree search's."""
    network = scorer.model.runner.model
    network.set_attn_implementation("sdpa")
    labels = ["unsafe", *codes]
    tables: dict[str, list[list[float]]] = {"token_probability": [], "fixed_place": [], "any_place": []}
    visits, plain_seconds, cached_seconds = [], [], []
    for text in tqdm(texts, desc="published"):
        prompt = _prompt(scorer, text)
        cached = Remembered(network, scorer.model.tokenizer, scorer.model.end_ids)
        started = time.perf_counter()
        tree = published_procedures.any_place(cached, prompt, labels, top_p=options.top_p, eps=options.eps)
        cached_seconds.append(time.perf_counter() - started)
        visits.append(float(len(tree.visited)))
        conditional = published_procedures.token_probability(cached, prompt, labels, top_p=options.top_p)
        joint = published_procedures.fixed_place(cached, prompt, labels, top_p=options.top_p)
        for name, scores in (("token_probability", conditional), ("fixed_place", joint), ("any_place", tree.scores)):
            tables[name].append([scores.get(code, 0.0) for code in codes])
        started = time.perf_counter()
        PlainModel(network, scorer.model.tokenizer, scorer.model.end_ids).next_probabilities(prompt)
        plain_seconds.append(time.perf_counter() - started)
    network.set_attn_implementation(ATTENTION)
    costs = {
        "top_p": options.top_p,
        "eps": options.eps,
        "any_place_passes": _summary(visits),
        "one_plain_pass_seconds": round(float(np.mean(plain_seconds)), 3),
        "any_place_seconds_a_record_as_published": round(float(np.mean(np.array(visits) * np.array(plain_seconds))), 1),
        "any_place_seconds_a_record_with_a_cache": round(float(np.mean(cached_seconds)), 2),
    }
    return {name: np.array(rows) for name, rows in tables.items()}, costs


def _table(results: Sequence[Result], name: str) -> Table:
    return np.array([result.estimates[name].probability[:-1] for result in results])


def _differences(table: Table, exact: Sequence[Result], codes: Sequence[str]) -> dict[str, Any]:
    """How far a procedure's scores are outside the certified bounds of the marginal."""
    lower = np.array([result.estimates["marginal"].lower[:-1] for result in exact])
    upper = np.array([result.estimates["marginal"].upper[:-1] for result in exact])
    over, under = np.maximum(table - upper, 0.0), np.maximum(lower - table, 0.0)
    return {
        "mean_absolute_difference": round(float(np.abs(table - _table(exact, "marginal")).mean()), 4),
        "above_the_bounds": int((over > 1e-6).sum()),
        "largest_excess": round(float(over.max()), 4),
        "excess_at": codes[int(over.max(axis=0).argmax())],
        "below_the_bounds": int((under > 1e-6).sum()),
        "largest_deficit": round(float(under.max()), 4),
        "values": int(table.size),
        "scores_above_one": int((table > 1.0 + 1e-6).sum()),
    }


def _by_label(table: Table, exact: Sequence[Result], codes: Sequence[str]) -> dict[str, list[float]]:
    """Means over records: [any place, exact marginal]."""
    means = zip(codes, table.mean(axis=0), _table(exact, "marginal").mean(axis=0), strict=True)
    return {code: [round(float(theirs), 4), round(float(ours), 4)] for code, theirs, ours in means}


def _quality(truth: npt.NDArray[np.bool_], tables: dict[str, Table]) -> dict[str, dict[str, float]]:
    """Micro ROC AUC, micro F1 at the paper's threshold, and the best micro F1: its threshold is chosen on these very
    records, so it is optimistic."""
    quality = {}
    for name, table in tables.items():
        flat, right = table.ravel(), truth.ravel()
        best = max(f1_score(right, flat >= threshold, zero_division=0) for threshold in np.unique(flat))
        published = f1_score(right, flat >= published_procedures.THRESHOLD, zero_division=0)
        quality[name] = {
            "roc_auc": round(float(roc_auc_score(right, flat)), 3),
            "f1_at_0.2": round(float(published), 3),
            "best_f1": round(float(best), 3),
        }
    return quality


def _summary(values: Sequence[float]) -> dict[str, float]:
    array = np.array(values)
    return {name: round(float(f(array)), 4) for name, f in (("mean", np.mean), ("least", np.min), ("most", np.max))}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("file", type=Path, metavar="RECORDS")
    add("--records", type=int, default=20, metavar="N", help="the first N rows (default: %(default)s)")
    add("--split", metavar="NAME", help="only rows whose column `split` is NAME")
    add("--text", default="unsafe_query", metavar="COLUMN", help="default: %(default)s")
    add("--labels", default="llama_guard_3_categories", metavar="COLUMN", help="default: %(default)s")
    add("--model", default="bundled", help="default: %(default)s")
    add("--guard", default="benchmarks/few-shot-guard.yaml", help="default: %(default)s")
    add("--taxonomy", default="llama-guard-3", help="default: %(default)s")
    add("--top-p", type=float, default=published_procedures.INSTRUCT_TOP_P, help="default: %(default)s")
    add("--eps", type=float, default=published_procedures.EPS, help="default: %(default)s")
    add("--tolerance", type=float, default=1e-2, help="of the exact marginal (default: %(default)s)")
    add("--node-budget", type=int, default=1024, help="prefixes per record (default: %(default)s)")
    add("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    add("--out", type=Path, help="also write the numbers to this file")
    return parser


if __name__ == "__main__":
    main()
