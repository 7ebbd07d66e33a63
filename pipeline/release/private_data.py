"""Finds what could be a person's or a machine's secret in a text: addresses, numbers, keys.

Identifiers that are reserved for examples (example.com, 555-01xx, SSN ranges that are never given out, documentation
networks, card numbers for tests) are not private."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
_RESERVED_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)$", re.IGNORECASE)
_SSN = re.compile(r"(?<![\d-])(\d{3})-(\d{2})-(\d{4})(?![\d-])")
# starts with + or a bracket, or has its groups separated: a bare run of digits may be an order number
_PHONE = re.compile(r"(?<![\w.-])(?:\+\d[\d ().-]{6,17}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_TEST_CARDS = {
    "4111111111111111", "4242424242424242", "4012888888881881", "5555555555554444", "5105105105105100",
    "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "30569309025904", "3530111333300000",
}  # fmt: skip
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_EXAMPLE_IBANS = {"GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606"}
_IP = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def private_data(text: str) -> list[str]:
    """The kinds found in `text`, each once: e-mail address, phone or card number, SSN, IBAN, IP address, secret."""
    return list(dict.fromkeys(_kinds(text)))


def holds_secret(text: str) -> bool:
    """Whether something like an access token or a private key stands in `text`."""
    return _SECRET.search(text) is not None


def _kinds(text: str) -> Iterator[str]:
    if any(not _RESERVED_DOMAIN.search(found[1]) for found in _EMAIL.finditer(text)):
        yield "e-mail address"
    if any(_assignable(*found.groups()) for found in _SSN.finditer(text)):
        yield "SSN"
    if any(_dialable(found[0]) for found in _PHONE.finditer(text)):
        yield "phone number"
    if any(_is_card(_digits(found[0])) for found in _CARD.finditer(text)):
        yield "card number"
    if any(_is_iban(found[0].replace(" ", "")) for found in _IBAN.finditer(text)):
        yield "IBAN"
    if any(_is_public(found[0]) for found in _IP.finditer(text)):
        yield "IP address"
    if holds_secret(text):
        yield "secret"


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _assignable(area: str, group: str, serial: str) -> bool:
    """Whether the Social Security Administration could give the number out (never areas 000, 666 and 900-999)."""
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _dialable(number: str) -> bool:
    digits = _digits(number)
    reserved = len(digits) in (10, 11) and digits[-7:-2] == "55501"
    return 8 <= len(digits) <= 15 and not reserved


def _is_card(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1)."""
    if digits in _TEST_CARDS or len(set(digits)) == 1:
        return False
    doubled = [int(digit) * (2 if at % 2 else 1) for at, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """The check digits of ISO 13616 (mod 97)."""
    if text in _EXAMPLE_IBANS or not 15 <= len(text) <= 34:
        return False
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def _is_public(text: str) -> bool:
    try:
        return ipaddress.IPv4Address(text).is_global
    except ValueError:
        return False
