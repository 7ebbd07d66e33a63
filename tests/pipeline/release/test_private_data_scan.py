"""What counts as private data when a release is checked."""

from __future__ import annotations

import pytest

from marginalia.pipeline.release.private_data_scan import contains_secret, private_data


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane@corp.co", ["e-mail address"]),
        ("write to jane@example.com", []),
        ("see https://shop.co/orders", []),
        ("call 212-555-0142", []),
        ("call +44 20 7946 1234 or jane@corp.co", ["e-mail address", "phone number"]),
        ("card 4539 1488 0343 6467", ["card number"]),
        ("card 4539 1488 0343 6468", []),  # fails the Luhn check
        ("card 4111 1111 1111 1111", []),  # a test number of the card networks
        ("SSN 219-45-6789", ["social security number"]),
        ("SSN 900-45-6789", []),  # never issued
        ("pay to GB29 NWBK 6016 1331 9268 19", ["account number (IBAN)"]),
        ("my key is hf_" + "a" * 34, ["secret"]),
        ("order 4471 from the 3rd, 12.50 euros", []),
    ],
)
def test_identifiers_that_could_belong_to_a_person_are_found(text: str, kinds: list[str]) -> None:
    assert private_data(text) == kinds


def test_a_private_key_is_a_secret_and_a_word_with_a_dash_is_not() -> None:
    assert contains_secret("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert not contains_secret("a risk-free sk-ill")
