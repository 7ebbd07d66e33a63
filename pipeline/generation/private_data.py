"""Identifiers that could belong to somebody, replaced by ones that are reserved and belong to nobody.

Reserved: example.com (RFC 2606), 555-0100 to 555-0199 (North American numbering plan), social security numbers of area
000 (never issued), 192.0.2.0/24 and 2001:db8::/32 (RFC 5737, 3849), the payment networks' test card 4111…1111. Account
numbers (IBAN) have no reserved range, so a text with a valid one is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

_EMAIL = re.compile(r"[\w.+-]+@((?:[\w-]+\.)+[a-z]{2,})", re.IGNORECASE)
_URL = re.compile(r"\b(?:https?://|www\.)((?:[\w-]+\.)+[a-z]{2,})(?::\d+)?(?:/[^\s<>\"')\]]*)?", re.IGNORECASE)
_SSN = re.compile(r"(?<![\d-])(\d{3})-(\d{2})-(\d{4})(?![\d-])")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_PHONE = re.compile(
    r"(?<![\w-])(?:"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}"  # +49 30 1234567
    r"|(?:1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"  # (212) 555-1234
    r"|\d{3}-\d{4}"  # 867-5309
    r")(?![\w-])"
)
_BARE_PHONE = re.compile(
    r"\b((?:phone|tel|telephone|mobile|cell|call|text|whatsapp|fax)\b[^\d\n]{0,25})(\d{9,12})\b", re.IGNORECASE
)
_DIGIT = re.compile(r"\d")
_RESERVED_DOMAIN = re.compile(r"(?:\A|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)\Z", re.IGNORECASE)
_RESERVED_PHONE = re.compile(r"555[ .-]?01\d\d\Z")
_DOCUMENTATION = [ip_network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
TEST_CARD = "4111 1111 1111 1111"


@dataclass(frozen=True)
class Cleaned:
    """`text` with reserved identifiers only. `found` names the kinds that were replaced; `refused` the kind for which
    there is nothing reserved, then the text must not be used."""

    text: str
    found: tuple[str, ...]
    refused: str | None = None


def clean(text: str) -> Cleaned:
    """Replaces what looks like a real e-mail, web or IP address, phone, card or social security number."""
    found: list[str] = []

    def replacing(kind: str, pattern: re.Pattern[str], reserved: Callable[[re.Match[str]], str]) -> None:
        nonlocal text

        def one(match: re.Match[str]) -> str:
            new = reserved(match)
            if new != match[0]:
                found.append(kind)
            return new

        text = pattern.sub(one, text)

    if "@" in text:
        replacing("e-mail address", _EMAIL, lambda m: m[0] if _RESERVED_DOMAIN.search(m[1]) else "name@example.com")
    if "." in text:
        replacing("web address", _URL, lambda m: m[0] if _RESERVED_DOMAIN.search(m[1]) else "https://example.com")
    if not _DIGIT.search(text):  # nearly always: none of the rest can stand in it
        return Cleaned(text, tuple(dict.fromkeys(found)))
    account = next((match[0] for match in _IBAN.finditer(text) if _valid_iban(match[0])), None)
    replacing("card number", _CARD, _reserved_card)
    replacing("social security number", _SSN, _reserved_ssn)
    replacing("IP address", _IPV4, _reserved_ip)
    replacing("phone number", _PHONE, lambda m: m[0] if _is_reserved_phone(m[0]) else _reserved_phone(m[0]))
    replacing("phone number", _BARE_PHONE, lambda m: m[1] + _reserved_phone(m[2]))
    return Cleaned(text, tuple(dict.fromkeys(found)), "account number (IBAN)" if account else None)


def _is_reserved_phone(number: str) -> bool:
    return bool(_RESERVED_PHONE.search(number)) or sum(letter.isdigit() for letter in number) < 7


def _reserved_phone(number: str) -> str:
    # from the number itself, so that two numbers in a text stay two and a second pass changes nothing
    last = int(hashlib.sha256(number.encode()).hexdigest(), 16) % 100
    return f"555-01{last:02d}"


def _reserved_card(match: re.Match[str]) -> str:
    digits = [int(letter) for letter in match[0] if letter.isdigit()]
    if "".join(map(str, digits)) == TEST_CARD.replace(" ", "") or not _luhn(digits):
        return match[0]
    return TEST_CARD


def _luhn(digits: list[int]) -> bool:
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _reserved_ssn(match: re.Match[str]) -> str:
    area = int(match[1])
    return match[0] if area in (0, 666) or area >= 900 else f"000-{match[2]}-{match[3]}"


def _reserved_ip(match: re.Match[str]) -> str:
    try:
        address = ip_address(match[0])
    except ValueError:
        return match[0]
    if not address.is_global or any(address in network for network in _DOCUMENTATION):
        return match[0]
    return f"192.0.2.{match[0].rpartition('.')[2]}"


def _valid_iban(candidate: str) -> bool:
    """ISO 13616: moved four to the end, letters as numbers, remainder 1 by 97."""
    compact = candidate.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1
