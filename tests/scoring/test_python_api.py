"""The scorer from Python: one record, a stream of records, and data frames."""

from __future__ import annotations

import copy
import json
import pickle
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from marginalia import RecordScores, Scorer, Settings
from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.tables import LabelScore
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.command import main
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.record_stream import scored_in_order
from marginalia.scoring.scored_record import Probability, Result
from tests.scoring import tiny

TEXTS = ["Where is my parcel? I have been waiting for it.", "x", "I want my money back", "Thanks!"]
SETTINGS = Settings(tolerance=0.05, node_budget=40, estimators=("marginal", "joint"))
LABELS = load_taxonomy("support-tickets").ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("tiny") / "model", 4, sharpness=3.0)


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return Scorer.load(folder, "instruct", taxonomy="support-tickets", settings=SETTINGS)


# ---- load ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("bundled",),
            r"no guard for the model 'bundled'.*marginalia guards list .*the path of a guard file",
        ),
        (
            ("support-tickets", "bundled-guard"),
            r"the model comes first: Scorer.load\('bundled-guard', 'support-tickets'",
        ),
        (("llama-guard-3", "./folder"), r"the model comes first: Scorer.load\('./folder', 'llama-guard-3'"),
        (("bundled", "instruct"), r"has no taxonomy of its own \(give one with --taxonomy, or taxonomy=… in Python\)"),
    ],
)
def test_wrong_arguments_say_what_to_do(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scorer.load(*arguments)


def test_the_bundled_guard_needs_no_further_argument() -> None:
    scorer = Scorer.load("bundled-guard", settings=Settings(tolerance=0.01, estimators=("marginal",)))
    assert scorer.guard.name == "support-tickets"
    assert scorer.score("My parcel is late.")["late_delivery"].probability > 0.9


def test_paths_are_accepted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.yaml").write_text(
        "id: two\nversion: '1'\ntitle: Two\nsubject: texts\n"
        "labels: [{id: a, name: A, definition: a}, {id: b, name: B, definition: b}]\n"
    )
    scorer = Scorer.load(folder, "instruct", taxonomy=tmp_path / "labels.yaml", settings=SETTINGS)
    assert scorer.score("x").keys() == {"a", "b", "unsafe"}


# ---- one record ------------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_the_dict_that_it_was_before(scorer: Scorer) -> None:
    scores = scorer.score(TEXTS[0])
    assert isinstance(scores, dict) and list(scores) == [*LABELS, "unsafe"]
    assert all(isinstance(value, Probability) and len(value) == 3 for value in scores.values())
    assert "refund" in scores and "refunds" not in scores and scores.get("refunds") is None
    assert json.loads(json.dumps(scores))["refund"] == list(scores["refund"])
    assert scores == dict(scores)
    for other in (copy.copy(scores), pickle.loads(pickle.dumps(scores))):
        assert other == scores and other.estimator == "marginal" and repr(other) == repr(scores)


def test_it_prints_the_verdict_then_the_labels_and_the_estimator(scorer: Scorer) -> None:
    scores = scorer.score(TEXTS[0], estimator="joint")
    *rows, facts = repr(scores).splitlines()
    assert len(rows) == len(LABELS) + 1 and rows[0].split()[0] == "unsafe"
    shown = [float(row.split()[1]) for row in rows[1:]]
    assert shown == sorted(shown, reverse=True)
    value = scores["refund"]
    row = next(row for row in rows if row.startswith("refund "))
    assert row.split(maxsplit=1)[1] == f"{value.probability:.3f}  [{value.lower:.3f}, {value.upper:.3f}]"
    assert facts.startswith("(joint; answer ")
    assert str(scores) == repr(scores)


def test_everything_about_the_record_is_there(scorer: Scorer) -> None:
    scores = scorer.score(TEXTS[0])
    assert scores.verdict == scores["unsafe"] and "unsafe" not in scores.labels and len(scores.labels) == len(LABELS)
    plain = scores.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["labels"]["refund"] == dict(zip(("probability", "lower", "upper"), scores["refund"], strict=True))
    assert (
        plain["estimator"] == "marginal" and plain["off_language"] == scores.off_language == scores.result.off_language
    )
    assert scores.using("joint") == scorer.score(TEXTS[0], estimator="joint") != scores


def test_an_unknown_label_or_estimator_gives_the_nearest_name(scorer: Scorer) -> None:
    scores = scorer.score(TEXTS[0])
    with pytest.raises(KeyError, match="no label 'refnd'; did you mean 'refund'"):
        scores["refnd"]
    for ask in (lambda: scores.using("jiont"), lambda: scorer.score("x", estimator="jiont")):
        with pytest.raises(InputError, match="does not compute the estimator 'jiont'; did you mean 'joint'"):
            ask()


def test_the_page_of_a_notebook_contains_no_markup_of_the_model() -> None:
    result = Result("r", answer="<script>alert(1)</script>\x1b[31m", off_language=0.0)
    hostile = RecordScores(Result("r", error="<b>bad</b>"), ("unsafe",), "marginal")
    assert hostile._repr_html_() == "<p>record &#x27;r&#x27; was not scored: &lt;b&gt;bad&lt;/b&gt;</p>"
    estimates = LabelEstimates(np.array([0.1, 0.5]), np.array([0.1, 0.4]), np.array([0.1, 0.6]))
    shown = RecordScores(replace(result, estimates={"marginal": estimates}), ("<i>", "unsafe"), "marginal")
    page = shown._repr_html_()
    assert "<script" not in page and "<i>" not in page and "\x1b" not in page
    assert "&lt;script&gt;" in page and "<td>0.500</td><td>0.400 to 0.600</td>" in page
    assert "\x1b" not in repr(shown)


# ---- many records ----------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_records(scorer: Scorer) -> None:
    records = [*TEXTS, ("mine", TEXTS[0]), {"id": 7, "text": TEXTS[1]}, [{"role": "user", "content": TEXTS[2]}]]
    scored = list(scorer.score_many(iter(records)))
    assert [scores.record_id for scores in scored] == ["0", "1", "2", "3", "mine", "7", "6"]
    for scores, text in zip(scored, [*TEXTS, *TEXTS[:3]], strict=True):
        assert scores["refund"].probability == pytest.approx(scorer.score(text)["refund"].probability, abs=0.05)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (None, "saw None"),
        (3, "saw 3"),
        ([], "at least one message"),
        ([{"role": "nobody", "content": "x"}], "a message must have a role"),
        ({"id": "a", "texts": "x"}, "expected a text"),
        ((None, "x"), "an id is a text or a number, saw None"),
        ("a" * 100_000, "too long: the prompt has"),
        ("\ud800", "a lone surrogate"),
    ],
)
def test_a_bad_record_has_an_error_and_the_others_go_on(scorer: Scorer, bad: Any, error: str) -> None:
    before, failed, after = scorer.score_many([TEXTS[0], bad, TEXTS[2]])
    assert before.error is None and after.error is None and after.record_id == "2"
    assert error in str(failed.error) and len(failed) == 0 and "refund" not in failed
    assert repr(failed).startswith(f"record {failed.record_id!r} was not scored: ")
    with pytest.raises(KeyError, match="was not scored"):
        failed.verdict  # noqa: B018
    assert failed.to_dict()["error"] == failed.error and failed.using("joint").error == failed.error


def test_a_repeated_id_is_an_error(scorer: Scorer) -> None:
    assert [scores.error for scores in scorer.score_many([("a", "x"), ("a", "y")])] == [
        None,
        "duplicate id 'a'; ids must be unique",
    ]


def test_an_endless_stream_is_read_window_by_window() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "x" * 10_000

    def score(records: Any) -> Iterator[Result]:
        for record_id, _ in sorted(records, reverse=True):
            yield Result(record_id)

    tracemalloc.start()
    results = [result.record_id for result in islice(scored_in_order(endless(), score, 512), 5000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert results == [str(number) for number in range(5000)]
    assert taken == 10 * 512 and peak < 20e6


def test_a_failure_of_the_source_is_raised_and_not_swallowed(scorer: Scorer) -> None:
    def failing() -> Iterator[str]:
        yield "x"
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        list(scorer.score_many(failing()))


def test_the_bar_is_quiet_unless_it_is_asked_for(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    list(scorer.score_many(["x"]))
    assert capsys.readouterr().err == ""
    list(scorer.score_many(["x"], progress=True))
    assert "score: 100%" in capsys.readouterr().err


def test_one_text_or_a_frame_in_place_of_many_is_refused(scorer: Scorer) -> None:
    with pytest.raises(InputError, match=r"many records \(score takes one text\)"):
        scorer.score_many("x")
    with pytest.raises(InputError, match="score_frame takes a data frame"):
        scorer.score_many(pl.DataFrame({"text": ["x"]}))
    with pytest.raises(InputError, match="score_many takes an iterable"):
        scorer.score_frame(["x"])
    assert len(list(scorer.score_many(pl.Series(["x", "y"])))) == 2


def test_one_record_still_raises(scorer: Scorer) -> None:
    with pytest.raises(ModelError, match="too long"):
        scorer.score("a" * 100_000)


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_the_long_frame_is_the_file_that_the_command_writes(scorer: Scorer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(
        "".join(json.dumps({"id": f"r{n}", "text": text}) + "\n" for n, text in enumerate(TEXTS))
    )
    options = ["--model", str(folder), "--guard", "instruct", "--taxonomy", "support-tickets", "--tolerance", "0.05"]
    options += ["--node-budget", "40", "--estimator", "marginal", "joint", "--out", str(tmp_path / "s.parquet")]
    assert main([str(tmp_path / "r.jsonl"), *options]) == 0
    frame = pl.DataFrame({"id": [f"r{n}" for n in range(len(TEXTS))], "text": TEXTS})
    made = scorer.score_frame(frame)
    assert made.schema == LabelScore.polars_schema()
    assert made.equals(pl.read_parquet(tmp_path / "s.parquet"))
    assert scorer.score_frame(frame, estimator="joint").equals(made.filter(pl.col("estimator") == "joint"))


def test_the_wide_frame_has_a_row_per_record_and_its_errors(scorer: Scorer) -> None:
    frame = pl.DataFrame({"n": [1, 2], "body": [TEXTS[0], None]})
    made = scorer.score_frame(frame, "body", id="n", wide=True)
    assert made.columns == ["record_id", "unsafe", *LABELS, "error"] and made["record_id"].to_list() == ["1", "2"]
    scores = scorer.score(TEXTS[0])
    assert made.row(0)[1:-1] == pytest.approx([scores[label].probability for label in made.columns[1:-1]], abs=0.05)
    assert made["error"].to_list()[0] is None and "saw None" in made["error"].to_list()[1]
    assert made["refund"].to_list()[1] is None


def test_records_without_a_row_are_reported(scorer: Scorer) -> None:
    with pytest.warns(
        UserWarning, match="1 of 2 records were not scored and have no row; the first is '1': .*saw None"
    ):
        made = scorer.score_frame(pl.DataFrame({"text": [TEXTS[0], None]}))
    assert made["record_id"].unique().to_list() == ["0"]


@pytest.mark.parametrize("wide", [False, True])
def test_pandas_frames_come_back_as_pandas(scorer: Scorer, tmp_path: Path, wide: bool) -> None:
    conversations = [[{"role": "user", "content": text}] for text in TEXTS]
    expected = scorer.score_frame(pl.DataFrame({"id": [1, 2, 3, 4], "messages": conversations}), wide=wide)
    frame = pd.DataFrame({"id": [1, 2, 3, 4], "messages": conversations}, index=[9, 8, 7, 6])
    frame.to_parquet(tmp_path / "p.parquet")
    for given in (frame, pd.read_parquet(tmp_path / "p.parquet")):  # lists, and arrays
        made = scorer.score_frame(given, wide=wide)
        assert isinstance(made, pd.DataFrame)
        assert pl.from_pandas(made).equals(expected)


def test_lazy_frames_and_arrow_tables_are_read(scorer: Scorer) -> None:
    frame = pl.DataFrame({"text": TEXTS})
    expected = scorer.score_frame(frame)
    assert scorer.score_frame(frame.lazy()).equals(expected)
    assert scorer.score_frame(pa.table({"text": TEXTS})).equals(expected)


def test_a_missing_column_is_named(scorer: Scorer) -> None:
    frame = pl.DataFrame({"txt": TEXTS})
    with pytest.raises(InputError, match=r"no column 'text'; did you mean 'txt'\? \(name the column: .*text=…"):
        scorer.score_frame(frame)
    with pytest.raises(InputError, match=r"no column 'key'; it has txt \(name the column: .*id=…"):
        scorer.score_frame(frame, "txt", id="key")
