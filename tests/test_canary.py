"""No key leaves the environment: every stage against servers that refuse, break and repeat every header they were sent;
then each byte that was written or said is searched for the keys."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotation.client import connection
from pipeline.cli import app
from pipeline.line import load_stage
from pipeline.release import hub
from pipeline.run import open_run
from pipeline.stage import run_stage
from tests.pipeline.release.labelled_run import make_run
from tests.scoring.tiny import save

KEYS = {
    "OPENAI_API_KEY": "sk-canary-0123456789abcdef",
    "ARGILLA_API_KEY": "argilla.canary.0123456789",
    "HF_TOKEN": "hf_canary0123456789abcdefghijklmnopqr",
}
EXPECTED = {"status": (0,), "verify": (2,), "generate": (1, 3)}  # exit codes; of all others 3, a server failed
Reply = Callable[[str], tuple[int, str, bytes]]


def refusal(heard: str) -> tuple[int, str, bytes]:
    return (
        401,
        "application/json",
        json.dumps({"error": {"message": f"wrong key in {heard}"}, "detail": heard}).encode(),
    )


def failure(heard: str) -> tuple[int, str, bytes]:
    return 500, "text/plain", f"cannot serve {heard}".encode()


def page(heard: str) -> tuple[int, str, bytes]:
    return 200, "text/html", f"<html>you said {heard}</html>".encode()


def wrong_json(heard: str) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps({"object": heard, "heard": [heard]}).encode()


def chat(heard: str) -> tuple[int, str, bytes]:
    """An answer as it should be, whose text repeats the key."""
    choice = {"message": {"role": "assistant", "content": f"My parcel is late, {heard}"}, "finish_reason": "stop"}
    card = {"data": [{"id": heard}]}
    return 200, "application/json", json.dumps({"choices": [choice], "model": heard, **card}).encode()


@contextmanager
def parrot(reply: Reply) -> Iterator[str]:
    """The address of a server that answers everything with `reply` to the headers it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, body = reply(" ".join(f"{name}: {value}" for name, value in self.headers.items()))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def config(url: str, model: Path) -> str:
    return f"""\
generate: {{endpoint: {{base_url: '{url}/v1', model: m, api_key_env: OPENAI_API_KEY}}, retries: 1, timeout_seconds: 5}}
annotation: {{url: '{url}', api_key_env: ARGILLA_API_KEY}}
release: {{repo_id: lab/tickets, license: cc-by-4.0, endpoint: '{url}', timeout: 5}}
score:
  guards:
  - {{name: policy-guard, guard: instruct, model: '{url}/v1', tokenizer: '{model}', endpoint_model: m,
      api_key_env: OPENAI_API_KEY, retries: 1, timeout_seconds: 5}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(connection, "PAUSES", ())
    monkeypatch.setattr(hub, "PAUSE", 0.01)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("pipeline.generation.endpoint._FIRST_BACKOFF", 0.01)
    monkeypatch.setattr("scoring.models.calls._FIRST_BACKOFF", 0.01)


@pytest.mark.parametrize("reply", [refusal, failure, page, wrong_json, chat])
def test_no_key_is_written_or_said(tmp_path: Path, model: Path, reply: Reply) -> None:
    told = ""
    with parrot(reply) as url:
        run = make_run(tmp_path, config="plan: {records: 12, min_per_label: 0}\n")
        text = (run.folder / "config.yaml").read_text(encoding="utf-8").partition("score:")[0]
        (run.folder / "config.yaml").write_text(text + "plan: {records: 12, min_per_label: 0}\n" + config(url, model))
        run = open_run(run.folder)
        run_stage(load_stage("plan"), run)
        run_stage(load_stage("release"), run)
        for command in ("publish --push", "push", "score", "generate", "status", "verify"):
            name, *more = command.split()
            done = CliRunner().invoke(app, [name, "--run", str(run.folder), *more])
            told += done.stdout + done.stderr + "".join(traceback.format_exception(done.exception))
            assert done.exit_code in EXPECTED.get(name, (3,)), told[-3000:]
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert {"log.jsonl", "responses.jsonl", "config.yaml"} <= {path.name for path in files}
    for name, key in KEYS.items():
        secret = key.partition("canary")[2]
        assert secret not in told, name
        assert [path for path in files if secret.encode() in path.read_bytes()] == [], name
