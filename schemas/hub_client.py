"""The HTTP client of huggingface_hub, with the rules of our own clients for keys, proxies and deadlines.

Xet, the transfer protocol of the package hf_xet, is switched off, and files are transferred by plain HTTP: hf_xet has
HTTP code of its own, to which neither the deadlines nor the choice of proxies apply."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx2

from marginalia.schemas.errors import ServiceError, first_line
from marginalia.schemas.http_client import ExchangeLimits, check_proxy, client
from marginalia.schemas.key_approval import check_hub_downloads
from marginalia.schemas.key_masking import KeyMask
from marginalia.schemas.server_addresses import check_key_goes
from marginalia.schemas.text_checks import displayable

DOWNLOAD_SECONDS = 60.0  # for a request, in addition to what its bytes need at SLOWEST_RATE
SLOWEST_RATE = 10_000.0  # bytes per second, of a file's transfer
_LARGEST_ANSWER = 64_000_000  # bytes of an answer that is not a file
_LARGEST_UNANNOUNCED = 1_000_000_000  # bytes of a file whose length the server does not announce


class _HubLimits(ExchangeLimits):
    def largest_body(self, request: httpx2.Request, status: int, headers: httpx2.Headers) -> int | None:
        """None, any number, for a file whose length is announced: it is written to disk as it arrives."""
        if status >= 300 or _is_api(request):
            return self.body_bytes
        announced = "content-length" in headers and "content-encoding" not in headers
        return None if announced else _LARGEST_UNANNOUNCED


def upload_to(endpoint: str, *, timeout: float, allow_http: bool) -> None:
    """From here on huggingface_hub sends the token to `endpoint` alone: a redirect to another server is an error.
    A request may take `timeout` seconds, and what its bytes need at SLOWEST_RATE.

    Raises InputError when the token would travel there unencrypted and `allow_http` is not set, and for a proxy that
    cannot be used."""
    check_key_goes(endpoint, allow_http=allow_http, setting="release.allow_http")
    _use(_Factory(endpoint, timeout, True))


def check_downloads() -> None:
    """Called before something is loaded from the Hub, or from the mirror that HF_ENDPOINT names.

    Redirects are followed, because files are stored on other servers; the token is not sent there. A stored token goes
    to the official Hub only. A client that the caller has set for huggingface_hub is left as it is, with Xet. Raises
    InputError when a token would travel unencrypted or to a server that is not approved, and for a proxy that cannot be
    used."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    check_hub_downloads(constants.ENDPOINT)
    current = _http._GLOBAL_CLIENT_FACTORY
    if current is _http.default_client_factory or isinstance(current, _Factory):
        _use(_Factory(constants.ENDPOINT, DOWNLOAD_SECONDS, False))


@dataclass(frozen=True)
class _Factory:
    """Makes huggingface_hub's client. `is_upload`: requests with a token stay at one server."""

    endpoint: str
    seconds: float
    is_upload: bool

    def __call__(self) -> httpx2.Client:
        from huggingface_hub.utils._http import hf_request_event_hook

        on_response = [_refuse_other_servers, _refuse_deep_json] if self.is_upload else [_refuse_deep_json]
        hooks = {"request": [hf_request_event_hook], "response": on_response}
        limits = _HubLimits(self.seconds, _LARGEST_ANSWER, SLOWEST_RATE)
        return client(limits, event_hooks=hooks, follow_redirects=True)


def _use(factory: _Factory) -> None:
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    check_proxy(factory.endpoint)
    constants.HF_HUB_DISABLE_XET = True
    if factory != _http._GLOBAL_CLIENT_FACTORY:  # setting it closes the connections of all threads
        set_client_factory(factory)


def commit_id(value: object) -> str:
    """`value` if it is a commit's id, as the Hub's answers have it. Raises ServiceError for anything else."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{7,64}", value):
        raise ServiceError(
            f"the Hub's answer has no commit id: {ascii(value)[:80]}", hint="check release.endpoint (or HF_ENDPOINT)"
        )
    return value


def download_problem(error: BaseException) -> str:
    """The first line of an error of huggingface_hub, or of a library that uses it, without the token: some servers
    repeat what they were sent."""
    from huggingface_hub import get_token

    return displayable(KeyMask(get_token())(first_line(error), limit=1_000))


def _is_api(request: httpx2.Request) -> bool:
    return request.url.path.startswith("/api/")


def _refuse_deep_json(response: httpx2.Response) -> None:
    """Raises ServiceError for JSON that is too deeply nested for Python."""
    if response.status_code < 400 and not _is_api(response.request):
        return
    if "json" not in response.headers.get("content-type", ""):
        return
    response.read()
    try:
        json.loads(response.content)
    except RecursionError:
        raise ServiceError(
            f"{response.request.url.host} does not answer as the Hub does: deeply nested JSON",
            hint="check release.endpoint (or HF_ENDPOINT)",
        ) from None
    except ValueError:
        return  # huggingface_hub reports it


def _refuse_other_servers(response: httpx2.Response) -> None:
    if not response.has_redirect_location or "authorization" not in response.request.headers:
        return  # files are stored where the Hub says, at an address that needs no token
    source = str(response.request.url)
    target = urljoin(source, response.headers["location"])
    if urlsplit(target)[:2] != urlsplit(source)[:2]:
        host = urlsplit(target).netloc.rpartition("@")[2]
        raise ServiceError(
            f"{urlsplit(source).netloc} redirects to another server, {host}: nothing is sent there",
            hint="set release.endpoint (or HF_ENDPOINT) to the Hub's own address",
        )
