"""Gold for arbitrary answers: it does not depend on their order, and an unresolved record is never safe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.agreement import agreement_of
from marginalia.annotation.gold.reconcile import reconcile
from marginalia.schemas.storage.files import frame_hash
from marginalia.schemas.tables import Answer, PromptRecord

LABELS = ["a", "b", "c"]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
RECORDS = [f"r{number}" for number in range(5)]
SETS = st.lists(st.sampled_from(LABELS), max_size=3, unique=True)


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    keys = [
        (record, f"A0{annotator}", round)
        for record in RECORDS
        for annotator in range(4)
        for round in ("annotate", "adjudicate")
    ]
    rows = []
    for record, annotator, round in draw(st.lists(st.sampled_from(keys), max_size=16, unique=True)):
        status = draw(st.sampled_from(["submitted", "submitted", "submitted", "discarded", "draft"]))
        rows.append(
            {
                "record_id": record,
                "annotator": annotator,
                "labels": draw(SETS) if status == "submitted" else None,
                "status": status,
                "note": None,
                "submitted_at": NOW + timedelta(seconds=draw(st.integers(0, 9))) if status == "submitted" else None,
                "pulled_at": NOW,
                "round": round,
            }
        )
    return rows


SECTIONS = st.builds(
    ReconcileSection,
    method=st.sampled_from(["majority", "majority", "dawid_skene", "mace"]),
    tie=st.sampled_from(["adjudicate", "yes", "no"]),
    min_answers=st.integers(1, 3),
    adjudicate_below_agreement=st.sampled_from([0.0, 0.5, 1.0]),
    adjudicate_below_posterior=st.sampled_from([0.0, 0.9]),
    bootstrap=st.just(0),
    iterations=st.just(5),
)
PROMPTS = PromptRecord.frame(
    [
        {
            "id": record,
            "messages": [{"role": "user", "content": record}],
            "intended_labels": [],
            "slot_id": None,
            "generator": "g",
            "created_at": NOW,
            "attributes": [],
        }
        for record in RECORDS
    ]
)


@settings(max_examples=max(1, settings().max_examples // 2))  # each example computes gold three times
@given(rows=answers(), section=SECTIONS, draw=st.data())
def test_the_order_of_answers_changes_nothing(
    rows: list[dict[str, Any]], section: ReconcileSection, draw: st.DataObject
) -> None:
    other = draw.draw(st.permutations(rows))
    turned = PROMPTS.reverse()
    gold = reconcile(PROMPTS, Answer.frame(rows), LABELS, section, seed=1)
    assert frame_hash(reconcile(PROMPTS, Answer.frame(list(other)), LABELS, section, seed=1)) == frame_hash(gold)
    assert frame_hash(reconcile(turned, Answer.frame(rows), LABELS, section, seed=1).sort("id")) == frame_hash(
        gold.sort("id")
    )


@given(rows=answers(), section=SECTIONS)
def test_what_is_unresolved_is_never_safe(rows: list[dict[str, Any]], section: ReconcileSection) -> None:
    frame = Answer.frame(rows)
    gold = reconcile(PROMPTS, frame, LABELS, section, seed=1)
    assert gold["id"].to_list() == RECORDS
    submitted = frame.filter(pl.col("status") == "submitted")
    for row in gold.iter_rows(named=True):
        given_to = submitted.filter(pl.col("record_id") == row["id"])
        asked = given_to.filter(pl.col("round") == "annotate")
        experts = given_to.filter(pl.col("round") == "adjudicate")
        assert (row["status"] == "final") == (row["labels"] is not None)
        assert row["n_annotators"] == asked.height
        if row["status"] == "final":
            assert experts.height or asked.height >= section.min_answers
            assert row["adjudicated"] == bool(experts.height)
            assert row["labels"] == [label for label in LABELS if label in row["labels"]]
            if not experts.height and section.method == "majority":
                assert set(row["labels"]) == majority(asked["labels"].to_list(), section.tie)
        for vote in row["votes"]:
            assert vote["n"] == asked.height
            assert vote["yes"] == sum(vote["label"] in labels for labels in asked["labels"].to_list())


def majority(sets: list[list[str]], tie: str) -> set[str]:
    """By hand: more votes for than against, or as many where ties count as yes."""
    yes = {label: sum(label in labels for labels in sets) for label in LABELS}
    assert tie != "adjudicate" or all(2 * count != len(sets) for count in yes.values())
    return {label for label, count in yes.items() if 2 * count > len(sets) or (2 * count == len(sets) and tie == "yes")}


@pytest.mark.parametrize("method", ["majority", "dawid_skene", "mace"])
@given(rows=answers())
def test_no_answers_no_gold(method: str, rows: list[dict[str, Any]]) -> None:
    silent = [row for row in rows if row["status"] != "submitted"]
    section = ReconcileSection(method=method, bootstrap=0)  # type: ignore[arg-type]
    gold = reconcile(PROMPTS, Answer.frame(silent), LABELS, section, seed=1)
    assert set(gold["status"]) == {"needs_answers"} and gold["labels"].null_count() == gold.height
    agreement = agreement_of(Answer.frame(silent), LABELS, section, seed=1, taxonomy="t", simulated=False)
    assert agreement.answers == 0 and agreement.alpha_masi.value is None
