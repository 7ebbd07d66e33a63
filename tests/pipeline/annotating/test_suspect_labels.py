from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from marginalia.pipeline.annotating import audit_stage
from marginalia.pipeline.annotating.suspect_labels import change_rates, gold_error_rate, select, suspects, with_answers
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame, sha256, write_frame
from marginalia.schemas.tables import AuditedRecord, GoldRecord, LabelScore
from tests.annotation.answers import answers
from tests.annotation.client.conftest import argilla_home, argilla_server, new_run
from tests.annotation.runs import SimulatedRun

__all__ = ["argilla_home", "argilla_server", "new_run"]


def gold(labels: dict[str, list[str] | None]) -> pl.DataFrame:
    rows = [
        {
            "id": record,
            "messages": [],
            "status": "needs_answers" if given is None else "final",
            "labels": given,
            "soft_labels": [],
            "votes": [],
            "n_annotators": 2,
            "agreement": 1.0,
            "method": "majority",
            "adjudicated": False,
            "split": "test",
        }
        for record, given in labels.items()
    ]
    return GoldRecord.frame(rows)


def scores(given: dict[str, dict[str, float]]) -> pl.DataFrame:
    rows = [
        {
            "record_id": record,
            "estimator": "marginal",
            "label": label,
            "probability": probability,
            "lower": probability,
            "upper": probability,
        }
        for record, by_label in given.items()
        for label, probability in by_label.items()
    ]
    return LabelScore.frame(rows)


# 'a' on r1, r2, r3: 0.9, 0.6, 0.3, so a guard of its kind is sure of 'a' from 0.6 on; not on r4 to r6: 0.1, 0.2, 0.75,
# so it is sure of its absence when 1 - p is at least (0.9 + 0.8 + 0.25) / 3 = 0.65
GOLD = gold({"r1": ["a"], "r2": ["a"], "r3": ["a"], "r4": [], "r5": [], "r6": [], "r7": None})
SCORES = scores(
    {
        "r1": {"a": 0.9, "unsafe": 0.9},
        "r2": {"a": 0.6},
        "r3": {"a": 0.3},
        "r4": {"a": 0.1},
        "r5": {"a": 0.2},
        "r6": {"a": 0.75},
        "r7": {"a": 0.99},
    }
)


def test_suspects_are_those_of_confident_learning_by_hand() -> None:
    disputed = suspects(GOLD, SCORES, ["a", "b"])
    assert disputed.rows() == [("a", 0.75, 0.25, "r6"), ("a", 0.3, 0.3, "r3")]


def test_a_record_is_represented_by_its_worst_label() -> None:
    both = pl.concat([SCORES, scores({"r1": {"b": 0.05}, "r6": {"b": 0.9}, "r4": {"b": 0.0}})])
    labels = gold({"r1": ["a", "b"], "r2": ["a"], "r3": ["a"], "r4": ["b"], "r5": [], "r6": []})
    worst = {row[3]: row[:2] for row in suspects(labels, both, ["a", "b"]).rows()}
    assert worst["r6"] == ("b", 0.9)


def test_a_random_control_sample_is_mixed_with_the_disputed_records() -> None:
    chosen = select(GOLD, SCORES, ["a"], top=1, control=3, seed=1)
    assert chosen.schema == AuditedRecord.polars_schema()
    assert chosen.filter(why="guard")["id"].to_list() == ["r6"]
    assert chosen["id"].n_unique() == 4
    assert set(chosen["id"]) <= {"r1", "r2", "r3", "r4", "r5", "r6"}
    assert chosen.equals(select(GOLD, SCORES, ["a"], top=1, control=3, seed=1))
    assert select(GOLD, SCORES, ["a"], top=9, control=99, seed=1).height == 6


def test_the_sample_is_drawn_from_all_other_final_records_and_weighted_by_what_it_represents() -> None:
    wide = gold({f"r{at:03}": ["a"] if at % 2 else [] for at in range(200)} | {"open": None})
    few = scores({f"r{at:03}": {"a": 0.9 if at % 2 or at < 6 else 0.1} for at in range(100)})  # it failed on the rest
    chosen = select(wide, few, ["a"], top=3, control=20, seed=1)
    assert chosen.filter(why="guard")["weight"].to_list() == [1.0] * 3
    sampled = chosen.filter(why="control")
    assert sampled["weight"].to_list() == pytest.approx([197 / 20] * 20)
    assert chosen["weight"].sum() == pytest.approx(200)
    assert sampled.filter(pl.col("id") >= "r100").height > 0


def audit_of(seed: int, n: int = 300, wrong_share: float = 0.1) -> tuple[float, pl.DataFrame]:
    """(the true share of wrong gold, the audited records) where a good guard disputes most of what is wrong."""
    rng = np.random.default_rng(seed)
    truth, wrong = rng.random(n) < 0.3, rng.random(n) < wrong_share
    z = np.where(truth, 1.5, -1.5) + rng.normal(size=n)
    given = gold({f"r{at:03}": ["a"] if truth[at] ^ wrong[at] else [] for at in range(n)})
    guard = scores({f"r{at:03}": {"a": float(1 / (1 + np.exp(-z[at])))} for at in range(n)})
    chosen = select(given, guard, ["a"], top=50, control=50, seed=seed)
    expert_answers = answers({i: {"E": "a" if truth[int(i[1:])] else ""} for i in chosen["id"]}, round="audit")
    return float(wrong.mean()), with_answers(chosen, expert_answers, ["a"])


def test_the_error_rate_of_all_gold_is_unbiased_and_its_interval_covers() -> None:
    truths, estimates, sampled, covered = [], [], [], 0
    for seed in range(80):
        true, audited = audit_of(seed)
        rate = gold_error_rate(audited)
        assert rate is not None and rate.value is not None and rate.low is not None and rate.high is not None
        truths.append(true)
        estimates.append(rate.value)
        covered += rate.low - 1e-9 <= true <= rate.high + 1e-9
        sampled.append(change_rates(audited)[1].share.value)
    assert np.mean(estimates) == pytest.approx(np.mean(truths), abs=0.008)
    assert np.mean(np.array(sampled, dtype=float)) < 0.5 * np.mean(truths)  # what was shown as gold's error rate
    assert covered >= 0.93 * 80


def test_all_gold_has_no_rate_before_the_sample_is_seen_or_in_a_file_without_weights() -> None:
    _, audited = audit_of(1)
    unseen = audited.with_columns(changed=pl.when(pl.col("why") == "guard").then("changed"))
    assert gold_error_rate(unseen) is None
    assert gold_error_rate(audited.with_columns(weight=pl.lit(None, dtype=pl.Float64))) is None


def test_an_audit_of_an_older_version_is_still_read(tmp_path: Path) -> None:
    _, audited = audit_of(1)
    path = tmp_path / "audit.parquet"
    audited.drop("weight").write_parquet(path)
    read = read_frame(path, AuditedRecord, made_by="audit")
    assert read.schema == AuditedRecord.polars_schema()
    assert gold_error_rate(read) is None and change_rates(read)[1].seen == 50


def test_changes_are_marked_where_the_experts_agree() -> None:
    chosen = select(GOLD, SCORES, ["a"], top=2, control=4, seed=1)
    expert_answers = answers(
        {"r6": {"E": "a", "F": "a"}, "r3": {"E": "a"}, "r1": {"E": "", "F": "a"}, "r4": {"E": ""}}, round="audit"
    )
    marked = {row["id"]: row for row in with_answers(chosen, expert_answers, ["a"]).iter_rows(named=True)}
    assert {record: row["changed"] for record, row in marked.items()} == {
        "r6": True,
        "r3": False,
        "r1": None,  # the experts differ
        "r4": False,
        "r2": None,
        "r5": None,
    }
    assert marked["r6"]["audited_labels"] == ["a"]
    assert marked["r6"]["gold_labels"] == []
    rates = [(rate.why, rate.seen, rate.changed) for rate in change_rates(with_answers(chosen, expert_answers, ["a"]))]
    assert rates == [("guard", 2, 1), ("control", 1, 0)]


def test_experts_do_not_see_the_guards_answer_and_gold_is_unchanged(new_run: Callable[..., SimulatedRun]) -> None:
    texts = {record: f"text {record}" for record in ("r1", "r2", "r3", "r4")}
    work = new_run(texts=texts)
    config = work.folder / "config.yaml"
    settings: dict[str, Any] = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "score": {"guards": [{"name": "g", "guard": "instruct", "model": "m"}]}}))
    work.stage("push")
    for username in ("ann", "ben"):
        work.answer(username, {"r1": ["a"], "r2": ["a"], "r3": ["none"], "r4": ["none"]})
    work.stage("pull")
    work.stage("reconcile")
    (work.folder / "scores").mkdir()
    given = scores({"r1": {"a": 0.9}, "r2": {"a": 0.8}, "r3": {"a": 0.1}, "r4": {"a": 0.95}})
    write_frame(work.folder / "scores/g.parquet", given, LabelScore)
    before = sha256(work.folder / "gold.parquet")
    done = run_stage(audit_stage.stage(top=2, control=1, push=True), work.run)
    assert done.manifest.counts_out["sent"] == 2
    shown = work.on_server("audit.json")
    assert {tuple(record["fields"]) for record in shown} == {("record", "votes")}
    assert "0.95" not in json.dumps(shown)
    assert len({record["external_id"] for record in shown} & {"r4"}) == 1
    work.answer("eva", {record["external_id"]: ["a"] for record in shown}, file="audit.json")
    work.stage("pull")
    work.stage("reconcile")
    run_stage(audit_stage.stage(top=2, control=1), work.run)
    marked = pl.read_parquet(work.folder / "audit.parquet")
    assert marked.filter(id="r4").select("why", "changed").row(0) == ("guard", True)
    assert sha256(work.folder / "gold.parquet") == before
    assert audit_stage.listing(work.run).startswith("1 record where guard and gold disagree most:\n")
    assert "  r4      a      0.950  without  changed\n" in audit_stage.listing(work.run)
    assert "of all final gold records, experts would change" in audit_stage.listing(work.run)
    with pytest.raises(InputError, match="the run has no guard 'h'"):
        run_stage(audit_stage.stage(guard="h"), work.run)
