"""Benchmarks that no other test runs still work, at their smallest sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import evaluate, scoring_memory


def test_the_memory_benchmark_scores_every_record(tmp_path: Path) -> None:
    figures = scoring_memory._run(3, tmp_path)
    assert {"start_mb", "records_mb", "scored_mb", "tables_mb", "journal_mb", "seconds"} == figures.keys()
    assert json.dumps(figures)


def test_the_evaluation_benchmark_evaluates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "--records", "200", "--estimators", "1", "--resamples", "100"])
    evaluate.main()
    assert capsys.readouterr().out.startswith("200 records × 14 labels × 1 estimators, 100 resamples: ")
