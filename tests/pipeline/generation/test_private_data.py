from __future__ import annotations

import pytest

from pipeline.generation.private_data import clean


@pytest.mark.parametrize(
    ("text", "cleaned", "kind"),
    [
        ("Write to jo.smith+x@gmail.com now", "Write to name@example.com now", "e-mail address"),
        ("see https://shop.acme.co.uk/a?b=1 please", "see https://example.com please", "web address"),
        ("my number is 078-05-1120", "my number is 000-05-1120", "social security number"),
        ("from 8.8.8.8 at night", "from 192.0.2.8 at night", "IP address"),
        ("card 4539 1488 0343 6467 was charged", "card 4111 1111 1111 1111 was charged", "card number"),
    ],
)
def test_identifiers_that_look_real_become_reserved_ones(text: str, cleaned: str, kind: str) -> None:
    found = clean(text)
    assert found.text == cleaned
    assert found.found == (kind,)
    assert found.refused is None


@pytest.mark.parametrize(
    "text",
    [
        "call (212) 867-5309",
        "call 212-867-5309",
        "call +49 30 901820 today",
        "call 1 212 867 5309",
        "phone: 2128675309",
    ],
)
def test_a_phone_number_becomes_one_of_the_fictional_range(text: str) -> None:
    found = clean(text)
    assert found.found == ("phone number",)
    assert found.text.startswith(("call 555-01", "phone: 555-01"))
    assert not any(part in found.text for part in ("867", "901820"))


def test_two_numbers_stay_two() -> None:
    first, second = clean("212-867-5309 or 212-867-5311").text.split(" or ")
    assert first != second


@pytest.mark.parametrize(
    "text",
    [
        "write to me@example.com or info@mail.example.org",
        "see https://www.example.com/path",
        "call 555-0123 or 212-555-0199",
        "my number is 000-12-3456, or 912-34-5678",
        "from 192.168.1.4 and 192.0.2.8 and 203.0.113.9",
        "card 4111 1111 1111 1111",
        "order 4471 from 2024-03-05, 12.50 and 1,200.00, invoice 20188-3",
        "version 1.2.3.4567 and 300 300 300",
        "1234567890123456",  # sixteen digits that no card has
    ],
)
def test_reserved_identifiers_and_plain_numbers_stay(text: str) -> None:
    assert clean(text).text == text
    assert clean(text).found == ()


def test_cleaning_twice_changes_nothing() -> None:
    once = clean("jo@gmail.com, 212-867-5309, 078-05-1120, http://acme.io/x, 4539148803436467").text
    assert clean(once).text == once


def test_an_account_number_has_no_reserved_form() -> None:
    assert clean("pay to DE89 3704 0044 0532 0130 00 please").refused == "account number (IBAN)"
    assert clean("pay to DE88 3704 0044 0532 0130 00 please").refused is None  # the check digits are wrong
