from __future__ import annotations

import json
from pathlib import Path

import httpx
import psutil
import pytest

from marginalia.annotation.server.server_control import RunningServer, accounts, add_annotators
from marginalia.annotation.server.server_home import CREDENTIALS, read_credentials, write_credentials
from marginalia.schemas.errors import InputError, ServiceError
from tests.annotation.server.rest import post


def log_in(server: RunningServer, username: str, password: str) -> int:
    return httpx.post(
        f"{server.url}/api/v1/token", data={"username": username, "password": password}, trust_env=False
    ).status_code


def test_accounts_log_in_with_their_passwords(
    argilla_home: Path, argilla_server: RunningServer, ann: httpx.Client
) -> None:
    of_all = accounts(argilla_home)
    assert [account.role for account in of_all[:2]] == ["owner", "annotator"]
    assert {log_in(argilla_server, account.username, account.password) for account in of_all[:2]} == {201}
    assert log_in(argilla_server, "ann", "wrong password") == 401


def test_adding_annotators_again_changes_nothing(argilla_home: Path, ann: httpx.Client) -> None:
    before = (argilla_home / CREDENTIALS).read_bytes()
    again = add_annotators(argilla_home, ["ben", "ann", "ben"], "team")
    assert [account.username for account in again] == ["ben", "ann", "ben"]
    assert (argilla_home / CREDENTIALS).read_bytes() == before


def test_an_annotator_joins_a_second_workspace(argilla_home: Path, clients: dict[str, httpx.Client]) -> None:
    add_annotators(argilla_home, ["ann"], "second")
    of_ann = {workspace["name"] for workspace in clients["ann"].get("/me/workspaces").json()["items"]}
    assert of_ann >= {"team", "second"}


def test_an_account_saved_before_it_was_created_on_the_server_is_created_with_its_password(
    argilla_home: Path, argilla_server: RunningServer, ann: httpx.Client
) -> None:
    """As after a kill between the two."""
    add_annotators(argilla_home, ["interrupted"], "team")
    credentials = read_credentials(argilla_home)
    made = credentials.account("interrupted")
    assert made is not None
    write_credentials(argilla_home, credentials.with_account(type(made)("late", "annotator", "password-1", "")))
    assert "late" not in [account.username for account in accounts(argilla_home)]
    late = add_annotators(argilla_home, ["late"], "team")[0]
    assert late.password == "password-1"
    assert log_in(argilla_server, "late", "password-1") == 201


@pytest.mark.parametrize("name", ["", "a b", "../x", "owner", "ann\n", "é" * 3, "x" * 65])
def test_an_invalid_username_is_refused(argilla_home: Path, ann: httpx.Client, name: str) -> None:
    with pytest.raises(InputError, match=r"is not a valid username: 1 to 64|is the owner's account"):
        add_annotators(argilla_home, [name], "team")


def test_an_account_that_marginalia_did_not_create_is_refused(argilla_home: Path, owner: httpx.Client) -> None:
    post(owner, "/users", {"username": "stranger", "first_name": "s", "password": "12345678", "role": "annotator"})
    with pytest.raises(InputError, match="its password is unknown"):
        add_annotators(argilla_home, ["stranger"], "team")


def test_a_refusal_of_the_server_does_not_repeat_what_was_sent(argilla_home: Path, ann: httpx.Client) -> None:
    with pytest.raises(ServiceError, match=r"refused POST /workspaces: HTTP 422"):
        add_annotators(argilla_home, ["ann"], "")


def test_without_a_server_nobody_can_be_added(tmp_path: Path, argilla_home: Path, ann: httpx.Client) -> None:
    (tmp_path / CREDENTIALS).write_bytes((argilla_home / CREDENTIALS).read_bytes())
    with pytest.raises(ServiceError, match="marginalia argilla up --run"):
        add_annotators(tmp_path, ["ann"], "team")


def test_home_and_its_secrets_are_private(argilla_home: Path, ann: httpx.Client) -> None:
    assert argilla_home.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in argilla_home.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}, modes


def test_no_secret_is_logged_or_in_the_command_line(argilla_home: Path, argilla_server: RunningServer) -> None:
    content = json.loads((argilla_home / CREDENTIALS).read_bytes())
    secrets = [content["auth_secret_key"], *(a[key] for a in content["accounts"] for key in ("password", "api_key"))]
    process = Path(f"/proc/{argilla_server.pid}")
    seen = "".join(
        path.read_text(errors="replace")
        for path in (argilla_home / "server.log", process / "cmdline", process / "environ")
    )
    assert not [secret for secret in secrets if secret in seen]
    assert content["auth_secret_key"] not in repr(read_credentials(argilla_home))


def test_damaged_credentials_are_named_without_their_content(tmp_path: Path) -> None:
    (tmp_path / CREDENTIALS).write_text('{"auth_secret_key": "hush", "accounts": [')
    with pytest.raises(InputError, match=r"credentials\.json: damaged") as raised:
        accounts(tmp_path)
    assert "hush" not in str(raised.value)


def test_it_listens_on_the_loopback_only_and_every_password_is_random(
    argilla_home: Path, argilla_server: RunningServer, ann: httpx.Client
) -> None:
    family = [psutil.Process(argilla_server.pid), *psutil.Process(argilla_server.pid).children(recursive=True)]
    sockets = [
        socket for process in family for socket in process.net_connections("all") if socket.status == psutil.CONN_LISTEN
    ]
    assert [socket.laddr.ip for socket in sockets if isinstance(socket.laddr, tuple)] == ["127.0.0.1"]
    made = accounts(argilla_home)
    for secrets in ([account.password for account in made], [account.api_key for account in made]):
        given = [secret for secret in secrets if secret and secret != "password-1"]  # one that a test chose itself
        assert len(set(given)) == len(given) >= 2
        assert all(len(secret) >= 16 and len(set(secret)) > 5 for secret in given)
