"""Attack: somebody else's run names a key of ours and a server of theirs. No key is sent to a server for the first time
without the user's approval, and the token stored by `hf auth login` goes to the official Hub only."""

from __future__ import annotations

import io
import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from marginalia.annotation.client import connection
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.release.publish_stage import stage as publish_stage
from marginalia.schemas import key_approval
from marginalia.schemas.errors import InputError
from marginalia.schemas.hub_client import check_downloads
from marginalia.schemas.key_approval import approvals_path, approve_hosts, check_key_approved, key_host
from marginalia.scoring.engines.start_engine import approve_endpoint_key
from marginalia.scoring.score_request import GuardModel
from tests.hub_server import HubServer
from tests.pipeline.release.labelled_run import make_run
from tests.scoring.tiny import save
from tests.test_canary import eavesdropper, parrot, refusal

ROOT = Path(__file__).resolve().parents[2]
SECRET = "aws-secret-canary-0123456789"
STORED = "hf_storedTokenOnDisk0123456789abcdefg"
THEIRS = "collector.invalid"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    token = tmp_path / "stored-token"
    token.write_text(STORED)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(token))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", key_approval.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config home"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(key_approval, "_flagged", set())
    monkeypatch.setattr(connection, "RETRIES", 0)


def foreign_run(folder: Path, url: str = f"https://{THEIRS}") -> Path:
    """A run whose config sends AWS_SECRET_ACCESS_KEY to `url` at every stage."""
    key = "api_key_env: AWS_SECRET_ACCESS_KEY"
    run = make_run(folder, config="plan: {records: 12, min_per_label: 0}\n")
    model = save(folder / "model")
    text = (run.folder / "config.yaml").read_text(encoding="utf-8").partition("score:")[0]
    text += f"""\
plan: {{records: 12, min_per_label: 0}}
generate: {{endpoint: {{base_url: '{url}/v1', model: m, {key}}}, retries: 0, timeout_seconds: 2}}
annotation: {{url: '{url}', {key}}}
release: {{repo_id: lab/x, license: cc-by-4.0, endpoint: '{url}', token_env: AWS_SECRET_ACCESS_KEY, timeout: 2}}
score:
  guards:
  - {{name: g, guard: instruct, model: '{url}/v1', tokenizer: '{model}', endpoint_model: m, {key}, retries: 0}}
"""
    (run.folder / "config.yaml").write_text(text, encoding="utf-8")
    for name in ("plan", "release"):
        run_stage(load_stage(name), open_run(run.folder))
    return run.folder


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marginalia", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def invoke(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    """Exit code and messages of a command, as if started with `marginalia`."""
    from typer.testing import CliRunner

    from marginalia.pipeline.commands.cli import app

    monkeypatch.setattr(sys, "argv", ["/usr/bin/marginalia", *words])
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stderr


@pytest.mark.parametrize("words", ["generate", "preview", "score", "push", "publish --push"])
def test_a_new_server_gets_no_key_and_the_message_has_the_command_that_approves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    run = foreign_run(tmp_path / "their run")
    stage, *more = words.split()
    asked = [stage, "--run", str(run), *more]
    with eavesdropper() as heard:
        code, error = invoke(monkeypatch, *asked)
        assert (code, heard) == (2, []), error
        assert f"the key in the environment variable AWS_SECRET_ACCESS_KEY has never been sent to {THEIRS}" in error
        approving = shlex.join(["marginalia", *asked, "--approve-key-host", THEIRS])
        assert approving in error
        code, _ = invoke(monkeypatch, *shlex.split(approving)[1:])
        assert code == 3 and heard, "approved, it goes there"
        # remembered: the first command now works as it is
        monkeypatch.setattr(key_approval, "_flagged", set())
        heard.clear()
        code, _ = invoke(monkeypatch, *asked)
        assert code == 3 and heard


def test_pull_status_and_adjudicate_ask_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from marginalia.annotation.client.argilla_access import connect

    run = open_run(foreign_run(tmp_path / "run"))
    with eavesdropper() as heard, pytest.raises(InputError, match="has never been sent to"):
        connect(run.config.annotation, tmp_path)
    assert heard == []
    for name in ("pull", "status", "adjudicate", "audit", "import"):
        assert "--approve-key-host" in command(name, "--help").stdout


def test_the_scoring_command_asks_as_well(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text('{"id": "r1", "text": "hello"}\n')
    words = ["-m", "marginalia.scoring", str(records), "--model", f"https://{THEIRS}/v1", "--guard", "instruct"]
    words += ["--taxonomy", "support-tickets", "--tokenizer", "bundled", "--api-key-env", "AWS_SECRET_ACCESS_KEY"]
    words += ["--out", str(tmp_path / "scores.parquet")]
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    approving = shlex.join(["python", *words, "--approve-key-host", THEIRS])
    assert approving in done.stderr


def test_the_environment_variable_approves_for_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key_approval.VARIABLE, f"other.invalid, https://{THEIRS}/v1")
    check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}/v1")
    assert not approvals_path().exists()
    monkeypatch.delenv(key_approval.VARIABLE)
    with pytest.raises(InputError, match=f"export {key_approval.VARIABLE}={THEIRS}"):
        check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}/v1")


def test_an_approval_is_of_one_key_one_host_one_port_and_one_scheme() -> None:
    approve_hosts([THEIRS])
    check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}/v1")
    key_approval._flagged.clear()
    check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS.upper()}:443/v2")
    for variable, url in (
        ("OTHER_KEY", f"https://{THEIRS}"),
        ("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}:8443"),
        ("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}.example.org"),
        ("AWS_SECRET_ACCESS_KEY", f"http://{THEIRS}"),
    ):
        with pytest.raises(InputError, match="has never been sent to"):
            check_key_approved(variable, url, allow_http=True)


def test_approvals_are_in_a_file_that_only_the_user_can_read() -> None:
    approve_hosts([THEIRS])
    check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}/v1")
    path = approvals_path()
    assert json.loads(path.read_text()) == {"AWS_SECRET_ACCESS_KEY": [THEIRS]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "[]", '{"AWS_SECRET_ACCESS_KEY": "collector.invalid"}', '{"A": [1]}', "[" * 9999])
def test_a_damaged_file_of_approvals_approves_nothing(text: str) -> None:
    path = approvals_path()
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match="delete it and approve again"):
        check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}")


def test_an_approval_that_cannot_be_remembered_is_valid_for_this_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(key_approval, "approvals_path", lambda: tmp_path / "file2" / "approved.json")
    monkeypatch.setattr(key_approval.Path, "mkdir", _no_space)
    approve_hosts([THEIRS])
    check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}")
    assert "No space left on device; the approval is not remembered" in capsys.readouterr().err


def _no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("answer", "approved"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_in_a_terminal_the_user_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, approved: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    if approved:
        check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}")
    else:
        with pytest.raises(InputError, match="without your approval"):
            check_key_approved("AWS_SECRET_ACCESS_KEY", f"https://{THEIRS}")
    assert f"Send the key in the environment variable AWS_SECRET_ACCESS_KEY to {THEIRS}?" in capsys.readouterr().err
    assert approvals_path().exists() == approved


def test_nobody_is_asked_about_a_key_that_is_not_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    model = GuardModel(guard="instruct", model=f"https://{THEIRS}/v1", api_key_env="NO_SUCH_KEY")
    with pytest.raises(InputError, match="NO_SUCH_KEY, which should hold the endpoint's key, is not set"):
        approve_endpoint_key(model, allow_http="--allow-http")
    assert "Send the key" not in capsys.readouterr().err
    assert not approvals_path().exists()
    approve_endpoint_key(model, allow_http="--allow-http", is_read_here=False)  # Ray's actors read it on their machines
    assert "Send the key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("--allow-http", r"\(use https://, or add --allow-http if the network is your own\)"),
        (
            "score.guards.allow_http",
            r"\(use https://, or set score.guards.allow_http: true if the network is your own\)",
        ),
    ],
)
def test_plain_http_names_the_option_of_the_command(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    monkeypatch.setenv("THEIR_KEY", "sk-1234")
    model = GuardModel(guard="instruct", model=f"http://{THEIRS}/v1", api_key_env="THEIR_KEY")
    with pytest.raises(InputError, match=hint):
        approve_endpoint_key(model, allow_http=name)


def test_known_providers_and_this_machine_need_no_approval() -> None:
    check_key_approved("OPENAI_API_KEY", "https://api.openai.com/v1")
    check_key_approved("HF_TOKEN", "https://huggingface.co")
    check_key_approved("AWS_SECRET_ACCESS_KEY", "http://127.0.0.1:8000/v1")
    assert not approvals_path().exists()
    for variable, url in (
        ("AWS_SECRET_ACCESS_KEY", "https://api.openai.com/v1"),
        ("OPENAI_API_KEY", "https://api.openai.com.evil.invalid/v1"),
        ("OPENAI_API_KEY", "https://api.openai.com:8443/v1"),
        ("HF_TOKEN", "https://huggingface.co.invalid"),
    ):
        with pytest.raises(InputError, match="has never been sent to"):
            check_key_approved(variable, url)


@pytest.mark.parametrize(
    "url",
    ["https://аpi.openai.com/v1", "https://api.openai.com\u202e/v1", "https://a\\.api.openai.com", "https://[::1"],
)
def test_hosts_that_look_like_others_get_no_key(url: str) -> None:
    with pytest.raises(InputError) as caught:
        check_key_approved("OPENAI_API_KEY", url)
    assert str(caught.value).isascii()


def test_a_host_is_named_as_approvals_name_it() -> None:
    assert key_host("https://LLM.example.org:443/v1?x") == "llm.example.org"
    assert key_host("https://llm.example.org:8000") == "llm.example.org:8000"
    assert key_host("http://[2001:db8::1]:80/v1") == "http://[2001:db8::1]"


def test_the_stored_token_is_not_published_to_another_hub(tmp_path: Path) -> None:
    with parrot(refusal) as url, eavesdropper() as heard:
        run = make_run(tmp_path, config=f"release: {{repo_id: lab/x, license: cc-by-4.0, endpoint: '{url}'}}\n")
        run_stage(load_stage("release"), run)
        with pytest.raises(InputError, match="the token stored on this machine is not sent to"):
            run_stage(publish_stage(push=True), run)
    assert heard == []


@pytest.mark.parametrize("token", [None, "hf_fromTheEnvironment0123456789abcde"])
def test_another_hub_gets_the_token_of_the_environment_but_not_the_stored_one(
    monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with HubServer().running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        check_downloads()
        with pytest.raises(HfHubHTTPError):
            HfApi(endpoint=server.url).dataset_info("lab/tickets")
        assert server.authorizations == {f"Bearer {token}" if token else None}


def test_a_mirror_gets_no_token_without_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.invalid")
    monkeypatch.setenv("HF_TOKEN", "hf_fromTheEnvironment0123456789abcde")
    with pytest.raises(InputError, match="HF_TOKEN has never been sent to mirror"):
        check_downloads()
