"""Stages and views of answers that judge only some of the labels: a label that was not judged is not "no"."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marginalia.annotation.client.annotation_progress import summary
from marginalia.annotation.client.expert_payloads import votes_text
from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.reconcile import reconcile
from marginalia.pipeline.annotating import reconcile_stage
from marginalia.pipeline.annotating.suspect_labels import change_rates, gold_error_rate, select, suspects, with_answers
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.core.stage_summary import describe
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import Answer, AuditedRecord, GoldRecord, LabelScore
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from tests.annotation.answers import answers, partial, records
from tests.annotation.runs import TAXONOMY, write_prompts


@pytest.fixture
def taxonomy(tmp_path: Path) -> Taxonomy:
    (tmp_path / "taxonomy.yaml").write_text(TAXONOMY)
    return load_taxonomy("taxonomy.yaml", relative_to=tmp_path)


def gold(given: dict[str, tuple[str, str | None]]) -> pl.DataFrame:
    """Final gold: (labels, judged labels or None for all), as one-letter labels."""
    rows: list[dict[str, Any]] = [
        {
            "id": record,
            "messages": [],
            "status": "final",
            "labels": list(labels),
            "soft_labels": [],
            "votes": [],
            "n_annotators": 2,
            "agreement": 1.0,
            "method": "majority",
            "adjudicated": False,
            "split": "test",
            "judged": None if judged is None else list(judged),
        }
        for record, (labels, judged) in given.items()
    ]
    return GoldRecord.frame(rows)


def scores(given: dict[str, dict[str, float]]) -> pl.DataFrame:
    return LabelScore.frame(
        [
            {"record_id": record, "estimator": "marginal", "label": label, "probability": p, "lower": p, "upper": p}
            for record, by_label in given.items()
            for label, p in by_label.items()
        ]
    )


# the guard is sure of 'a' on r5 and r6, where gold did not judge it; on r4 it disputes what gold judged
GOLD = gold({"r1": ("a", None), "r2": ("a", "ab"), "r3": ("", None), "r4": ("", "a"), "r5": ("b", "b"), "r6": ("", "")})
SCORES = scores(
    {"r1": {"a": 0.9}, "r2": {"a": 0.7}, "r3": {"a": 0.1}, "r4": {"a": 0.85}, "r5": {"a": 0.99}, "r6": {"a": 0.99}}
)


def test_a_guard_disputes_only_what_gold_judged() -> None:
    # the guard is sure of 'a' from (0.9 + 0.7) / 2 = 0.8 on
    assert suspects(GOLD, SCORES, ["a", "b"]).rows() == [("a", 0.85, pytest.approx(0.15), "r4")]


def test_the_means_that_make_a_guard_sure_are_of_judged_records() -> None:
    # absent: 1 - 0.1 and 1 - 0.85, a mean of 0.525, which the 0.45 of r2 does not reach. With r5 and r6 as "no" the
    # mean would be 0.27, and r2 would be disputed
    given = scores(
        {
            **{r: {"a": p} for r, p in zip(["r3", "r4", "r5", "r6"], [0.1, 0.85, 0.99, 0.99], strict=True)},
            "r1": {"a": 0.9},
            "r2": {"a": 0.55},
        }
    )
    assert suspects(GOLD, given, ["a", "b"])["id"].to_list() == ["r4"]


def test_audited_records_keep_their_masks_and_records_without_judged_labels_are_not_sampled() -> None:
    chosen = select(GOLD, SCORES, ["a", "b"], top=5, control=9, seed=1)
    assert chosen.schema == AuditedRecord.polars_schema()
    assert dict(chosen.select("id", "judged").iter_rows()) == {
        "r1": None, "r2": ["a", "b"], "r3": None, "r4": ["a"], "r5": ["b"],
    }  # fmt: skip
    assert chosen["weight"].sum() == 5


def test_an_expert_changes_only_what_gold_judged() -> None:
    chosen = select(GOLD, SCORES, ["a", "b"], top=5, control=9, seed=1)
    given = partial(
        {
            "r1": {"E": ("a", "a")},  # did not judge 'b', which gold did: not reviewed
            "r2": {"E": ("ab", None)},  # adds 'b', which gold judged absent
            "r3": {"E": ("", "ab"), "F": ("", None)},
            "r4": {"E": ("b", None), "F": ("", None)},  # they differ in 'b', which gold did not judge
            "r5": {"E": ("ab", None)},  # adds 'a', which gold did not judge
        },
        round="audit",
    )
    audited = with_answers(chosen, given, ["a", "b"])
    shown = {row["id"]: (row["audited_labels"], row["changed"]) for row in audited.iter_rows(named=True)}
    assert shown == {
        "r1": (None, None),
        "r2": (["a", "b"], True),
        "r3": ([], False),
        "r4": ([], False),
        "r5": (["b"], False),
    }
    assert [(rate.why, rate.seen, rate.changed) for rate in change_rates(audited)] == [
        ("guard", 1, 0),
        ("control", 3, 1),
    ]
    error = gold_error_rate(audited)
    assert error is not None and error.value == pytest.approx(4 * (1 / 3) / 5)


def test_experts_see_how_many_judged_each_label(taxonomy: Taxonomy) -> None:
    # without masks: "Apples: 1 of 2", "None of these: 2 of 3", and nothing about the labels that were not asked about
    given = partial({"r": {"X": ("a", "ab"), "Y": ("", "a"), "Z": ("", "")}})
    (row,) = reconcile(records("r"), given, taxonomy.ids, ReconcileSection(compare=False), seed=1).to_dicts()
    assert votes_text(row["votes"], given, taxonomy).splitlines() == [
        "Apples <b>: 1 of 2",
        "Boats: 0 of 1",
        "Cats: nobody was asked",
    ]
    complete = partial({"r": {"X": ("", None), "Y": ("", "a"), "Z": ("b", None)}})
    (row,) = reconcile(records("r"), complete, taxonomy.ids, ReconcileSection(compare=False), seed=1).to_dicts()
    assert votes_text(row["votes"], complete, taxonomy).splitlines() == [
        "Boats: 1 of 2",
        "Cats: 0 of 2",
        "None of these: 1 of 2",
    ]


def test_progress_counts_a_record_as_done_when_each_label_has_its_answers(taxonomy: Taxonomy) -> None:
    pushed = Pushed(
        url="http://127.0.0.1",
        workspace="w",
        dataset="d",
        dataset_id="1",
        round="annotate",
        records=4,
        annotators=2,
        taxonomy="topics",
        labels=taxonomy.ids,
        taxonomy_sha256="0" * 64,
        suggestions=False,
        pushed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    given = partial(
        {
            "r1": {"X": ("a", None), "Y": ("a", None)},
            "r2": {"X": ("a", None), "Y": ("a", "ab")},
            "r3": {"X": ("", "")},
        }
    )
    state = summary(["r1", "r2", "r3", "r4"], given, pushed, taxonomy)
    assert (state.done, state.started, state.untouched, state.answers_needed) == (1, 1, 2, 1 + 2 + 2)
    assert state.exact.n == 2


def partial_run(folder: Path) -> Run:
    """Two annotators, three records: r1 was judged completely, r2 on 'a' and 'b', r3 on 'c' by one."""
    folder.mkdir(exist_ok=True)
    (folder / "taxonomy.yaml").write_text(TAXONOMY)
    settings = {"taxonomy": "taxonomy.yaml", "reconcile": {"bootstrap": 20}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    write_prompts(folder, {"r1": "one", "r2": "two", "r3": "three"}, {})
    given = partial(
        {
            "r1": {"A01": ("a", None), "A02": ("a", None)},
            "r2": {"A01": ("b", "ab"), "A02": ("b", None)},
            "r3": {"A01": ("c", "c")},
        }
    )
    write_frame(folder / "annotations.parquet", given, Answer)
    return open_run(folder)


def test_reconcile_writes_the_masks_and_says_how_many(tmp_path: Path) -> None:
    run = partial_run(tmp_path)
    done = run_stage(reconcile_stage.STAGE, run)
    assert done.manifest.counts_out["partly_judged"] == 1
    assert "2 final, 1 needs answers, 0 need adjudication, 0 adjudicated, 1 partly judged" in describe(done)
    table = pl.read_parquet(tmp_path / "gold.parquet").sort("id")
    assert table["labels"].to_list() == [["a"], ["b"], None]
    assert table["judged"].to_list() == [None, ["a", "b"], None]
    agreement = json.loads((tmp_path / "agreement.json").read_bytes())
    assert (agreement["answers"], agreement["partial_answers"], agreement["pairable"]) == (5, 2, 2)
    assert [row["answers"] for row in agreement["per_label"]] == [4, 4, 4]
    assert any(note.startswith("In 1 of 2 final records only some labels were judged.") for note in agreement["notes"])
    complete = answers({"r1": {"A01": "a", "A02": "a"}, "r2": {"A01": "b", "A02": "b"}})
    write_frame(tmp_path / "annotations.parquet", complete, Answer)
    done = run_stage(reconcile_stage.STAGE, run)
    assert "partly_judged" not in done.manifest.counts_out
    assert "partial_answers" not in (tmp_path / "agreement.json").read_text()


@pytest.mark.parametrize(
    ("name", "change", "check", "problem"),
    [
        ("gold", {"judged": pl.lit(["b"])}, "counts", "record 'r1' has the label 'a', which 'judged' leaves out"),
        ("gold", {"judged": pl.lit(["a"])}, "counts", "record 'r1' has a soft label of 'b', which 'judged' leaves out"),
        ("gold", {"judged": pl.lit(["a", "z"])}, "counts", "unknown label 'z'"),
        (
            "gold",
            {"judged": pl.lit([], dtype=pl.List(pl.String)), "labels": pl.lit([], dtype=pl.List(pl.String))},
            "counts",
            "record 'r1' is final, but none of its labels was judged",
        ),
        ("annotations", {"judged": pl.lit(["b"])}, "judged", "record 'r1': A01 ticked 'a', which 'judged' leaves out"),
        ("annotations", {"judged": pl.lit(["a", "z"])}, "labels", "unknown label 'z'"),
    ],
)
def test_verify_names_masks_that_contradict_labels(
    tmp_path: Path, name: str, change: dict[str, pl.Expr], check: str, problem: str
) -> None:
    run = partial_run(tmp_path)
    run_stage(reconcile_stage.STAGE, run)
    assert {item.problem for item in verify(run).checks if item.subject in ("counts", "judged", "labels")} == {None}
    path = tmp_path / f"{name}.parquet"
    frame = pl.read_parquet(path)
    first = pl.int_range(pl.len()) == 0
    frame.with_columns(
        pl.when(first).then(value).otherwise(column).alias(column) for column, value in change.items()
    ).write_parquet(path)
    (found,) = [item.problem for item in verify(run).checks if item.subject == check]
    assert problem in str(found)
