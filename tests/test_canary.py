"""Keys are never written or printed: every stage runs against servers that refuse, fail or repeat all headers; then
all files and output are searched for the keys. And no key is sent by a proxy, unencrypted or to a redirect's target."""

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

from marginalia.annotation.client import connection
from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.release import hub_repository
from marginalia.schemas.errors import InputError
from marginalia.schemas.hub_client import check_downloads
from marginalia.schemas.retries import RetryPolicy
from tests.pipeline.release.labelled_run import make_run
from tests.scoring.tiny import save

KEYS = {
    "OPENAI_API_KEY": "sk-canary-0123456789abcdef",
    "ARGILLA_API_KEY": "argilla.canary.0123456789",
    "HF_TOKEN": "hf_canary0123456789abcdefghijklmnopqr",
}
EXPECTED = {"status": (0,), "verify": (2,), "generate": (1, 3)}  # exit codes; of all others 3: a server failed
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
    """A valid answer whose text repeats the key."""
    choice = {"message": {"role": "assistant", "content": f"My parcel is late, {heard}"}, "finish_reason": "stop"}
    card = {"data": [{"id": heard}]}
    return 200, "application/json", json.dumps({"choices": [choice], "model": heard, **card}).encode()


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@contextmanager
def eavesdropper() -> Iterator[list[str]]:
    """Sets a proxy in the environment; gives a list of the headers that it receives."""
    heard: list[str] = []

    def listen(headers: str) -> tuple[int, str, bytes]:
        heard.append(headers)
        return 502, "text/plain", b"no way out"

    with pytest.MonkeyPatch.context() as patch, parrot(listen) as url:
        patch.delenv("NO_PROXY", raising=False)
        patch.delenv("no_proxy", raising=False)
        for name in PROXIES:
            patch.setenv(name, url)
        yield heard


@contextmanager
def parrot(reply: Reply) -> Iterator[str]:
    """The address of a server that answers each request with `reply(its headers)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, body = reply(" ".join(f"{name}: {value}" for name, value in self.headers.items()))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", kind)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_CONNECT = do_GET

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
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    monkeypatch.setattr(connection, "RETRIES", 0)
    monkeypatch.setattr(hub_repository, "PAUSE", 0.01)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("marginalia.pipeline.generation.endpoint.llm_endpoint.POLICY", RetryPolicy(first_backoff=0.01))
    monkeypatch.setattr("marginalia.scoring.models.endpoint_calls.POLICY", RetryPolicy(first_backoff=0.01))


def run_of(folder: Path, url: str, model: Path, *, more: str = "") -> Run:
    """A labelled run with its release, whose servers are all at `url`. `more` is added to each server's section."""
    run = make_run(folder, config="plan: {records: 12, min_per_label: 0}\n")
    text = (run.folder / "config.yaml").read_text(encoding="utf-8").partition("score:")[0]
    text += "plan: {records: 12, min_per_label: 0}\n" + config(url, model)
    if more:
        for before in ("api_key_env: OPENAI_API_KEY", "api_key_env: ARGILLA_API_KEY", "license: cc-by-4.0"):
            text = text.replace(before, f"{before}, {more}")
    (run.folder / "config.yaml").write_text(text)
    run = open_run(run.folder)
    run_stage(load_stage("plan"), run)
    run_stage(load_stage("release"), run)
    return run


def command(run: Run, words: str) -> tuple[int, str]:
    """Exit code, and everything printed."""
    name, *more = words.split()
    done = CliRunner().invoke(app, [name, "--run", str(run.folder), *more])
    return done.exit_code, done.stdout + done.stderr + "".join(traceback.format_exception(done.exception))


@pytest.mark.parametrize("reply", [refusal, failure, page, wrong_json, chat])
def test_no_key_is_written_or_printed(tmp_path: Path, model: Path, reply: Reply) -> None:
    printed = ""
    with parrot(reply) as url, eavesdropper() as heard:
        run = run_of(tmp_path, url, model)
        for words in ("publish --push", "push", "score", "generate", "status", "verify"):
            code, output = command(run, words)
            printed += output
            assert code in EXPECTED.get(words.split()[0], (3,)), output[-3000:]
    assert heard == [], "loopback was reached through a proxy"
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert {"log.jsonl", "responses.jsonl", "config.yaml"} <= {path.name for path in files}
    for name, key in KEYS.items():
        secret = key.partition("canary")[2]
        assert secret not in printed, name
        assert [path for path in files if secret.encode() in path.read_bytes()] == [], name


SENDING = ["publish --push", "push", "score", "generate"]


@pytest.mark.parametrize("words", SENDING)
def test_no_key_is_sent_unencrypted_to_another_machine(tmp_path: Path, model: Path, words: str) -> None:
    with eavesdropper() as heard:
        code, output = command(run_of(tmp_path, "http://nowhere.invalid", model), words)
    assert code == 2 and heard == [], output[-3000:]
    assert "http://nowhere.invalid" in output
    assert "a key is not sent over plain http to another machine" in output
    assert "allow_http: true" in output and "--allow-http" not in output


@pytest.mark.parametrize("words", SENDING)
def test_a_key_is_sent_unencrypted_if_the_config_allows_it_and_the_user_approves(
    tmp_path: Path, model: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARGINALIA_APPROVE_KEY_HOST", "http://nowhere.invalid")
    with eavesdropper() as heard:
        code, output = command(run_of(tmp_path, "http://nowhere.invalid", model, more="allow_http: true"), words)
    assert code == 3, output[-3000:]
    assert any("canary" in line for line in heard)


@pytest.mark.parametrize("words", SENDING)
def test_no_redirect_to_another_server_is_followed(tmp_path: Path, model: Path, words: str) -> None:
    heard: list[str] = []

    def listen(headers: str) -> tuple[int, str, bytes]:
        heard.append(headers)
        return chat(headers)

    with parrot(listen) as other:
        elsewhere = other.replace("127.0.0.1", "localhost") + "/v1/other"
        with parrot(lambda headers: (307, elsewhere, b"")) as url:
            code, output = command(run_of(tmp_path, url, model), words)
    assert code == 3 and heard == [], output[-3000:]
    assert "localhost" in output or "another address" in output


def test_our_own_argilla_is_never_reached_through_a_proxy() -> None:
    """Started for a team, it listens on the machine's network address, which is not a loopback address."""
    answer = (200, "application/json", json.dumps({"role": "owner", "username": "o"}).encode())
    with eavesdropper() as heard, parrot(lambda headers: answer) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr("marginalia.schemas.server_addresses.is_loopback", lambda url: False)
        with connection.Connection(url, KEYS["ARGILLA_API_KEY"], key_hint="", is_local=True) as client:
            assert client.role == "owner"
    assert heard == []


def test_downloads_carry_no_token_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, get_session

    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    with pytest.raises(InputError, match="a key is not sent over plain http"):
        check_downloads()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)  # is restored after the test
    check_downloads()
    with eavesdropper() as heard, parrot(chat) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        check_downloads()
        assert get_session().get(f"{url}/api").status_code == 200
    assert heard == []
