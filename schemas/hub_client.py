"""How huggingface_hub talks to its server: by the same rules for keys and proxies as our own clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from marginalia.schemas.errors import ServiceError
from marginalia.schemas.key_approval import check_hub_downloads
from marginalia.schemas.server_addresses import check_key_goes, direct, is_loopback

if TYPE_CHECKING:
    import httpx2

DOWNLOAD_SECONDS = 60.0  # without a byte


def upload_to(endpoint: str, *, timeout: float, allow_http: bool) -> None:
    """From here on huggingface_hub sends the token to `endpoint` alone: a redirect to another server is an error.

    Raises InputError when the token would travel there unencrypted and `allow_http` is not set."""
    from huggingface_hub import set_client_factory

    check_key_goes(endpoint, allow_http=allow_http, setting="release.allow_http")
    set_client_factory(_factory(endpoint, timeout, [_refuse_other_servers]))


def check_downloads() -> None:
    """Called before something is loaded from the Hub, or from the mirror that HF_ENDPOINT names.

    Redirects are followed: files lie on other servers, and the token is not sent on. A stored token goes to
    the official Hub only. Raises InputError when a token would travel unencrypted, or to a server that is
    not approved."""
    from huggingface_hub import constants, set_client_factory

    check_hub_downloads(constants.ENDPOINT)
    if is_loopback(constants.ENDPOINT):  # else the library's client does, or the one that the caller has set
        set_client_factory(_factory(constants.ENDPOINT, DOWNLOAD_SECONDS, []))


def _factory(
    endpoint: str, timeout: float, on_response: list[Callable[[httpx2.Response], None]]
) -> Callable[[], httpx2.Client]:
    import httpx2
    from huggingface_hub.utils._http import hf_request_event_hook

    def make() -> httpx2.Client:
        return httpx2.Client(
            event_hooks={"request": [hf_request_event_hook], "response": on_response},
            follow_redirects=True,
            timeout=httpx2.Timeout(timeout),  # the library's own client waits for ever
            mounts=direct([endpoint]),
        )

    return make


def _refuse_other_servers(response: httpx2.Response) -> None:
    if not response.has_redirect_location or "authorization" not in response.request.headers:
        return  # files are put where the Hub says, by an address that needs no token
    here = str(response.request.url)
    there = urljoin(here, response.headers["location"])
    if urlsplit(there)[:2] != urlsplit(here)[:2]:
        host = urlsplit(there).netloc.rpartition("@")[2]
        raise ServiceError(
            f"{urlsplit(here).netloc} redirects to another server, {host}: nothing is sent there",
            hint="set release.endpoint (or HF_ENDPOINT) to the Hub's own address",
        )
