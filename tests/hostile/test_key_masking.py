"""A key that a server repeats is hidden, however it is written."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest

from marginalia.schemas.key_masking import KeyMask
from tests.hostile.conftest import KEY, OWN_ERRORS, Client
from tests.hostile.raw_server import RawServer, answer
from tests.hostile.test_hostile_servers import ME

WRITTEN = {
    "as it is": KEY,
    "upper": KEY.upper(),
    "lower": KEY.lower(),
    "HTML": KEY.replace("/", "&sol;").replace("+", "&plus;").replace("=", "&equals;"),
    "decimal entities": "".join(f"&#{ord(letter)};" for letter in KEY),
    "hexadecimal entities": "".join(f"&#x{ord(letter):X};" for letter in KEY),
    "URL": urllib.parse.quote(KEY, safe=""),
    "every character of a URL": "".join(f"%{ord(letter):02x}" for letter in KEY),
    "JSON escapes": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_every_way_of_writing_it(written: str) -> None:
    assert KeyMask(KEY)(f"bad key {written}, sorry") == "bad key ***, sorry"


@pytest.mark.parametrize("before", [b"", b"k", b"ke", b"key", b"Bearer "])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_inside_base64(before: bytes, encode: object) -> None:
    written = encode(before + KEY.encode() + b" and more").decode()  # type: ignore[operator]
    start, mask, end = KeyMask(KEY)(written).partition("***")
    # at each end a character may hold some bits of the key's first or last letter
    assert mask and len(start) <= len(before) * 4 // 3 + 2 and len(end) <= len(" and more") * 4 // 3 + 4


def test_a_short_key_is_hidden_as_it_is_and_words_are_left() -> None:
    assert KeyMask("EMPTY")("EMPTY or empty") == "*** or empty"
    assert KeyMask(None)("none") == KeyMask("")("none") == "none"


def test_a_long_text_is_cut_after_the_key_is_hidden() -> None:
    assert KeyMask(KEY)("x" * 295 + KEY) == "x" * 295 + "***"
    assert KeyMask(KEY)("y" * 400, limit=None) == "y" * 400


@pytest.mark.parametrize("written", [WRITTEN["HTML"], WRITTEN["upper"], base64.b64encode(KEY.encode()).decode()])
def test_no_client_shows_it(ask: Client, written: str) -> None:
    body = json.dumps({"error": {"message": f"bad key {written}"}, "detail": f"bad key {written}"}).encode()
    with (
        RawServer(lambda path, _: [ME] if path.endswith("/me") else [answer(body, status=401)]) as server,
        pytest.raises(OWN_ERRORS) as raised,
    ):
        ask(server.url, ["one"])
    assert "bad key ***" in str(raised.value) and written[:12] not in str(raised.value)
