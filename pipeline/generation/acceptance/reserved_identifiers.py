"""Identifiers that could belong to a person, replaced by reserved ones, which belong to nobody.

Reserved: example.com (RFC 2606), 555-0100 to 555-0199 (North American numbering plan), social security numbers of area
000 (never issued), 192.0.2.0/24 and 2001:db8::/32 (RFC 5737, 3849), the payment networks' test card 4111…1111. Account
numbers (IBAN) have no reserved range, so a text with a valid one is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

# Japanese and Chinese put no space around an identifier, so it ends where its own script ends.
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
# national identity numbers; none are reserved
_NATIONAL = re.compile(
    r"(?:マイナンバー|個人番号|आधार|aadhaa?r|steuer-?(?:id|identifikationsnummer)|sozialversicherungsnummer|身份证)"
    r"[^\d\n]{0,20}(\d(?:[ -]?\d){9,17})(?!\d)",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
_RESERVED_DOMAIN = re.compile(r"(?:\A|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)\Z", re.IGNORECASE)
_RESERVED_PHONE = re.compile(r"555[ .-]?01\d\d\Z")
_DOCUMENTATION = [ip_network(network) for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
TEST_CARD = "4111 1111 1111 1111"


@dataclass(frozen=True)
class Cleaned:
    """`text` with reserved identifiers only. `replaced` names the types of identifiers that were replaced; `refused` a
    type for which nothing is reserved: then the text must not be used."""

    text: str
    replaced: tuple[str, ...]
    refused: str | None = None


def clean(text: str) -> Cleaned:
    """Replaces what looks like a real e-mail, web or IP address, phone, card or social security number."""
    replaced: list[str] = []

    def replace(identifier: str, pattern: re.Pattern[str], reserved: Callable[[re.Match[str]], str]) -> None:
        nonlocal text

        def replacement(match: re.Match[str]) -> str:
            new = reserved(match)
            if new != match[0]:
                replaced.append(identifier)
            return new

        text = pattern.sub(replacement, text)

    if "@" in text or "＠" in text:
        replace("e-mail address", _EMAIL, lambda m: m[0] if _RESERVED_DOMAIN.search(m[1]) else "name@example.com")
    if "." in text:
        replace("web address", _URL, lambda m: m[0] if _RESERVED_DOMAIN.search(m[1]) else "https://example.com")
    if not _DIGIT.search(text):  # nearly always; all other identifiers have digits
        return Cleaned(text, tuple(dict.fromkeys(replaced)))
    account = next((match[0] for match in _IBAN.finditer(text) if _valid_iban(match[0])), None)
    national = _NATIONAL.search(text)
    replace("card number", _CARD, _reserved_card)
    replace("social security number", _SSN, _reserved_ssn)
    replace("IP address", _IPV4, _reserved_ip)
    replace("phone number", _PHONE, lambda m: m[0] if _is_reserved_phone(m[0]) else _reserved_phone(m[0]))
    replace("phone number", _BARE_PHONE, lambda m: m[1] + _reserved_phone(m[2]))
    refused = "account number (IBAN)" if account else "national identity number" if national else None
    return Cleaned(text, tuple(dict.fromkeys(replaced)), refused)


def _is_reserved_phone(number: str) -> bool:
    digits = sum(letter.isdigit() for letter in number)
    # a trunk prefix and two groups can also be a date or an order number, unless it is as long as a phone number
    short = number[:1] in "0０" and digits < 10 and "/" not in number
    return bool(_RESERVED_PHONE.search(number)) or digits < 7 or short


def _reserved_phone(number: str) -> str:
    # derived from the number, so that two numbers in a text stay different
    last = int(hashlib.sha256(number.encode()).hexdigest(), 16) % 100
    return f"555-01{last:02d}"


def _reserved_card(match: re.Match[str]) -> str:
    digits = [int(letter) for letter in match[0] if letter.isdigit()]
    if "".join(map(str, digits)) == TEST_CARD.replace(" ", "") or not _luhn(digits):
        return match[0]
    return TEST_CARD


def _luhn(digits: list[int]) -> bool:
    doubled = [digit if index % 2 == 0 else sum(divmod(2 * digit, 10)) for index, digit in enumerate(reversed(digits))]
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
    """The check of ISO 13616: the first four characters moved to the end and letters as numbers, it is 1 modulo 97."""
    compact = candidate.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1
