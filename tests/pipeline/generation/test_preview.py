"""`marginalia preview` and `marginalia generate --budget` over a loopback endpoint."""

from __future__ import annotations

import json

import polars as pl
import pytest

from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.generate_stage import preview, with_budget
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.schemas.errors import InputError
from tests.openai_server import OpenAIServer
from tests.pipeline.generation.conftest import MakeRun
from tests.pipeline.test_cli import marginalia

ONE_A_TOKEN = {"prompt": 1_000_000.0, "completion": 1_000_000.0}


def test_what_preview_paid_for_is_not_paid_for_again(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        whole = make_run(server.url, name="whole")
        run_stage(PLAN, whole)
        run_stage(GENERATE, whole)
        run = make_run(server.url)
        run_stage(PLAN, run)
        assert preview(run, 5).result.asked_now == 5
        assert not run.path("prompts.parquet").exists()
        assert run_stage(GENERATE, run).manifest.facts["read from the journal"] == 5
        assert preview(run, 5).result.from_journal == 5
        assert server.calls == 24 + 24
    ids = [pl.read_parquet(folder.path("prompts.parquet"))["id"].to_list() for folder in (whole, run)]
    assert ids[0] == ids[1]


def test_preview_shows_slot_text_and_cost(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, prices=ONE_A_TOKEN)
        done = marginalia("preview", "--run", str(run.folder), "--records", "2")
    assert done.returncode == 0, done.stderr
    plan = pl.read_parquet(run.path("plan.parquet"))
    for slot in plan["slot_id"][:2]:
        assert f"{slot}: " in done.stdout
    assert done.stdout.count("  > The ") == 2
    answers = [json.loads(line) for line in run.path("responses.jsonl").read_bytes().splitlines()]
    cost = sum(answer["prompt_tokens"] + answer["completion_tokens"] for answer in answers)
    assert "2 of 2 accepted; 2 answers, 0 of them paid for earlier; " in done.stdout
    assert f"; {cost:,} tokens, cost {cost:.4f} USD; " in done.stdout
    assert f"all 24 slots at that rate: {12 * cost:.2f}" in done.stdout


def test_preview_says_why_a_slot_stayed_open(make_run: MakeRun) -> None:
    with OpenAIServer(answer=lambda _: "I'm sorry, but I can't help with that request.") as server:
        run = make_run(server.url, max_attempts=2)
        run_stage(PLAN, run)
        shown = str(preview(run, 1))
    assert "attempt 2 rejected: refused: " in shown
    assert "    no text\n" in shown


def test_a_budget_on_the_command_line_overrides_the_config(make_run: MakeRun) -> None:
    with OpenAIServer() as server:
        run = make_run(server.url, waves=1, max_tokens=64, prices=ONE_A_TOKEN)
        run_stage(PLAN, run)
        done = marginalia("generate", "--run", str(run.folder), "--budget", "2000")
        assert done.returncode == 1
        assert "planned texts were not requested: generate.budget 2000 USD is used up" in done.stderr
        spent = json.loads(run.path("manifests/generate.json").read_text())
        assert 0 < spent["cost"] <= 2000
        assert spent["facts"]["stopped early by"] == "budget"
        assert run_stage(GENERATE, run).manifest.counts_out["accepted"] == 24  # without it the rest is written
        assert server.calls == 24


def test_a_budget_without_prices_or_amount_is_refused(make_run: MakeRun) -> None:
    run = make_run("http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match=r"requires generate\.prices"):
        with_budget(run, 5.0)
    with pytest.raises(InputError, match="an amount above 0"):
        with_budget(run, 0.0)
