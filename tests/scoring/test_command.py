"""`python -m scoring`, as its user runs it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import frame_hash, read_frame
from marginalia.schemas.tables import LabelScore, ScoredRecord
from marginalia.scoring.command import main
from marginalia.scoring.score_request import ESTIMATOR_NAMES
from tests.scoring.tiny import save

ROOT = Path(__file__).parents[2]
TEXTS = ["Where is my parcel?", "I want my money back", "x", "My invoice is wrong and the lamp is broken", "Thanks!"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny") / "model", 4, sharpness=3.0)


def write_records(path: Path, count: int = 5) -> Path:
    rows = [{"id": f"r{n}", "text": f"{TEXTS[n % len(TEXTS)]} {n}"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(records: Path, model: Path, out: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "scoring", str(records), "--model", str(model), "--guard", "instruct"),
        *("--taxonomy", "support-tickets", "--out", str(out), "--tolerance", "0.05", "--node-budget", "40", *more),
    ]


def in_a_process(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def here(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, which would import PyTorch again."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
        code = main([*arguments[3:]])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def score(records: Path, model: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return here(command(records, model, out, *more))


def test_writes_the_two_tables(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "scores.parquet"
    done = in_a_process(command(write_records(tmp_path / "r.jsonl"), model, out))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: 5 records × {len(ESTIMATOR_NAMES)} estimators × 13 labels\n"
    scores = read_frame(out, LabelScore, made_by="test")
    assert scores.height == 5 * len(ESTIMATOR_NAMES) * 13
    inside = scores.filter(pl.col("lower") <= pl.col("probability"), pl.col("probability") <= pl.col("upper"))
    assert inside.height == scores.height
    assert scores["lower"].min() >= 0 and scores["upper"].max() <= 1
    records = read_frame(tmp_path / "scores.records.parquet", ScoredRecord, made_by="test")
    assert records["record_id"].to_list() == ["r0", "r1", "r2", "r3", "r4"]
    assert records["error"].null_count() == 5
    assert set(records["stopped"]) <= {"tolerance", "node_budget", "exhausted"}
    assert {path.name for path in tmp_path.iterdir()} >= {"scores.parquet", "scores.records.parquet"}
    assert not list(tmp_path.glob("*.jsonl.*")) and not (tmp_path / "scores.journal.jsonl").exists()


def test_only_the_estimators_asked_for(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "s.parquet"
    done = score(write_records(tmp_path / "r.jsonl", 2), model, out, "--estimator", "joint", "marginal")
    assert done.returncode == 0, done.stderr
    assert set(pl.read_parquet(out)["estimator"]) == {"joint", "marginal"}


def test_a_killed_job_goes_on_and_ends_with_the_same_tables(tmp_path: Path, model: Path) -> None:
    records = write_records(tmp_path / "r.jsonl", 16)
    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    assert score(records, model, whole, "--batch-records", "1").returncode == 0
    job = subprocess.Popen(
        command(records, model, resumed, "--batch-records", "1"), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    journal = tmp_path / "resumed.journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.wait()
    held = journal.read_bytes().count(b"\n")
    assert 0 < held < 16
    assert not resumed.exists()
    with journal.open("ab") as file:
        file.write(b'{"id": "r3", "torn')
    assert score(records, model, resumed, "--batch-records", "1").returncode == 0
    assert frame_hash(pl.read_parquet(whole)) == frame_hash(pl.read_parquet(resumed))
    times = ["seconds"]
    one, other = (pl.read_parquet(tmp_path / f"{name}.records.parquet") for name in ("whole", "resumed"))
    assert frame_hash(one, without=times) == frame_hash(other, without=times)


@pytest.mark.parametrize("record", [None, 3, ["two", "texts"], {"role": "user", "content": "x"}])
def test_score_refuses_what_is_not_a_record(model: Path, record: Any) -> None:
    from marginalia.scoring.scorer import Scorer

    scorer = Scorer.load(str(model), "instruct", taxonomy="support-tickets")
    with pytest.raises(InputError, match="score takes a text, or the messages of a conversation"):
        scorer.score(record)


def test_a_changed_record_is_scored_again(tmp_path: Path, model: Path) -> None:
    from marginalia.scoring.score_files import score_to_journal
    from marginalia.scoring.scorer import Scorer, Settings

    settings = Settings(tolerance=0.05, node_budget=40)
    scorer = Scorer.load(str(model), "instruct", taxonomy="support-tickets", settings=settings)
    first = [("a", [{"role": "user", "content": "one"}]), ("b", [{"role": "user", "content": "two"}])]
    journal = tmp_path / "j.jsonl"
    assert sorted(score_to_journal(scorer, first, journal)) == ["a", "b"]
    changed = [first[0], ("b", [{"role": "user", "content": "three"}])]
    list(score_to_journal(scorer, changed, journal))
    assert [json.loads(line)["id"] for line in journal.read_text().split("\n") if line].count("b") == 2
    assert [json.loads(line)["id"] for line in journal.read_text().split("\n") if line].count("a") == 1


def test_a_record_that_is_too_long_is_said_so_and_not_cut(tmp_path: Path) -> None:
    short = save(tmp_path / "short", 4, max_position_embeddings=4096)
    records = tmp_path / "r.jsonl"
    rows = [{"id": "ok", "text": "hello"}, {"id": "long", "text": "word " * 2000}]
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = score(records, short, tmp_path / "s.parquet")
    assert done.returncode == 1
    assert "1 record could not be scored, first 'long': too long: the prompt has " in done.stderr
    table = pl.read_parquet(tmp_path / "s.records.parquet")
    assert table.filter(pl.col("record_id") == "ok")["error"].item() is None
    assert set(pl.read_parquet(tmp_path / "s.parquet")["record_id"]) == {"ok"}


ERRORS = [
    (["--guard", "lama-guard-3"], "error: no guard 'lama-guard-3'; did you mean 'llama-guard-3'? (shipped: "),
    (
        ["--taxonomy", "support-ticket"],
        "error: no taxonomy 'support-ticket'; did you mean 'support-tickets'? (shipped: ",
    ),
    (
        ["--model", "no-such-folder"],
        "error: no model 'no-such-folder': no such folder (--model takes a folder",
    ),
    (
        ["--model", "owner/name"],
        "error: no folder 'owner/name', and a Hub model needs a pinned revision (set revision",
    ),
    (["--estimator", "marginals"], "error: --estimator: unknown estimator 'marginals'; did you mean 'marginal'?"),
    (["--out", "scores.csv"], "error: --out scores.csv: expected a name that ends in .parquet"),
]


@pytest.mark.parametrize(("more", "message"), ERRORS, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_wrong_options_say_what_to_do(tmp_path: Path, model: Path, more: list[str], message: str) -> None:
    done = score(write_records(tmp_path / "r.jsonl"), model, tmp_path / "s.parquet", *more)
    assert done.returncode == 2
    assert done.stderr.startswith(message), done.stderr


def test_nan_logits_become_an_error_and_no_number(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaForCausalLM

    folder = save(tmp_path / "nan", 4)
    network = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        network.model.norm.weight[0] = float("nan")
    network.save_pretrained(folder)
    done = score(write_records(tmp_path / "r.jsonl"), folder, tmp_path / "s.parquet")
    assert done.returncode == 3
    assert "returns NaN or infinite logits" in done.stderr
    assert not (tmp_path / "s.parquet").exists()


def test_help_is_quick_and_has_an_example() -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scoring", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert "example:\n  python -m marginalia.scoring records.jsonl" in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.split("\n")}
    assert not loaded & {"torch", "polars", "transformers", "numpy"}


def test_explain_prints_the_tree_of_one_record(tmp_path: Path, model: Path) -> None:
    records = write_records(tmp_path / "r.jsonl")
    options = ["--model", str(model), "--guard", "instruct", "--taxonomy", "support-tickets", "--tolerance", "0.05"]
    explain = [sys.executable, "-m", "scoring", "explain", str(records), *options, "--node-budget", "20"]
    done = here([*explain, "--id", "r1"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[0] == f"record r1, guard instruct, model {model}"
    tree = lines.index("1.0000  (prompt)")
    assert tree >= 2 and all("; the rest " in line or line.startswith("no label") for line in lines[1:tree])
    wrong = here([*explain, "--id", "r1x"])
    assert (wrong.returncode, wrong.stderr.startswith(f"error: {records}: no record 'r1x'; did you mean 'r1'?")) == (
        2,
        True,
    )


def test_baselines_are_computed_when_asked_for(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "s.parquet"
    asked = ["--estimator", "marginal", "max_over_steps", "monte_carlo", "--samples", "40"]
    done = score(write_records(tmp_path / "r.jsonl", 2), model, out, *asked)
    assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(out)
    assert set(rows["estimator"]) == {"marginal", "max_over_steps", "monte_carlo"}
    sampled = rows.filter(pl.col("estimator") == "monte_carlo").join(
        rows.filter(pl.col("estimator") == "marginal"), on=["record_id", "label"], suffix="_exact"
    )
    # the 95 % interval of 40 samples against certified bounds: all but a few of 26 must overlap
    apart = sampled.filter((pl.col("lower") > pl.col("upper_exact")) | (pl.col("upper") < pl.col("lower_exact")))
    assert apart.height <= 3


def test_guards_with_one_policy_a_call(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "s.parquet"
    records = write_records(tmp_path / "r.jsonl", 2)
    arguments = [sys.executable, "-m", "scoring", str(records), "--model", str(model), "--guard", "shieldgemma"]
    done = here([*arguments, "--out", str(out)])
    assert done.returncode == 0, done.stderr
    assert set(pl.read_parquet(out)["label"]) > {"unsafe"}
