"""The demo's LLM endpoint over the real bundled model, and its sampling."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import psutil
import pytest
import torch

from marginalia.pipeline.generation.endpoint.batched_decoding import Sampling, sample
from marginalia.pipeline.generation.endpoint.bundled_llm_server import BundledServer, start
from marginalia.scoring.models.model_cache import model_cache

ROOT = Path(__file__).parents[3]


def _draws(logits: list[float], sampling: Sampling, count: int) -> Counter[int]:
    random = torch.Generator().manual_seed(sampling.seed or 0)
    rows = torch.tensor([logits])
    return Counter(sample(rows, [sampling], [random])[0] for _ in range(count))


def test_temperature_zero_takes_the_most_probable() -> None:
    assert _draws([0.0, 2.0, 1.0], Sampling(1, temperature=0.0), 5) == {1: 5}


def test_tokens_are_drawn_by_their_probability() -> None:
    # logits ln 1, ln 2, ln 5 at temperature 1: 1/8, 2/8, 5/8; three standard errors of 4,000 draws are 0.023
    counts = _draws([0.0, 0.6931, 1.6094], Sampling(1, seed=1), 4000)
    assert counts[0] / 4000 == pytest.approx(0.125, abs=0.023)
    assert counts[1] / 4000 == pytest.approx(0.25, abs=0.023)
    # at temperature 1/2 the weights are squared: 1/30, 4/30, 25/30
    assert _draws([0.0, 0.6931, 1.6094], Sampling(1, 0.5, 1.0, 1), 4000)[2] / 4000 == pytest.approx(0.8333, abs=0.023)


def test_the_nucleus_is_the_fewest_tokens_that_hold_top_p() -> None:
    logits = [0.0, 0.6931, 1.6094]  # 1/8, 2/8, 5/8
    assert set(_draws(logits, Sampling(1, 1.0, 0.62, 1), 300)) == {2}
    assert set(_draws(logits, Sampling(1, 1.0, 0.63, 1), 300)) == {1, 2}
    assert set(_draws(logits, Sampling(1, 1.0, 0.88, 1), 300)) == {0, 1, 2}


def test_a_flat_vocabulary_is_sampled_whole() -> None:
    # 1,000 equal tokens: the first look at the most probable ones does not hold the mass
    counts = _draws([0.0] * 1000, Sampling(1, seed=1), 3000)
    assert len(counts) > 900
    assert len(_draws([0.0] * 1000, Sampling(1, 1.0, 0.5, 1), 3000)) <= 501


def test_a_row_is_sampled_as_if_it_were_alone() -> None:
    rows = torch.randn(6, 500, generator=torch.Generator().manual_seed(3)) * 3
    settings = [Sampling(1, 0.7 + 0.1 * number, 0.9, number) for number in range(6)]

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(number) for number in range(6)]

    together = sample(rows, settings, generators())
    alone = [sample(rows[number : number + 1], [settings[number]], [generators()[number]])[0] for number in range(6)]
    assert together == alone


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundledServer]:
    with start(model_cache(), log=tmp_path_factory.mktemp("server") / "log") as running:
        yield running


def _payload(number: int, **changes: Any) -> dict[str, Any]:
    content = f"Write one message number {number} about a parcel{' that is late' * number}."
    return {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 12,
        "temperature": 1.0,
        "top_p": 0.95,
        "seed": number,
        **changes,
    }


def _complete(endpoint: BundledServer, *payloads: dict[str, Any]) -> list[str]:
    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=endpoint.url, api_key="none", max_retries=0) as client:
            answers = await asyncio.gather(*(client.chat.completions.create(**payload) for payload in payloads))
        return [answer.choices[0].message.content or "" for answer in answers]

    return asyncio.run(all_of_them())


@pytest.mark.slow
def test_an_answer_does_not_depend_on_its_company(endpoint: BundledServer) -> None:
    payloads = [_payload(number) for number in range(20)]
    together = _complete(endpoint, *payloads)
    assert len(set(together)) > 15
    assert list(reversed(_complete(endpoint, *reversed(payloads)))) == together
    assert [_complete(endpoint, payload)[0] for payload in payloads[:3]] == together[:3]
    assert _complete(endpoint, _payload(0, seed=99))[0] != together[0]


@pytest.mark.slow
def test_an_answer_tells_its_tokens_and_why_it_ended(endpoint: BundledServer) -> None:
    answer = httpx.post(f"{endpoint.url}/chat/completions", json=_payload(1, max_tokens=3), timeout=60).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + 3
    assert httpx.get(f"{endpoint.url}/models").json()["data"][0]["id"] == endpoint.model


@pytest.mark.slow
def test_it_listens_on_the_loopback_only(endpoint: BundledServer) -> None:
    port = urlsplit(endpoint.url).port
    sockets = [
        socket
        for process in psutil.Process().children(recursive=True)
        for socket in process.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN and socket.laddr.port == port
    ]
    assert [socket.laddr.ip for socket in sockets] == ["127.0.0.1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model": "other"}, 404, "model_not_found"),
        ({"max_tokens": 5000}, 400, "context_length_exceeded"),
        ({"messages": []}, 400, None),
        ({"temperature": -1}, 400, None),
        ({"stream": True}, 400, None),
    ],
)
def test_what_the_server_refuses(
    endpoint: BundledServer, changes: dict[str, Any], status: int, code: str | None
) -> None:
    answer = httpx.post(f"{endpoint.url}/chat/completions", json=_payload(1, **changes), timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


@pytest.mark.slow
def test_the_server_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from marginalia.pipeline.generation.endpoint.bundled_llm_server import start;"
        f"e = start(Path({str(model_cache())!r}), log=Path({str(tmp_path / 'log')!r}));"
        "print(e.url, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        url = parent.stdout.readline().strip()
    assert httpx.get(f"{url}/models").status_code == 200
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 60
    while _answers(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _answers(url)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
