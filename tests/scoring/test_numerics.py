"""What a run in 16 bits says about its numerics, against plain passes over each prefix alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from marginalia.scoring.models.rounding_check import evenly_spaced, measure
from marginalia.scoring.score_files import origin_of, score_to_journal
from marginalia.scoring.scorer import Scorer, Settings
from tests.bad_input.table import jsonl, run_command, write
from tests.scoring.networks import GUARD, plain, saved
from tests.scoring.tiny import save

SETTINGS = Settings(tolerance=0.05, node_budget=16)
RECORDS = [(f"r{number}", [{"role": "user", "content": f"text number {number}"}]) for number in range(9)]


def load(folder: Path, dtype: str) -> Scorer:
    if not folder.exists():
        saved(folder, "qwen3")
    guard = folder.parent / "g.yaml"
    guard.write_text(GUARD)
    return Scorer.load(str(folder), str(guard), dtype=dtype, settings=SETTINGS)


@pytest.mark.parametrize(("dtype", "least", "most"), [("float32", 0.0, 1e-4), ("bfloat16", 1e-4, 0.5)])
def test_the_measure_is_that_of_plain_passes(tmp_path: Path, dtype: str, least: float, most: float) -> None:
    scorer = load(tmp_path / "m", dtype)
    jobs = [scorer.prepare(*record) for record in RECORDS[:2]]
    done = list(jobs)
    found = measure(scorer.model, scorer._record_batches(), jobs)
    assert found is not None
    nats = probability = 0.0
    prefixes = 0
    for job in done:
        ids, mass, ours = list(job.ids), 1.0, 1.0
        for step in job.search.greedy:
            expected = plain(scorer.model.runner.model, ids)[-1].double().numpy()
            nats = max(nats, abs(np.log(step.probability) - expected[step.token]))
            ids, mass, ours = [*ids, step.token], mass * np.exp(expected[step.token]), ours * step.probability
            probability = max(probability, abs(mass - ours))
            prefixes += 1
        root = job.search.root
        first = plain(scorer.model.runner.model, job.ids)[-1].double().numpy()[root.moves.ids]
        probability = max(probability, abs(root.masses - np.exp(first)).max())
    assert found.prefixes == prefixes
    # one pass over a longer sequence rounds in its own way again
    assert nats / 4 <= found.nats + 1e-6 <= 4 * nats + 1e-5
    assert probability / 4 <= found.probability + 1e-6 <= 4 * probability + 1e-5
    assert least <= found.nats <= most


def test_each_run_in_16_bits_tells_it_and_a_resumed_one_tells_the_same(tmp_path: Path) -> None:
    notes = []
    for _ in range(2):
        scorer = load(tmp_path / "m", "bfloat16")
        assert len(list(score_to_journal(scorer, RECORDS, tmp_path / "j.jsonl"))) == len(RECORDS)
        (note,) = [note for note in origin_of(scorer).notes if note.startswith("bfloat16: ")]
        notes.append(note)
    assert notes[0] == notes[1]
    assert "certified bounds hold up to that" in notes[0]
    exact = load(tmp_path / "m", "float32")
    list(score_to_journal(exact, RECORDS, tmp_path / "k.jsonl"))
    assert not [note for note in origin_of(exact).notes if "certified" in note]


def test_the_command_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "m", 1, sharpness=2.0)
    write(tmp_path, {"r.jsonl": jsonl({"id": "a", "text": "text"})})
    code, message = run_command("scoring r.jsonl --tolerance 0.9 --node-budget 2 --model m --dtype bfloat16")
    assert code == 0
    assert "note: bfloat16: the tree search and plain forward passes differ by up to " in message
    assert pl.read_parquet("o.parquet").height


def test_the_records_are_spread_evenly() -> None:
    assert evenly_spaced(range(100)) == [12, 37, 62, 87]
    assert evenly_spaced(range(3)) == [0, 1, 2]
    assert evenly_spaced([]) == []
