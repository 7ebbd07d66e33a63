"""A server's refusals and failures: of one record, or of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.retries import RetryPolicy
from marginalia.scoring.scorer import Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import RECORDS, by_id

RARE = tiny.tokenizer()("z", add_special_tokens=False)["input_ids"][0]
SETTINGS = Settings(tolerance=0.1)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.scoring.models.endpoint_calls.POLICY", RetryPolicy(first_backoff=0.001))


@pytest.mark.parametrize("status", ["400", "403", "500", "reset", "truncated", "html"])
def test_what_fails_for_one_record_fails_alone(remote: Any, status: str) -> None:
    server, scorer = remote(SETTINGS, {"asked_ids": True, "poison": RARE, "poison_status": status}, retries=1)
    found = by_id(scorer.score_records([*RECORDS, ("bad", user("a zebra"))]))
    assert {name for name, result in found.items() if result.error} == {"bad"}
    assert found["bad"].error.startswith(f"{server.url}: ")
    if status in ("400", "403"):
        assert found["bad"].error == f"{server.url}: status {status}: content not allowed"


@pytest.mark.parametrize("status", ["400", "500"])
def test_many_bad_records_in_a_row(remote: Any, status: str) -> None:
    """The server still answers the others, so it is not down."""
    _, scorer = remote(SETTINGS, {"asked_ids": True, "poison": RARE, "poison_status": status}, retries=0, concurrency=4)
    bad = [(f"bad{n}", user(f"zebra and parcel {n}")) for n in range(24)]
    found = by_id(scorer.score_records([*RECORDS[:2], *bad, ("last", user("my parcel is late, where is it?"))]))
    assert {name for name, result in found.items() if result.error is None} == {"r0", "r1", "last"}


@pytest.mark.parametrize(("status", "code"), [("400", "status 400"), ("500", "status 500")])
def test_a_server_that_answers_no_record_ends_the_run(remote: Any, status: str, code: str) -> None:
    _, scorer = remote(SETTINGS, {"asked_ids": True, "poison": RARE, "poison_status": status}, retries=0)
    with pytest.raises(ServiceError, match=rf"no answer for \d+ records in a row; the last: .*{code}"):
        list(scorer.score_records([(f"bad{n}", user(f"zebra {n}")) for n in range(12)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"key": "another"}, "status 401"), ({"models": ("another",)}, "status 404"), ({"redirect": "http://x"}, "307")],
)
def test_a_refusal_of_everything_ends_the_run(remote: Any, change: dict[str, Any], message: str) -> None:
    server, scorer = remote(SETTINGS, {"asked_ids": True})
    assert by_id(scorer.score_records(RECORDS[:1]))["r0"].error is None
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(ServiceError, match=rf"{message}.*refuses a request of the kind that it accepted before"):
        list(scorer.score_records(RECORDS[1:]))


def test_an_answer_that_cannot_be_read_fails_its_record(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scorer = remote(SETTINGS, {"asked_ids": True}, concurrency=1)
    normal = type(scorer.model).prompt

    def failing(model: Any, ids: list[int]) -> Any:
        if RARE in ids:
            raise OverflowError("no text")
        return normal(model, ids)

    monkeypatch.setattr(type(scorer.model), "prompt", failing)
    found = by_id(scorer.score_records([*RECORDS, ("bad", user("a zebra"))]))
    assert {name: result.error for name, result in found.items() if result.error} == {
        "bad": "its prompt cannot be written as text: OverflowError: no text"
    }


def test_a_guard_file_is_checked_over_an_endpoint(folder: Path, network: Any) -> None:
    with LogprobServer(network, tiny.tokenizer()) as server:
        words = [str(folder / "guard.yaml"), "--model", server.url, "--tokenizer", str(folder / "model")]
        done = CliRunner().invoke(app, ["guards", "check", *words])
    assert done.exit_code in (0, 1), done.stderr
    assert "prompt of record 'plain 1': " in done.stdout
    assert "  S1 begins S10: it counts when a separator or the end follows" in done.stdout
    assert done.stdout.count("of the probability stays in the format") == 5
