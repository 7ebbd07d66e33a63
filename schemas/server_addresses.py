"""Addresses of servers: how they are written in configs, which are on this machine, and where a key may be sent.

The HTTP clients (marginalia.schemas.http_client) follow these rules:

- `is_loopback` decides which addresses are on this machine. These are never reached through a proxy (`proxy_for`).
- `check_key_goes` refuses to send a key unencrypted to another machine.
- Redirects are not followed (the Hub's client follows those within one server, see marginalia.schemas.hub_client)."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from marginalia.schemas.errors import InputError

_AZURE_QUERY = r"api-version=[A-Za-z0-9.-]{1,40}"  # the one query that is part of an address, and holds no key


def check_address(url: str) -> str:
    """`url` without a slash at its end. Raises ValueError, which does not repeat it, when it is not an http address or
    holds a name, a password or a query, any of which may be a key."""
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and parts.port != 0
        plain = plain and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:  # [ without ], a port that is not a number
        plain = False
    if not plain or not url.startswith(("http://", "https://")) or any(letter.isspace() for letter in url):
        raise ValueError(
            "expected an address and nothing more, such as http://127.0.0.1:8000/v1; "
            "a key belongs in an environment variable, which api_key_env names"
        )
    return url.rstrip("/")


def check_endpoint(url: str) -> str:
    """The same for an OpenAI-compatible endpoint, whose address may end in Azure's `?api-version=…`."""
    base, mark, query = url.partition("?")
    if mark and re.fullmatch(_AZURE_QUERY, query):
        return f"{check_address(base)}?{query}"
    return check_address(url)


def check_variable(name: str) -> str:
    """`name` if it can name an environment variable. Raises ValueError, which does not repeat it: it may be a key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise ValueError("expected the NAME of an environment variable, such as OPENAI_API_KEY, not a key")
    return name


def route(endpoint: str, path: str) -> str:
    """The address of `path` at an endpoint: `http://h/v1`, `https://h/deployments/d?api-version=…`."""
    base, mark, query = endpoint.partition("?")
    return f"{base}/{path}{mark}{query}"


def key_headers(endpoint: str, key: str | None) -> dict[str, str]:
    """The header that carries the key: Azure's own where the address has an api-version, else a bearer token."""
    if key is None:
        return {}
    return {"api-key": key} if "?" in endpoint else {"Authorization": f"Bearer {key}"}


def is_loopback(url: str) -> bool:
    """Whether the address is on this machine: localhost, 127.0.0.0/8, ::1, or 0.0.0.0 and :: ("any address here").

    Only the written host counts. No name is resolved: whoever answers for a name could say what they like."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; None for this machine, and for what NO_PROXY names."""
    parts = urlsplit(url)
    # NO_PROXY may name a host with or without its port, an IPv6 address with or without its brackets
    hosts = (parts.hostname or "", parts.netloc.rpartition("@")[2])
    if is_loopback(url) or any(map(proxy_bypass, hosts)):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def check_key_goes(url: str, *, allow_http: bool = False, setting: str | None = None) -> None:
    """Raises InputError when a key would be sent to `url` unencrypted and over a network; `setting`, a config key or a
    flag such as --allow-http, allows it."""
    if urlsplit(url).scheme != "https" and not is_loopback(url) and not allow_http:
        how = f"add {setting}" if setting and setting.startswith("--") else f"set {setting}: true"
        allowed = f", or {how} if the network is your own" if setting else ""
        raise InputError(
            f"{url}: a key is not sent over plain http to another machine, where everyone on the way can read it",
            hint=f"use https://{allowed}",
        )
