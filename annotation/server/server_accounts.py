"""Annotators' accounts on a local server, created through its REST API and kept in `credentials.json`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from marginalia.annotation.server.server_home import (
    Account,
    Credentials,
    cli,
    generated_password,
    only_one,
    read_credentials,
    write_credentials,
)
from marginalia.annotation.server.server_process import RunningServer, status
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.http_client import ExchangeLimits, client

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIMITS = ExchangeLimits(seconds=60.0, body_bytes=64_000_000)


def accounts(home: Path) -> list[Account]:
    """All accounts that can log in, the owner first. Works also while the server is down."""
    return [account for account in read_credentials(home).accounts if account.api_key]


def add_annotators(home: Path, names: Sequence[str], workspace: str) -> list[Account]:
    """Creates accounts for `names` that may annotate in `workspace` (created if it does not exist), and returns them.

    An existing account keeps its password and is only added to the workspace, so that the call can be repeated, also
    after an interruption. Raises InputError for a name that is not valid or belongs to another account, ServiceError
    when the server is not running or refuses.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is not a valid username: 1 to 64 letters, digits, '.', '_' and '-', the first one a letter "
                "or digit"
            )
    with only_one(home):
        credentials = read_credentials(home)
        server = status(home)
        if server is None:
            raise ServiceError(f"the Argilla server of {home} is not running", hint=cli("up", home))
        with _Api(server, credentials.owner) as api:
            users = {user["username"]: user for user in api.call("GET", "/users")["items"]}
            workspace_id = _workspace(api, workspace)
            members = {user["id"] for user in api.call("GET", f"/workspaces/{workspace_id}/users")["items"]}
            for name in dict.fromkeys(names):
                credentials, user = _annotator(api, home, credentials, name, users.get(name))
                if user["id"] not in members:
                    api.call("POST", f"/workspaces/{workspace_id}/users", {"user_id": user["id"]})
        by_name = {account.username: account for account in credentials.accounts}
        return [by_name[name] for name in names]


class _Api:
    """The server's REST API, called as the owner; every error is a ServiceError."""

    def __init__(self, server: RunningServer, owner: Account) -> None:
        headers = {"X-Argilla-Api-Key": owner.api_key}
        self._client = client(_LIMITS, base_url=f"{server.url}/api/v1", headers=headers, proxies=False)

    def __enter__(self) -> _Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        """The JSON object that the server returns."""
        try:
            response = self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise ServiceError(f"the Argilla server does not answer {method} {path}: {error}") from error
        if response.is_error:
            # Only the status code: Argilla's validation errors repeat what was sent, passwords included.
            raise ServiceError(f"the Argilla server refused {method} {path}: HTTP {response.status_code}")
        try:
            content: dict[str, Any] = response.json()
        except (ValueError, RecursionError) as error:
            raise ServiceError(f"the Argilla server does not answer {method} {path} with JSON") from error
        return content


def _workspace(api: _Api, name: str) -> str:
    """The id of the workspace of this name, created if it does not exist."""
    for workspace in api.call("GET", "/me/workspaces")["items"]:
        if workspace["name"] == name:
            return str(workspace["id"])
    return str(api.call("POST", "/workspaces", {"name": name})["id"])


def _annotator(
    api: _Api, home: Path, credentials: Credentials, name: str, user: dict[str, Any] | None
) -> tuple[Credentials, dict[str, Any]]:
    """Make sure that the annotator exists on the server and in credentials.json; returns the credentials and the
    user."""
    account = credentials.account(name)
    if account is not None and account.role != "annotator":
        raise InputError(f"{name!r} is the {account.role}'s account, not an annotator's", hint="choose another name")
    if account is None:
        if user is not None:
            raise InputError(
                f"the server has an account {name!r} that Marginalia did not create: its password is unknown",
                hint="choose another name",
            )
        # Saved before the account is created: a password lost in between would lock the annotator out.
        account = Account(name, "annotator", generated_password(), "")
        credentials = credentials.with_account(account)
        write_credentials(home, credentials)
    if user is None:
        body = {"username": name, "first_name": name, "password": account.password, "role": "annotator"}
        user = api.call("POST", "/users", body)
    if account.api_key != user["api_key"]:
        credentials = credentials.with_account(replace(account, api_key=user["api_key"]))
        write_credentials(home, credentials)
    return credentials, user
