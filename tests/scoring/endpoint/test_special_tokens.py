"""Guards that answer with special tokens, behind servers that name these in different ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import AddedToken
from transformers import LlamaForCausalLM

from marginalia.scoring.scorer import Result, Scorer, Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import EXACT, RECORDS, connect

SPECIALS = ("<SAFE>", "<UNSAFE-A>", "<UNSAFE-B>")
ANSWER = [
    [{"token": "<SAFE>"}],
    [{"token": "<UNSAFE-A>", "rows": ["l0", "unsafe"]}],
    [{"token": "<UNSAFE-B>", "rows": ["l1", "unsafe"]}],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose special tokens are probable."""
    made = tmp_path_factory.mktemp("special")
    fast = tiny.tokenizer()
    fast.add_tokens([AddedToken(text, special=True) for text in SPECIALS], special_tokens=True)
    network = tiny.model(1, vocab_size=len(fast), sharpness=0.3)
    with torch.no_grad():
        network.lm_head.weight[tiny.END + 2 :] *= 12
    network.save_pretrained(made / "model")
    fast.save_pretrained(made / "model")
    labels = [{"id": name, "name": name, "definition": "x"} for name in ("l0", "l1")]
    taxonomy = {"id": "tiny", "version": "1", "title": "Tiny", "subject": "texts", "labels": labels}
    guard = {
        "guard": "tiny",
        "title": "Tiny",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": {"l0": "A", "l1": "B"},
        "prompt": {"message": "{{ conversation[0].content }}"},
        "answer": ANSWER,
    }
    (made / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    (made / "guard.yaml").write_text(yaml.safe_dump(guard))
    return made


@pytest.fixture(scope="module")
def local(folder: Path) -> Result:
    scorer = Scorer.load(str(folder / "model"), str(folder / "guard.yaml"), settings=EXACT)
    (result,) = scorer.score_records(RECORDS[:1])
    return result


@pytest.fixture
def scored(folder: Path) -> Iterator[Any]:
    models: list[Any] = []

    def score(settings: Settings, options: dict[str, Any], **endpoint: Any) -> Result:
        from transformers import AutoTokenizer

        network = LlamaForCausalLM.from_pretrained(folder / "model").eval()
        served = AutoTokenizer.from_pretrained(folder / "model")
        served.add_special_tokens({"additional_special_tokens": list(SPECIALS)})
        with LogprobServer(network, served, **options) as server:
            scorer = connect(folder, server, settings, models, **endpoint)
            (result,) = scorer.score_records(RECORDS[:1])
        return result

    yield score
    for model in models:
        model.caller.close()


@pytest.mark.parametrize(
    "options",
    [
        {"max_logprobs": 10**6},
        {"asked_ids": True},
        {"form": "llama.cpp", "max_logprobs": 10**6},
        {"token_ids": False, "max_logprobs": 10**6},
    ],
    ids=["ids", "ids asked for", "ids and texts", "texts"],
)
def test_servers_that_name_special_tokens(scored: Any, local: Result, options: dict[str, Any]) -> None:
    assert str(local.answer).startswith(SPECIALS) and 0.05 < local.estimates["marginal"].probability[-1] < 1
    found = scored(EXACT, options, top_logprobs=tiny.END + 5 if "max_logprobs" in options else 20)
    assert found.answer == local.answer
    for name, wanted in local.estimates.items():
        assert found.estimates[name].lower == pytest.approx(wanted.probability, abs=2e-3), name
        assert (found.estimates[name].upper >= wanted.probability - 1e-5).all(), name


@pytest.mark.parametrize("special", ["empty", "absent"])
def test_servers_that_hide_special_tokens(scored: Any, special: str) -> None:
    found = scored(EXACT, {"token_ids": False, "special": special})
    assert found.error is not None
    assert found.error.startswith("the endpoint returns no probability for the special token <")
