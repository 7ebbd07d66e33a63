"""The tables that are written from the journal: in the records' order, from the latest lines, a piece at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.storage.journal import Journal
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.scoring import score_files
from marginalia.scoring.score_files import journal_path, records_path, score_to_journal, tables, write_tables
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.tiny import save

IDS = [f"r{number}" for number in range(7)]


def entry(record_id: str, probability: float, *, error: str | None = None) -> dict[str, Any]:
    numbers = [[probability, 0.5], [probability / 2, 0.4], [min(probability * 2, 1.0), 0.6]]
    facts = dict.fromkeys(score_files.FACTS) | {"nodes": 1, "forward_passes": 1, "seconds": 0.1, "error": error}
    scores = {} if error else {"marginal": numbers, "joint": numbers}
    return {"id": record_id, "key": "k", "rows": ["billing", "unsafe"] if scores else [], "scores": scores, **facts}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A journal whose lines come in another order than the records, some of them twice, one of no record."""
    path = tmp_path / "scores.parquet"
    with Journal(journal_path(path)) as journal:
        journal.extend([entry("r3", 0.9), entry("gone", 0.3)])
        journal.extend([entry(record_id, int(record_id[1:]) / 10) for record_id in reversed(IDS)])
        journal.extend([entry("r1", 0.7), entry("r5", 0.0, error="too long")])
    return path


def test_the_tables_hold_the_latest_lines_in_the_order_of_the_records(out: Path) -> None:
    told = write_tables(out, IDS, ["marginal"])
    scores = read_frame(out, LabelScore, made_by="score")
    first = scores.filter(pl.col("label") == "billing")
    assert first["record_id"].to_list() == ["r0", "r1", "r2", "r3", "r4", "r6"]
    assert first["probability"].to_list() == [0.0, 0.7, 0.2, 0.3, 0.4, 0.6]
    assert scores["label"].to_list() == ["billing", "unsafe"] * 6
    assert scores["estimator"].unique().to_list() == ["marginal"]
    assert read_frame(records_path(out), ScoredRecord, made_by="score").equals(told)
    assert told["record_id"].to_list() == IDS
    assert told["error"].to_list() == [None, None, None, None, None, "too long", None]


def test_scores_are_written_a_piece_at_a_time_with_equal_content(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(out, IDS, ["marginal", "joint"])
    whole = pl.read_parquet(out)
    assert pq.ParquetFile(out).num_row_groups == 1
    monkeypatch.setattr(score_files, "CHUNK", 2)
    seen: list[int] = []

    def change(piece: pl.DataFrame) -> pl.DataFrame:
        seen.append(piece["record_id"].n_unique())
        return piece

    write_tables(out, IDS, ["marginal", "joint"], change)
    assert pq.ParquetFile(out).num_row_groups == 4
    assert seen == [2, 2, 1, 1]  # r5 has no scores
    assert pl.read_parquet(out).equals(whole)


def test_a_journal_of_failures_gives_an_empty_table(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with Journal(journal_path(out)) as journal:
        journal.append(entry("r0", 0.0, error="too long"))
    assert write_tables(out, ["r0", "r1"], ["marginal"])["error"].to_list() == ["too long"]
    assert read_frame(out, LabelScore, made_by="score").height == 0


def test_settings_that_come_back_get_their_own_numbers_again(tmp_path: Path) -> None:
    """The tables are made of the latest lines: those must be of the settings that are asked for now."""
    model = save(tmp_path / "model")
    records = [(f"r{n}", [{"role": "user", "content": f"Where is parcel {n}?"}]) for n in range(3)]
    journal = tmp_path / "j.jsonl"

    def bounds(tolerance: float) -> pl.DataFrame:
        settings = Settings(tolerance=tolerance, node_budget=60, estimators=("marginal",))
        scorer = Scorer.load(str(model), "instruct", taxonomy="support-tickets", settings=settings)
        assert sorted(score_to_journal(scorer, records, journal)) == ["r0", "r1", "r2"]
        return tables(journal, ["r0", "r1", "r2"], ["marginal"])[0]

    first, other, again = bounds(0.5), bounds(0.001), bounds(0.5)
    assert not first.equals(other)
    assert again.equals(first)
