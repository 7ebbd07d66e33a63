from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from marginalia.annotation.config import ReconcileSection, Splits
from marginalia.annotation.gold.label_posteriors import posteriors
from marginalia.annotation.gold.reconcile import compare_methods, reconcile
from marginalia.annotation.gold.votes import votes_of
from marginalia.schemas.tables import GoldRecord
from tests.annotation.answers import answers, records, skipped


def gold(
    frame: pl.DataFrame, *ids: str, seed: int = 1, labels: str = "abc", **config: Any
) -> dict[str, dict[str, Any]]:
    section = ReconcileSection(compare=False, **config)
    frame_of_gold = reconcile(records(*ids), frame, list(labels), section, seed=seed)
    assert frame_of_gold.schema == GoldRecord.polars_schema()
    assert frame_of_gold["id"].to_list() == list(ids)
    return {row["id"]: row for row in frame_of_gold.iter_rows(named=True)}


def test_the_majority_of_each_label_wins_and_soft_labels_are_kept() -> None:
    row = gold(answers({"r": {"X": "ab", "Y": "a", "Z": "ac"}}), "r")["r"]
    assert (row["status"], row["labels"], row["n_annotators"], row["method"]) == ("final", ["a"], 3, "majority")
    assert row["soft_labels"] == [
        {"label": "a", "probability": 1.0},
        {"label": "b", "probability": pytest.approx(1 / 3)},
        {"label": "c", "probability": pytest.approx(1 / 3)},
    ]
    assert row["votes"][1] == {"label": "b", "yes": 1, "n": 3}
    # Jaccard of {a,b} {a}, {a,b} {a,c}, {a} {a,c}: 1/2, 1/3, 1/2
    assert row["agreement"] == pytest.approx(4 / 9)
    assert row["messages"] == [{"role": "user", "content": "text of r"}]


def test_nobody_ticking_anything_is_a_final_answer_with_no_labels() -> None:
    row = gold(answers({"r": {"X": "", "Y": ""}}), "r")["r"]
    assert (row["status"], row["labels"], row["agreement"]) == ("final", [], 1.0)


@pytest.mark.parametrize(
    ("tie", "status", "labels"),
    [("adjudicate", "needs_adjudication", None), ("yes", "final", ["a", "b"]), ("no", "final", ["a"])],
)
def test_a_tie_follows_the_rule_of_the_config(tie: str, status: str, labels: list[str] | None) -> None:
    row = gold(answers({"r": {"X": "ab", "Y": "a"}}), "r", tie=tie)["r"]
    assert (row["status"], row["labels"]) == (status, labels)


def test_records_with_one_answer_none_or_only_skips_need_answers() -> None:
    frame = pl.concat([answers({"one": {"X": "a"}}), skipped("skipped", "X"), skipped("skipped", "Y")])
    rows = gold(frame, "one", "none", "skipped")
    assert {row["status"] for row in rows.values()} == {"needs_answers"}
    assert {row["labels"] for row in rows.values()} == {None}
    assert [row["n_annotators"] for row in rows.values()] == [1, 0, 0]
    assert rows["one"]["soft_labels"][0] == {"label": "a", "probability": 1.0}
    assert rows["none"]["soft_labels"] == []
    assert rows["skipped"]["votes"][0] == {"label": "a", "yes": 0, "n": 0}
    assert {row["agreement"] for row in rows.values()} == {None}


def test_without_any_answer_at_all_every_record_needs_answers() -> None:
    for method in ("majority", "dawid_skene", "mace"):
        assert gold(answers({}), "r", method=method)["r"]["status"] == "needs_answers"


def test_one_answer_suffices_where_the_config_says_so() -> None:
    assert gold(answers({"r": {"X": "a"}}), "r", min_answers=1)["r"]["labels"] == ["a"]


def test_little_agreement_sends_a_record_to_the_expert() -> None:
    frame = answers({"r": {"X": "a", "Y": "b", "Z": "c"}})
    assert gold(frame, "r")["r"]["labels"] == []
    assert gold(frame, "r", adjudicate_below_agreement=0.1)["r"]["status"] == "needs_adjudication"


def test_the_experts_answer_wins_and_is_marked() -> None:
    crowd = answers({"r": {"X": "a", "Y": "b"}, "s": {"X": "a", "Y": "a"}})
    expert = answers({"r": {"E": "c"}, "s": {"E": ""}}, round="adjudicate")
    rows = gold(pl.concat([crowd, expert]), "r", "s")
    assert [(row["status"], row["labels"]) for row in rows.values()] == [("final", ["c"]), ("final", [])]
    assert [(row["adjudicated"], row["method"], row["n_annotators"]) for row in rows.values()] == [
        (True, "expert", 2)
    ] * 2
    assert rows["r"]["soft_labels"][0] == {"label": "a", "probability": 0.5}


def test_experts_who_disagree_settle_nothing() -> None:
    crowd = answers({"r": {"X": "a", "Y": "a"}})
    experts = answers({"r": {"E": "b", "F": "a"}}, round="adjudicate")
    row = gold(pl.concat([crowd, experts]), "r")["r"]
    assert (row["status"], row["labels"], row["adjudicated"]) == ("needs_adjudication", None, False)


def test_a_dawid_skene_step_equals_the_one_computed_by_hand() -> None:
    # X and Y tick r1 and r3, Z ticks r1. Shares: 1, 0, 2/3; prior 5/9. X, Y: P(tick | yes) = 1, P(tick | no) = 1/4;
    # Z: P(no tick | yes) = 2/5, P(no tick | no) = 1. r3: 5/9 · 2/5 : 4/9 · 1/16 = 8 : 1
    frame = answers(
        {"r1": {"X": "a", "Y": "a", "Z": "a"}, "r2": dict.fromkeys("XYZ", ""), "r3": {"X": "a", "Y": "a", "Z": ""}}
    )
    posterior = posteriors(votes_of(frame, ["a"]), "dawid_skene", iterations=1).probability[:, 0]
    assert posterior == pytest.approx([1.0, 0.0, 8 / 9], abs=1e-6)


def _three_against_two() -> pl.DataFrame:
    """X, Y and Z are right; V and W always tick 'a', which a majority vote cannot distinguish from knowing."""
    given = {}
    for at in range(30):
        right = "a" if at % 3 == 0 else ""
        given[f"r{at:02}"] = {"V": "a", "W": "a", "X": right, "Y": right, "Z": right if at != 1 else "a"}
    return answers(given)


@pytest.mark.parametrize("method", ["dawid_skene", "mace"])
def test_weighting_annotators_overrules_a_majority_of_unreliable_ones(method: str) -> None:
    frame = _three_against_two()  # r01: V, W, Z tick it, X and Y, who are reliable, do not
    ids = frame["record_id"].unique().sort().to_list()
    assert gold(frame, *ids, labels="a")["r01"]["labels"] == ["a"]
    rows = gold(frame, *ids, labels="a", method=method)
    assert rows["r01"]["labels"] == []
    assert [rows[i]["labels"] for i in ("r00", "r02", "r03")] == [["a"], [], ["a"]]


@pytest.mark.parametrize("method", ["dawid_skene", "mace"])
def test_names_and_order_of_annotators_do_not_change_what_a_method_finds(method: Any) -> None:
    frame = _three_against_two()
    renamed = frame.with_columns(pl.col("annotator").replace({"V": "Z", "W": "Y", "Y": "W", "Z": "V"}))
    original = posteriors(votes_of(frame, ["a"]), method).probability
    permuted = posteriors(votes_of(renamed, ["a"]), method).probability
    assert permuted == pytest.approx(original, abs=0.02)


def test_an_uncertain_posterior_sends_a_record_to_the_expert() -> None:
    frame = answers({f"r{at}": {"X": "a" if at % 2 else "", "Y": "a" if at % 3 else ""} for at in range(12)})
    ids = [f"r{at}" for at in range(12)]
    strict = gold(frame, *ids, labels="a", method="dawid_skene", adjudicate_below_posterior=1.0)
    assert {row["status"] for row in strict.values()} == {"needs_adjudication"}


def test_other_methods_are_compared_on_the_records_that_the_votes_settle() -> None:
    votes = votes_of(_three_against_two(), ["a"])
    comparisons = {row.method: row for row in compare_methods(votes, ReconcileSection(), seed=1)}
    assert set(comparisons) == {"dawid_skene", "mace"}
    assert (comparisons["dawid_skene"].records, comparisons["dawid_skene"].same_labels) == (30, 29)


def test_very_many_answers_are_compared_on_a_random_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.annotation.gold.reconcile.COMPARED", 50)
    votes = votes_of(_three_against_two(), ["a"])
    comparisons = compare_methods(votes, ReconcileSection(), seed=1)
    assert {row.records for row in comparisons} == {10}
    assert comparisons == compare_methods(votes, ReconcileSection(), seed=1)


def test_splits_have_their_shares_for_every_label() -> None:
    given = {f"r{at:03}": {"X": "ab"[: at % 3], "Y": "ab"[: at % 3]} for at in range(300)}
    given |= {f"rare{at}": {"X": "c", "Y": "c"} for at in range(4)}
    shares = Splits(train=0.5, calibration=0.25, test=0.25)
    rows = gold(answers(given), *given, splits=shares)
    for label, total in (("a", 200), ("b", 100), ("c", 4)):
        sizes = [sum(row["split"] == name for row in rows.values() if label in row["labels"]) for name in NAMES]
        assert sizes == [total // 2, total // 4, total // 4]
    assert sum(row["split"] == "train" for row in rows.values()) == 152


NAMES = ("train", "calibration", "test")


def test_splits_depend_on_the_seed_and_not_on_the_order() -> None:
    given = {f"r{at:02}": {"X": "a" * (at % 2), "Y": "a" * (at % 2)} for at in range(40)}
    split = {i: row["split"] for i, row in gold(answers(given), *given).items()}
    backwards = {i: row["split"] for i, row in gold(answers(given), *reversed(given)).items()}
    other = {i: row["split"] for i, row in gold(answers(given), *given, seed=2).items()}
    assert split == backwards
    assert split != other
    assert "train" not in split.values()


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 0\.9, expected 1"):
        Splits(train=0.4, calibration=0.25, test=0.25)
