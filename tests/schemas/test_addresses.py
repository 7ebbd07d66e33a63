"""Addresses: which are valid, which are on this machine, and where a key may be sent."""

from __future__ import annotations

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.server_addresses import (
    check_address,
    check_endpoint,
    check_key_goes,
    is_loopback,
    key_headers,
    proxy_for,
    route,
)

THIS_MACHINE = [
    "http://localhost/",
    "http://LOCALHOST:8000/v1",
    "http://127.0.0.1:8000",
    "http://127.9.8.7",
    "https://[::1]:8000/v1",
    "http://[::ffff:127.0.0.1]:80",
    "http://0.0.0.0:8000/v1",
    "http://[::]:8000",
]
OTHER_MACHINES = [
    "http://localhost.example.com",
    "http://127.0.0.1.example.com/v1",
    "http://localhost@example.com",
    "http://example.com#127.0.0.1",
    "http://10.0.0.7:8000",
    "http://192.168.1.2",
    "http://169.254.169.254",
    "http://2130706433",
    "http://[fe80::1]",
    "http://notlocalhost",
    "http://vllm:8000/v1",
]


@pytest.mark.parametrize("url", THIS_MACHINE)
def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert is_loopback(url)
    assert proxy_for(url) is None
    check_key_goes(url)


@pytest.mark.parametrize("url", OTHER_MACHINES)
def test_other_machines_are_reached_by_the_proxy_and_get_no_key_over_http(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert not is_loopback(url)
    assert proxy_for(url) == "http://127.0.0.1:1"
    with pytest.raises(InputError, match=r"a key is not sent over plain http .*or set x.allow_http: true"):
        check_key_goes(url, setting="x.allow_http")
    check_key_goes(url, allow_http=True)
    check_key_goes(url.replace("http://", "https://"))


def test_which_proxy_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", "near.example,.intern")
    assert proxy_for("https://far.example/v1") == "http://proxy:1"
    monkeypatch.setenv("https_proxy", "http://proxy:2")
    assert proxy_for("https://far.example/v1") == "http://proxy:2"
    assert proxy_for("https://near.example/v1") is proxy_for("http://vllm.intern") is None


@pytest.mark.parametrize(
    "url", ["http://far.example:8000/v1", "http://[fd00::1]/v1", "http://[fd00::2]:80", "http://[fd00::3]:8000"]
)
def test_no_proxy_may_name_ports_and_brackets(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", "far.example:8000, fd00::1, [fd00::2], [fd00::3]:8000")
    assert proxy_for(url) is None
    assert proxy_for("http://far.example:8001/v1") == "http://proxy:1"


@pytest.mark.parametrize(
    "url",
    ["http://h/v1?key=sk-1", "http://h/v1?api-version=", "http://h?api-version=1&key=2", "http://u:p@h?api-version=1"],
)
def test_an_address_with_a_possible_key_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="an address and nothing more") as raised:
        check_endpoint(url)
    assert url not in str(raised.value)


def test_the_address_of_an_azure_deployment() -> None:
    url = "https://x.openai.azure.com/openai/deployments/d/?api-version=2024-10-21"
    endpoint = check_endpoint(url)
    assert route(endpoint, "chat/completions") == (
        "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
    )
    assert key_headers(endpoint, "k") == {"api-key": "k"}
    with pytest.raises(ValueError, match="an address and nothing more"):
        check_address(url)
    assert route(check_endpoint("http://h/v1/"), "models") == "http://h/v1/models"
    assert key_headers("http://h/v1", "k") == {"Authorization": "Bearer k"}
    assert key_headers("http://h/v1", None) == {}
