"""The start of every connection to a server that scores: its addresses and its key, before the first call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from marginalia.schemas.errors import InputError
from marginalia.schemas.server_addresses import check_endpoint, check_key_goes
from marginalia.scoring.models.endpoint_calls import Caller
from marginalia.scoring.models.endpoint_key import endpoint_key
from marginalia.scoring.score_request import EndpointOptions, split_urls


def checked_addresses(urls: str, routes: Iterable[str]) -> list[str]:
    """The addresses in `urls`, which are separated by commas. Raises InputError for an address that cannot be used, or
    that ends in one of `routes`, which the calls add themselves."""
    endings = [f"/{route}" for route in sorted(routes, key=len, reverse=True)]
    return [_checked_address(url, endings) for url in split_urls(urls)]


def start_caller(addresses: Sequence[str], options: EndpointOptions) -> Caller:
    """Calls to the servers at `addresses`. Raises InputError for a missing key, or one that would be sent
    unencrypted."""
    key = endpoint_key(options)
    for address in addresses if key else ():
        check_key_goes(address, allow_http=options.allow_http, setting="allow_http")
    return Caller(
        addresses,
        key,
        concurrency=options.concurrency,
        retries=options.retries,
        timeout_seconds=options.timeout_seconds,
    )


def _checked_address(url: str, endings: Sequence[str]) -> str:
    try:
        address = check_endpoint(url)
    except ValueError as error:
        raise InputError(f"the model's URL: {error} (--api-key-env)") from None
    path, mark, query = address.partition("?")
    for ending in endings:
        if path.endswith(ending):
            base = path.removesuffix(ending) + mark + query
            raise InputError(f"the model's URL must not include the route: {base}, not {address}")
    return address
