"""Dawid-Skene and MACE against a known truth, against other implementations, and where the answers decide nothing."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from crowdkit.aggregation import DawidSkene
from scipy.optimize import minimize

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.label_posteriors import posteriors
from marginalia.annotation.gold.mace import FREQUENCY, HABIT, KNOWING
from marginalia.annotation.gold.reconcile import compare_methods, reconcile, reconcile_with_notes
from marginalia.annotation.gold.votes import Votes, votes_of
from tests.annotation.answers import answers, records

LABELS = "abcdefghijkl"


def crowd(
    n: int, frequency: float, miss: list[float], false_alarm: list[float], *, labels: str = LABELS, seed: int = 1
) -> tuple[np.ndarray, pl.DataFrame]:
    """(truth (n, L), all annotators' answers to every record): annotator k errs with the k-th rates."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, len(labels))) < frequency
    given: dict[str, dict[str, str]] = {}
    for record in range(n):
        given[f"r{record:04}"] = {
            f"A{annotator}": "".join(
                label
                for label, applies, drawn in zip(labels, truth[record], rng.random(len(labels)), strict=True)
                if (drawn >= miss[annotator] if applies else drawn < false_alarm[annotator])
            )
            for annotator in range(len(miss))
        }
    return truth, answers(given)


def gold(frame: pl.DataFrame, method: str, *, labels: str = LABELS, seed: int = 1, **config: Any) -> pl.DataFrame:
    section = ReconcileSection(compare=False, method=method, **config)  # type: ignore[arg-type]
    ids = frame["record_id"].unique().sort().to_list()
    return reconcile(records(*ids), frame, list(labels), section, seed=seed)


def precision_and_recall(gold_frame: pl.DataFrame, truth: np.ndarray) -> tuple[float, float]:
    final = (gold_frame["status"] == "final").to_numpy()
    given = np.stack(
        [gold_frame["labels"].list.contains(label).fill_null(False).to_numpy() for label in LABELS], axis=1
    )
    hits = (given & truth)[final].sum()
    return hits / given[final].sum(), hits / truth[final].sum()


@pytest.mark.parametrize("seed", [1, 2])
def test_mace_does_not_over_assign_rare_labels(seed: int) -> None:
    # 12 labels at 8 %, three annotators: the majority has a precision of 0.91, and methods that weight annotators must
    # have it too
    truth, frame = crowd(400, 0.08, [0.2] * 3, [0.05] * 3, seed=seed)
    by_majority = precision_and_recall(gold(frame, "majority"), truth)
    precision, recall = precision_and_recall(gold(frame, "mace"), truth)
    assert precision > by_majority[0] - 0.03
    assert recall > by_majority[1] - 0.03


@pytest.mark.parametrize("method", ["dawid_skene", "mace"])
@pytest.mark.parametrize("ticked_by_one", ["a" * 6, "a" + "-" * 5, "a-a-a-", "aa-aa-"])
def test_two_who_always_disagree_decide_nothing_whatever_the_seed(method: str, ticked_by_one: str) -> None:
    frame = answers(
        {f"r{at}": {"X": "a", "Y": ""} if who == "a" else {"X": "", "Y": "a"} for at, who in enumerate(ticked_by_one)}
    )
    for seed in range(3):
        gold_frame = gold(frame, method, labels="a", seed=seed)
        assert gold_frame["status"].to_list() == ["needs_adjudication"] * 6
        assert gold_frame["labels"].null_count() == 6


@pytest.mark.parametrize("method", ["dawid_skene", "mace"])
def test_a_posterior_in_the_tie_band_goes_to_the_expert_and_others_do_not(method: str) -> None:
    _, frame = crowd(300, 0.3, [0.1, 0.3, 0.5], [0.1, 0.2, 0.4])
    gold_frame = gold(frame, method)
    in_band = [
        any(0.45 <= cell["probability"] <= 0.55 for cell in row["soft_labels"])
        for row in gold_frame.iter_rows(named=True)
    ]
    assert 0 < sum(in_band) < 300
    assert [status == "needs_adjudication" for status in gold_frame["status"]] == in_band
    ruled = gold(frame, method, tie="yes")
    assert set(ruled["status"]) == {"final"}
    for tied, row in zip(in_band, ruled.iter_rows(named=True), strict=True):
        if tied:
            assert all(cell["label"] in row["labels"] for cell in row["soft_labels"] if cell["probability"] >= 0.45)


def test_a_method_that_would_ask_an_expert_does_not_count_as_giving_the_same_labels() -> None:
    frame = answers({f"r{at}": {"X": "a", "Y": ""} for at in range(6)})
    votes = votes_of(frame, ["a"])
    comparisons = compare_methods(votes, ReconcileSection(tie="no"), seed=1)  # ours: final, with no label
    assert [(row.records, row.same_labels) for row in comparisons] == [(6, 6), (6, 6)]
    asking = ReconcileSection(adjudicate_below_posterior=1.0, tie="no")
    assert [(row.records, row.same_labels) for row in compare_methods(votes, asking, seed=1)] == [(6, 0), (6, 0)]


def plain_em(votes: Votes, at: int, rounds: int) -> np.ndarray:
    """Dawid & Skene's two steps, written as in their paper and repeated."""
    ticked, records, annotators = votes.indicators[:, at], len(votes.records), len(votes.annotators)
    sheet = np.zeros((records, annotators), dtype=bool)
    sheet[votes.record_index, votes.annotator_index] = ticked
    posterior = sheet.mean(axis=1)
    for _ in range(rounds):
        frequency = posterior.mean()
        hit = (posterior @ sheet) / posterior.sum()
        alarm = ((1 - posterior) @ sheet) / (1 - posterior).sum()
        hit, alarm = np.clip(hit, 1e-10, 1 - 1e-10), np.clip(alarm, 1e-10, 1 - 1e-10)
        yes = np.log(frequency) + sheet @ np.log(hit) + ~sheet @ np.log(1 - hit)
        no = np.log(1 - frequency) + sheet @ np.log(alarm) + ~sheet @ np.log(1 - alarm)
        posterior = 1 / (1 + np.exp(np.clip(no - yes, -700, 700)))
    return np.asarray(posterior)


def test_dawid_skene_ends_where_plain_em_ends() -> None:
    _, frame = crowd(300, 0.3, [0.1, 0.3, 0.5], [0.1, 0.2, 0.4], labels="abcd", seed=3)
    votes = votes_of(frame, list("abcd"))
    fitted = posteriors(votes, "dawid_skene")
    assert fitted.unconverged == ()
    for at in range(4):
        assert fitted.probability[:, at] == pytest.approx(plain_em(votes, at, 8_000), abs=1e-3)


def test_dawid_skene_equals_crowd_kit_run_to_the_end() -> None:
    _, frame = crowd(100, 0.3, [0.1, 0.1, 0.2, 0.2, 0.3], [0.05, 0.1, 0.05, 0.1, 0.1], labels="a", seed=4)
    votes = votes_of(frame, ["a"])
    table = pd.DataFrame(
        {"task": votes.record_index, "worker": votes.annotator_index, "label": votes.indicators[:, 0].astype(int)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = DawidSkene(n_iter=60, tol=-1.0).fit_predict_proba(table)[1].reindex(range(100)).to_numpy()
    assert posteriors(votes, "dawid_skene").probability[:, 0] == pytest.approx(expected, abs=1e-5)


def test_smoothing_keeps_a_rare_labels_gold_from_following_one_annotator() -> None:
    # the third annotator is almost random, and maximum likelihood follows it on some labels
    truth, frame = crowd(400, 0.08, [0.2, 0.2, 0.9], [0.03, 0.03, 0.08])
    smooth = precision_and_recall(gold(frame, "dawid_skene", smoothing=1.0), truth)
    plain = precision_and_recall(gold(frame, "dawid_skene"), truth)
    assert smooth[0] > plain[0] + 0.05


def test_mace_is_the_most_likely_fit_that_a_general_optimiser_finds() -> None:
    _, frame = crowd(60, 0.3, [0.05, 0.1, 0.4], [0.02, 0.05, 0.2], labels="a", seed=5)
    votes = votes_of(frame, ["a"])
    sheet = np.zeros((60, 3), dtype=bool)
    sheet[votes.record_index, votes.annotator_index] = votes.indicators[:, 0]
    usual = sheet.mean()

    def chances(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = 1 / (1 + np.exp(-parameters))
        knows, habit, frequency = p[:3], p[3:6], p[6]
        guess = (1 - knows) * np.where(sheet, habit, 1 - habit)
        yes = frequency * np.where(sheet, knows + guess, guess).prod(axis=1)
        return yes, (1 - frequency) * np.where(sheet, guess, knows + guess).prod(axis=1), p

    def loss(parameters: np.ndarray) -> float:
        yes, no, p = chances(parameters)
        prior = KNOWING[0] * np.log(p[:3]) + KNOWING[1] * np.log(1 - p[:3])
        habits = HABIT * (usual * np.log(p[3:6]) + (1 - usual) * np.log(1 - p[3:6]))
        return -float(np.log(yes + no).sum() + (prior + habits).sum() + FREQUENCY * np.log(p[6] * (1 - p[6])))

    starts = np.random.default_rng(6).normal(size=(20, 7))
    best = min((minimize(loss, start, tol=1e-10) for start in starts), key=lambda optimum: optimum.fun)
    yes, no, _ = chances(best.x)
    assert posteriors(votes, "mace").probability[:, 0] == pytest.approx(yes / (yes + no), abs=1e-3)


def test_a_fit_that_used_up_its_rounds_is_reported() -> None:
    _, frame = crowd(60, 0.3, [0.1, 0.3, 0.5], [0.1, 0.2, 0.4], labels="ab")
    ids = frame["record_id"].unique().sort().to_list()
    section = ReconcileSection(method="dawid_skene", iterations=5)
    _, notes = reconcile_with_notes(records(*ids), frame, ["a", "b"], section, seed=1)
    assert notes == [
        "dawid_skene had not converged after 5 rounds for a, b: these labels may still change. "
        "Raise reconcile.iterations."
    ]
    assert reconcile_with_notes(records(*ids), frame, ["a", "b"], ReconcileSection(), seed=1)[1] == []
