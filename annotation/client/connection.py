"""The one place where Argilla is talked to: its REST API, errors wrapped, requests repeated when a server stumbles.

The SDK makes datasets and their settings. Records and answers go over HTTP in batches of our own size: the SDK draws a
progress bar for each call, reads every record whole, and takes seconds to import."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from schemas.errors import InputError, ServiceError

PAUSES = (0.5, 2.0, 5.0)  # seconds before each further try
STUMBLES = (429, 502, 503, 504)
TIMEOUT = 60  # seconds
DETAIL_SHOWN = 300  # characters of a server's answer in a message


class Connection:
    """A signed-in client of one Argilla server. Every call may raise ServiceError that names the setting to change.

    `username` and `role` (owner, admin, annotator) are those of the key's user."""

    def __init__(self, url: str, api_key: str, *, key_hint: str) -> None:
        self.url = url.rstrip("/")
        self._key_hint = key_hint
        self._key = api_key
        self._http = httpx.Client(base_url=self.url, headers={"X-Argilla-Api-Key": api_key}, timeout=TIMEOUT)
        try:
            me = self.get("/me")
            self.role, self.username = str(me["role"]), str(me["username"])
        except BaseException:
            self._http.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> Any:
        return self._call("GET", path, params=parameters)

    def put(self, path: str, body: Any) -> Any:
        return self._call("PUT", path, json=body)

    def post(self, path: str, body: Any, **parameters: Any) -> Any:
        return self._call("POST", path, json=body, params=parameters)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        """The JSON answer. All our writes can be repeated, so a stumbling server is asked again."""

        def once() -> httpx.Response:
            return self._http.request(method, f"/api/v1{path}", **arguments)

        with self._translated(f"{method} {path}"):
            answer = _patiently(once)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    @contextmanager
    def sdk(self, what: str) -> Iterator[Any]:
        """The SDK's client for the body, with its errors turned into ServiceError."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK 2.8 warns about its own use of pydantic
            with self._translated(what):
                import argilla
                from argilla._exceptions import ArgillaError

                try:
                    client = argilla.Argilla(api_url=self.url, api_key=self._key, timeout=TIMEOUT, retries=1)
                    with closing(client.http_client):
                        yield client
                except ArgillaError as error:
                    cause = error.__cause__ or error
                    if isinstance(network := cause.__cause__ or cause.__context__ or cause, httpx.TransportError):
                        raise self._unreachable(what, network) from error
                    raise self._refused(what, int(getattr(cause, "status_code", 0)), str(cause)) from error

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            raise self._refused(what, error.response.status_code, error.response.text) from None
        except httpx.HTTPError as error:
            raise self._unreachable(what, error) from error
        except ValueError as error:  # HTML with status 200, an address that is none
            raise ServiceError(
                f"Argilla at {self.url} ({what}): not an answer of Argilla's: {str(error)[:DETAIL_SHOWN]}",
                hint="check annotation.url",
            ) from error

    def _refused(self, what: str, status: int, detail: str) -> ServiceError:
        hint = {
            401: f"the API key is wrong: {self._key_hint}",
            403: f"the API key's role may not do that; use an owner's: {self._key_hint}",
            404: "check annotation.url, annotation.workspace and annotation.dataset; was the dataset deleted?",
        }.get(status)
        shown = " ".join(detail.split())[:DETAIL_SHOWN]
        code = f"HTTP {status}" if status else "refused"
        return ServiceError(f"Argilla at {self.url} ({what}): {code}: {shown}", hint=hint)

    def _unreachable(self, what: str, error: Exception) -> ServiceError:
        kind = type(error).__name__
        return ServiceError(
            f"Argilla at {self.url} does not answer ({what}): {kind}: {error}",
            hint="check annotation.url and that the server runs; the local one: marginalia argilla up",
        )


def api_key_from(environment: dict[str, str], variable: str) -> str:
    """The key in `variable`. Raises InputError when it is not set."""
    key = environment.get(variable, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {variable} is not set; annotation.url needs an owner's API key in it",
            hint=f"export {variable}=…, or change annotation.api_key_env; the key stands in Argilla under My settings",
        )
    return key


def _patiently(once: Callable[[], httpx.Response]) -> httpx.Response:
    for pause in PAUSES:
        try:
            answer = once()
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code not in STUMBLES:
            return answer
        time.sleep(pause)
    return once()
