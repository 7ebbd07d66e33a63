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

# In Japanese or Chinese no space stands beside an identifier: only letters and digits of its own script go on with it.
_EMAIL = re.compile(r"[a-z0-9\u00c0-\u024f._%+-]+[@＠]((?:[\w-]+[.．])+[a-z]{2,})", re.IGNORECASE)
_URL = re.compile(
    r"(?<![a-z0-9])(?:https?://|www\.)((?:[\w-]+\.)+[a-z]{2,})(?::\d+)?(?:/[!#-&(*-;=?-\\^-~]*)?", re.IGNORECASE
)
_SSN = re.compile(r"(?<![\d-])(\d{3})-(\d{2})-(\d{4})(?![\d-])")
_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?|[a-z]{2}\d{2}[a-z0-9]{11,30})"
    r"(?![A-Za-z0-9])"
)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_PHONE = re.compile(
    r"(?<![A-Za-z0-9_〒-])(?:"
    r"[+＋]\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}"  # +49 30 1234567
    r"|(?:1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"  # (212) 555-1234
    r"|[(（]?[0０]\d{1,4}(?:[)）]|[ .‐‑–−－-])\d{1,4}[ .‐‑–−－-]\d{3,4}"  # 03-1234-5678, 090-1234-5678
    r"|01[567]\d[ /-]?\d{7,8}"  # 0171 1234567, a German mobile phone
    r"|(?:\(0\d{2,4}\) ?|0\d{2,4} ?/ ?)\d{5,8}"  # (0221) 123456, 030/1234567
    r"|\d{3}-\d{4}"  # 867-5309
    r")(?![A-Za-z0-9_-])"
)
_BARE_PHONE = re.compile(
    r"((?:\b(?:phone|tel|telephone|mobile|cell|call|text|whatsapp|fax|telefon|handy|mobil|nummer|rückruf|téléphone|teléfono|"
    r"móvil|telefono)(?:nummer)?\b|電話|携帯|番号|电话|手机|전화|휴대폰|телефон|फ़?ोन|मोबाइल|नंबर|هاتف|جوال|رقم)"
    r"[^\d\n]{0,25})(\d{9,12})(?![\dA-Za-z])",
    re.IGNORECASE,
)
# numbers that a state gives to a person: there are none that are reserved
_NATIONAL = re.compile(
    r"(?:マイナンバー|個人番号|आधार|aadhaa?r|steuer-?(?:id|identifikationsnummer)|sozialversicherungsnummer|身份证)"
    r"[^\d\n]{0,20}(\d(?:[ -]?\d){9,17})(?!\d)",
    re.IGNORECASE,
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

    if "@" in text or "＠" in text:
        replacing("e-mail address", _EMAIL, lambda m: m[0] if _RESERVED_DOMAIN.search(m[1]) else "name@example.com")
    if "." in text:
        replacing("web address", _URL, lambda m: m[0] if _RESERVED_DOMAIN.search(m[1]) else "https://example.com")
    if not _DIGIT.search(text):  # nearly always: none of the rest can stand in it
        return Cleaned(text, tuple(dict.fromkeys(found)))
    account = next((match[0] for match in _IBAN.finditer(text) if _valid_iban(match[0])), None)
    national = _NATIONAL.search(text)
    replacing("card number", _CARD, _reserved_card)
    replacing("social security number", _SSN, _reserved_ssn)
    replacing("IP address", _IPV4, _reserved_ip)
    replacing("phone number", _PHONE, lambda m: m[0] if _is_reserved_phone(m[0]) else _reserved_phone(m[0]))
    replacing("phone number", _BARE_PHONE, lambda m: m[1] + _reserved_phone(m[2]))
    refused = "account number (IBAN)" if account else "national identity number" if national else None
    return Cleaned(text, tuple(dict.fromkeys(found)), refused)


def _is_reserved_phone(number: str) -> bool:
    digits = sum(letter.isdigit() for letter in number)
    # a trunk prefix and two groups is a date or an order as well, unless there are as many digits as telephones have
    short = number[:1] in "0０" and digits < 10 and "/" not in number
    return bool(_RESERVED_PHONE.search(number)) or digits < 7 or short


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
