r"""What the exact marginal changes against the paper's procedures, on the same model, prompt and records.

    python -m benchmarks.paper_comparison RECORDS.jsonl --records 20 --threads 2 --out comparison.json

    python -m benchmarks.paper_comparison pipeline/demo/examples.jsonl --split held_out --text text --labels labels \
        --model bundled-guard --guard support-tickets --taxonomy support-tickets --top-p 0.99

RECORDS is the paper's own JSONL (`unsafe_query`, `llama_guard_3_categories`), or any with other --text and --labels
columns; its labels are the guard's codes or ids of the taxonomy. The published procedures run on one key-value cache,
which gives their numbers (tests/scoring/test_published_procedures.py) in less time; as published they cost their passes
times one plain pass."""

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
from marginalia.scoring.paper.published_procedures import CachedModel, PlainModel
from marginalia.scoring.scorer import Result, Scorer, Settings

import torch  # isort: skip - after scoring, which tells its threads how to wait

Table = npt.NDArray[np.float64]
EXACT = ("marginal", "joint", "conditional", "greedy")


def main() -> None:
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
    found = {
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
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def _read(options: argparse.Namespace, code_of: dict[str, str]) -> list[tuple[str, list[str]]]:
    """(text, codes) of the first records, of one split when asked for."""
    rows = [json.loads(line) for line in options.file.read_text().splitlines() if line.strip()]
    if options.split is not None:
        rows = [row for row in rows if row["split"] == options.split]
    if not rows:
        raise SystemExit(f"{options.file}: no rows{f' of split {options.split}' if options.split else ''}")
    return [
        (str(row[options.text]), [code_of.get(label, label) for label in row[options.labels]])
        for row in rows[: options.records]
    ]


def _prompt(scorer: Scorer, text: str) -> list[int]:
    return scorer.prompts.build([{"role": "user", "content": text}]).ids


def _exact(scorer: Scorer, texts: Sequence[str]) -> list[Result]:
    """Results in the order of the texts."""
    asked = [(str(number), [{"role": "user", "content": text}]) for number, text in enumerate(texts)]
    results = {result.record_id: result for result in tqdm(scorer.score_records(asked), total=len(asked), desc="exact")}
    for result in results.values():
        if result.error is not None:
            raise SystemExit(f"record {result.record_id}: {result.error}")
    return [results[record_id] for record_id, _ in asked]


class _Remembered(CachedModel):
    """Answers again without a pass what it was asked before: the procedures share prefixes."""

    def __init__(self, model: Any, tokenizer: Any, end_ids: Sequence[int]) -> None:
        super().__init__(model, tokenizer, end_ids)
        self._known: dict[tuple[int, ...], torch.Tensor] = {}

    def next_probabilities(self, ids: Sequence[int], /) -> torch.Tensor:
        if tuple(ids) not in self._known:
            self._known[tuple(ids)] = super().next_probabilities(ids)
        return self._known[tuple(ids)]


def _published(
    scorer: Scorer, texts: Sequence[str], codes: Sequence[str], options: argparse.Namespace
) -> tuple[dict[str, Table], dict[str, Any]]:
    """(tables by procedure, costs), with the model's own attention in place of the tree's."""
    network = scorer.model.runner.model
    network.set_attn_implementation("sdpa")
    labels = ["unsafe", *codes]
    tables: dict[str, list[list[float]]] = {"token_probability": [], "fixed_place": [], "any_place": []}
    visits, plain_seconds, cached_seconds = [], [], []
    for text in tqdm(texts, desc="published"):
        prompt = _prompt(scorer, text)
        cached = _Remembered(network, scorer.model.tokenizer, scorer.model.end_ids)
        started = time.perf_counter()
        tree = published_procedures.any_place(cached, prompt, labels, top_p=options.top_p, eps=options.eps)
        cached_seconds.append(time.perf_counter() - started)
        visits.append(float(len(tree.visited)))
        one = published_procedures.token_probability(cached, prompt, labels, top_p=options.top_p)
        joint = published_procedures.fixed_place(cached, prompt, labels, top_p=options.top_p)
        for name, scores in (("token_probability", one), ("fixed_place", joint), ("any_place", tree.scores)):
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
    """How far a procedure's scores lie outside the certified bounds of the marginal."""
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
    """Micro ROC AUC, and micro F1 at the best threshold of these very records: an upper limit, no promise."""
    found = {}
    for name, table in tables.items():
        flat, right = table.ravel(), truth.ravel()
        best = max(f1_score(right, flat >= threshold, zero_division=0) for threshold in np.unique(flat))
        at = f1_score(right, flat >= published_procedures.THRESHOLD, zero_division=0)
        found[name] = {
            "roc_auc": round(float(roc_auc_score(right, flat)), 3),
            "f1_at_0.2": round(float(at), 3),
            "best_f1": round(float(best), 3),
        }
    return found


def _summary(values: Sequence[float]) -> dict[str, float]:
    array = np.array(values)
    return {name: round(float(f(array)), 4) for name, f in (("mean", np.mean), ("least", np.min), ("most", np.max))}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("file", type=Path, metavar="RECORDS")
    add("--records", type=int, default=20, help="the first N lines (default 20)")
    add("--split", metavar="NAME", help="only rows whose column `split` says so")
    add("--text", default="unsafe_query")
    add("--labels", default="llama_guard_3_categories")
    add("--model", default="bundled")
    add("--guard", default="benchmarks/few-shot-guard.yaml")
    add("--taxonomy", default="llama-guard-3")
    add("--top-p", type=float, default=published_procedures.INSTRUCT_TOP_P)
    add("--eps", type=float, default=published_procedures.EPS)
    add("--tolerance", type=float, default=1e-2)
    add("--node-budget", type=int, default=1024)
    add("--threads", type=int, default=2)
    add("--out", type=Path, help="also write the numbers to this file")
    return parser


if __name__ == "__main__":
    main()
