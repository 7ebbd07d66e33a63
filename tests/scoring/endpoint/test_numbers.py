"""Numbers of a model behind an OpenAI-compatible server, against the same model on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.score_request import ESTIMATOR_NAMES
from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import EXACT, FINE, HOSTILE, RECORDS, VOCABULARY, by_id, connect


def test_the_guard_keeps_its_format(truth: dict[str, Result]) -> None:
    assert max(found.off_language or 0 for found in truth.values()) < 0.2
    assert 0.2 < truth["r0"].estimates["marginal"].probability[-1] < 0.8


@pytest.mark.parametrize(
    ("server", "options"),
    [
        ({"max_logprobs": 10**6}, {"top_logprobs": VOCABULARY}),
        ({"max_logprobs": 10**6, "form": "llama.cpp"}, {"top_logprobs": VOCABULARY}),
        ({"asked_ids": True}, {}),
    ],
    ids=["whole vocabulary", "llama.cpp", "just the ids asked for"],
)
def test_all_that_matters_told_gives_the_local_numbers(
    remote: Any, folder: Path, server: dict[str, Any], options: dict[str, Any]
) -> None:
    _, scorer = remote(FINE, server, **options)
    local = Scorer.load(str(folder / "model"), str(folder / "guard.yaml"), settings=FINE)
    records = [RECORDS[1], HOSTILE]
    expected = by_id(local.score_records(records))
    for record_id, found in by_id(scorer.score_records(records)).items():
        wanted = expected[record_id]
        for name in ESTIMATOR_NAMES:
            for bound in ("probability", "lower", "upper"):
                there, here = getattr(found.estimates[name], bound), getattr(wanted.estimates[name], bound)
                assert there == pytest.approx(here, abs=1e-5), name
        assert (found.answer, found.stopped, found.nodes) == (wanted.answer, wanted.stopped, wanted.nodes)
        assert found.off_language == pytest.approx(wanted.off_language, abs=1e-5)


@pytest.mark.parametrize(
    "server", [{}, {"form": "llama.cpp"}, {"token_ids": False}, {"strict": True}], ids=lambda server: str(server)
)
def test_the_top_few_give_true_and_wider_bounds(remote: Any, truth: dict[str, Result], server: dict[str, Any]) -> None:
    widths = []
    for top in (8, 2):
        _, scorer = remote(EXACT, server, top_logprobs=top)
        found = next(iter(scorer.score_records([RECORDS[0]])))
        assert found.error is None
        for name in ESTIMATOR_NAMES:
            wanted, bounds = truth["r0"].estimates[name].probability, found.estimates[name]
            assert (bounds.lower <= wanted + 1e-5).all(), name
            assert (bounds.upper >= wanted - 1e-5).all(), name
        widths.append(max((found.estimates[name].upper - found.estimates[name].lower).max() for name in MARGINALS))
    assert 1e-4 < widths[0] < widths[1]


def test_fewer_tokens_told_than_asked_for(remote: Any, truth: dict[str, Result]) -> None:
    """What is missing from the answer counts as open, also what the top k that was asked for would have held."""
    widths = []
    for tells in (8, 3, 1):
        _, scorer = remote(EXACT, {"tells": tells}, top_logprobs=20)
        (found,) = scorer.score_records([RECORDS[0]])
        for name in ESTIMATOR_NAMES:
            wanted, bounds = truth["r0"].estimates[name].probability, found.estimates[name]
            assert (bounds.lower <= wanted + 1e-5).all(), name
            assert (bounds.upper >= wanted - 1e-5).all(), name
        widths.append(max((found.estimates[name].upper - found.estimates[name].lower).max() for name in MARGINALS))
    assert widths == sorted(widths)


@pytest.mark.parametrize("form", [{}, {"form": "llama.cpp"}, {"token_ids": False}], ids=str)
def test_tokens_of_equal_probability(folder: Path, form: dict[str, Any]) -> None:
    """Three tokens share the place of the last one told: which of them is told says nothing of the others."""
    network = LlamaForCausalLM.from_pretrained(folder / "model").eval()
    ids = tiny.tokenizer().convert_tokens_to_ids(["s", "u", "x"])
    with torch.no_grad():
        network.lm_head.weight[ids] = network.lm_head.weight[ids[0]].clone()
    network.save_pretrained(folder / "ties")
    tiny.tokenizer().save_pretrained(folder / "ties")
    local = Scorer.load(str(folder / "ties"), str(folder / "guard.yaml"), settings=EXACT)
    (wanted,) = local.score_records([RECORDS[0]])
    for top in (1, 2, 3):
        models: list[Any] = []
        with LogprobServer(network, tiny.tokenizer(), **form) as server:
            (found,) = connect(folder, server, EXACT, models, top_logprobs=top).score_records([RECORDS[0]])
            models[0].caller.close()
        for name in MARGINALS:
            bounds = found.estimates[name]
            assert (bounds.lower <= wanted.estimates[name].probability + 1e-5).all(), name
            assert (bounds.upper >= wanted.estimates[name].probability - 1e-5).all(), name


def test_log_probabilities_after_a_temperature_are_noticed(remote: Any) -> None:
    _, scorer = remote(FINE, {"scale": 0.05})
    (found,) = scorer.score_records([RECORDS[0]])
    assert "probabilities add up to" in (found.error or "") and "--logprobs-mode raw_logprobs" in (found.error or "")


def test_a_server_that_takes_text_only(remote: Any, truth: dict[str, Result]) -> None:
    """Answers in tokens that their text would not be read as stay open; control tokens in a record refuse it."""
    server, scorer = remote(EXACT, {"prompt_ids": False})
    found = by_id(scorer.score_records([RECORDS[0], HOSTILE]))
    marginal, wanted = found["r0"].estimates["marginal"], truth["r0"].estimates["marginal"].probability
    assert (marginal.lower <= wanted + 1e-5).all() and (marginal.upper >= wanted - 1e-5).all()
    assert found["bad"].error is not None and "the text of a control token" in found["bad"].error
    assert not found["bad"].estimates
    assert not any("well" in body["prompt"] for body in server.requests)


def test_a_hostile_record_cannot_alter_the_prompt(remote: Any) -> None:
    server, scorer = remote(FINE, {"asked_ids": True})
    (found,) = scorer.score_records([HOSTILE])
    assert found.imitations == 3
    start = tiny.tokenizer().convert_tokens_to_ids("<|start|>")
    prompts = [body["prompt"] for body in server.requests if start in body["prompt"]]
    assert prompts
    for prompt in prompts:
        assert (prompt.count(start), prompt.count(tiny.END)) == (2, 1)  # the template's own


def test_what_a_server_of_this_kind_is_noted_for(remote: Any) -> None:
    server, scorer = remote(Settings(tolerance=0.1), {"noise": -0.25, "latency": 0.01})
    list(scorer.score_records(RECORDS))
    assert scorer.model.revision == (
        "tiny-guard at an endpoint (vllm, BaseHTTP/0.6 Python/3.11.7, vllm-0.32.0-tests)".replace(
            "3.11.7", sys.version.split()[0]
        )
    )
    assert scorer.model.context == server.max_model_len
    assert scorer.model.spread == pytest.approx(0.25, abs=1e-4)
    assert "vary with its batching (up to 0.25 nats" in scorer.model.notes[0]
    assert "the mass of the others counts as open" in scorer.model.notes[1]


def test_many_requests_are_in_flight_and_no_more_than_allowed(remote: Any) -> None:
    server, scorer = remote(Settings(tolerance=0.1), {"asked_ids": True, "latency": 0.02}, concurrency=6)
    list(scorer.score_records(RECORDS))
    assert 4 <= server.most_in_flight <= 6
