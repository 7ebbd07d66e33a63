"""All calls to Argilla: its REST API, with retries and with errors that name the setting to change.

The SDK defines what a dataset consists of. The calls are our own: the SDK gives up at the first failure in the middle
of creating a dataset, draws a progress bar for each call, and reads every record completely."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, Self

import httpx2

from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.http_client import ExchangeLimits, check_proxy, client
from marginalia.schemas.key_masking import KeyMask
from marginalia.schemas.retries import RETRIED_STATUSES, RetryPolicy, retry_after

RETRIES = 3
# 409: something exists already, which a second call does not change
POLICY = RetryPolicy(
    first_backoff=0.5, factor=4.0, longest_backoff=5.0, longest_wait=120.0, retried_statuses=RETRIED_STATUSES - {409}
)
TIMEOUT = 60.0  # seconds for a whole answer
_LARGEST_BODY = 100_000_000  # bytes


class Connection:
    """A signed-in client of one Argilla server. Every call may raise ServiceError that names the setting to change.

    `username` and `role` (owner, admin, annotator) are those of the key's user. `is_local`: the server was
    started by us on this machine, and is reached without a proxy whatever address it has."""

    def __init__(self, url: str, api_key: str, *, key_hint: str, is_local: bool = False) -> None:
        self.url = url.rstrip("/")
        self._key_hint = key_hint
        self._known = False  # whether the server has answered as Argilla does
        self._safe = KeyMask(api_key)
        if not is_local:
            check_proxy(self.url)
        self._http = client(
            ExchangeLimits(TIMEOUT, _LARGEST_BODY),
            base_url=self.url,
            headers={"X-Argilla-Api-Key": api_key},
            proxies=not is_local,
        )
        try:
            me = self.get("/me")
            if not isinstance(me, dict) or not {"role", "username"} <= me.keys():
                hint = "check annotation.url: it is Argilla's address and nothing more"
                raise ServiceError(f"{self.url} answers, but not as Argilla does (GET /me)", hint=hint)
            self._me: dict[str, Any] = me
            self.role, self.username = str(me["role"]), str(me["username"])
            self._known = True
        except BaseException:
            self._http.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at `path`."""
        return self._call("GET", path, params=parameters)

    def put(self, path: str, body: Any, *, done: Collection[int] = ()) -> Any:
        """The JSON answer; None where a status of `done` shows that an earlier try, whose answer was lost, worked."""
        return self._call("PUT", path, done, json=body)

    def post(self, path: str, body: Any, *, done: Collection[int] = (), **parameters: Any) -> Any:
        """As put."""
        return self._call("POST", path, done, json=body, params=parameters)

    def patch(self, path: str, body: Any) -> Any:
        """The JSON answer."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        """The JSON answer; None where an earlier try, whose answer was lost, has deleted it."""
        return self._call("DELETE", path, (404,))

    def _call(self, method: str, path: str, done: Collection[int] = (), **arguments: Any) -> Any:
        """The JSON answer. All our writes can be repeated, so a failing server is asked again.

        `done`: statuses that mean that it was done before: None, after a try whose answer was lost."""

        def send() -> httpx2.Response:
            return self._http.request(method, f"/api/v1{path}", **arguments)

        with self._service_errors(f"{method} {path}"):
            return self._with_retries(send, done)

    def _with_retries(self, send: Callable[[], httpx2.Response], done: Collection[int]) -> Any:
        lost = False
        for retry in range(RETRIES + 1):
            is_last = retry == RETRIES
            wait = POLICY.backoff(retry)
            try:
                answer = send()
                if lost and answer.status_code in done:
                    return None
                if is_last or answer.status_code not in POLICY.retried_statuses:
                    answer.raise_for_status()
                    return _content(answer)
                named = retry_after(answer.headers)
                wait = wait if named is None else min(named, POLICY.longest_wait)
            except httpx2.RequestError:
                if is_last:
                    raise
            except ValueError:  # an answer cut short or a proxy's page; at the first call: a wrong address
                if is_last or not self._known:
                    raise
            lost = True
            time.sleep(wait)
        raise AssertionError("unreachable")

    @contextmanager
    def sdk(self) -> Iterator[None]:
        """While it is open, the SDK's fields, questions and settings can be created. They need a client, which asks
        for its user: it gets the answer that the server gave us, and contacts no server."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK 2.8 warns about its own use of pydantic
            import argilla
            import httpx  # the SDK's own HTTP library

            answer = httpx.MockTransport(lambda request: httpx.Response(200, json=self._me))
            client = argilla.Argilla(api_url=self.url, api_key="not needed", mounts={"all://": answer})
            with closing(client.http_client):
                yield

    @contextmanager
    def _service_errors(self, call: str) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPStatusError as error:
            raise self._refused(call, error.response.status_code, error.response.text) from None
        except httpx2.HTTPError as error:
            raise self._unreachable(call, error) from error
        except ValueError as error:  # HTML with status 200, an invalid address
            raise ServiceError(
                f"Argilla at {self.url} ({call}): not an answer of Argilla's: {self._safe(str(error))}",
                hint="check annotation.url",
            ) from error

    def _refused(self, call: str, status: int, detail: str) -> ServiceError:
        hint = {
            400: "check annotation.url: is it Argilla that answers there?",
            401: f"the API key is wrong: {self._key_hint}",
            403: f"the API key's role may not do that; use an owner's: {self._key_hint}",
            404: "check annotation.url, annotation.workspace and annotation.dataset; was the dataset deleted?",
        }.get(status)
        if 300 <= status < 400:
            hint = "it redirects to another address, which is not followed; set annotation.url to that address"
        shown = self._safe(" ".join(detail.split()))  # some servers repeat what they were sent, including the key
        code = f"HTTP {status}" if status else "refused"
        return ServiceError(f"Argilla at {self.url} ({call}): {code}: {shown}", hint=hint)

    def _unreachable(self, call: str, error: Exception) -> ServiceError:
        name = type(error).__name__
        return ServiceError(
            f"Argilla at {self.url} does not answer ({call}): {name}: {self._safe(str(error))}",
            hint="check annotation.url and that the server runs; the local one: marginalia argilla up",
        )


def api_key_from(environment: dict[str, str], variable: str) -> str:
    """The key in `variable`. Raises InputError when it is not set."""
    key = environment.get(variable, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {variable} is not set; annotation.url needs an owner's API key in it",
            hint=f"export {variable}=…, or change annotation.api_key_env; Argilla shows the key under My settings",
        )
    return key


def _content(answer: httpx2.Response) -> Any:
    """The JSON of an answer. Raises ValueError when it is not JSON."""
    try:
        return answer.json() if answer.content else None
    except RecursionError:
        raise ValueError("deeply nested JSON") from None
