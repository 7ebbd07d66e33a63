from __future__ import annotations

import pytest

from marginalia.pipeline.generation.acceptance.reserved_identifiers import clean


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
    result = clean(text)
    assert result.text == cleaned
    assert result.replaced == (kind,)
    assert result.refused is None


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
    result = clean(text)
    assert result.replaced == ("phone number",)
    assert result.text.startswith(("call 555-01", "phone: 555-01"))
    assert not any(part in result.text for part in ("867", "901820"))


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
    assert clean(text).replaced == ()


def test_cleaning_twice_changes_nothing() -> None:
    once = clean("jo@gmail.com, 212-867-5309, 078-05-1120, http://acme.io/x, 4539148803436467").text
    assert clean(once).text == once


def test_an_account_number_has_no_reserved_form() -> None:
    assert clean("pay to DE89 3704 0044 0532 0130 00 please").refused == "account number (IBAN)"
    assert clean("pay to DE88 3704 0044 0532 0130 00 please").refused is None  # the check digits are wrong


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("連絡先はtaro.yamada@gmail.comです。", "連絡先はname@example.comです。"),
        ("メールは太郎＠gmail.comまで", "メールは太郎＠gmail.comまで"),  # a name is no address
        ("メールはtaro＠gmail.comまで", "メールはname@example.comまで"),
        ("詳細はhttps://www.acme.co.jp/a?b=1をご覧ください", "詳細はhttps://example.comをご覧ください"),
        ("Schreiben Sie an jürgen.groß@web.de, bitte", "Schreiben Sie an name@example.com, bitte"),
        ("Mehr auf www.müller-shop.de/angebot.", "Mehr auf https://example.com"),
    ],
)
def test_no_space_need_stand_around_an_identifier(text: str, cleaned: str) -> None:
    assert clean(text).text == cleaned
    assert clean(cleaned).text == cleaned


@pytest.mark.parametrize(
    ("before", "number", "after"),
    [
        ("電話は", "090-1234-5678", "までお願いします。"),
        ("電話は", "０９０－１２３４－５６７８", "です。"),
        ("", "03-1234-5678", "に連絡してください。"),
        ("フリーダイヤル", "0120-123-456", "は話し中です。"),
        ("携帯は", "09012345678", "です。"),
        ("Sie erreichen mich unter ", "0171 1234567", " oder abends."),
        ("Rückruf bitte an ", "030/1234567", "!"),
        ("Meine Nummer: ", "+49 171 1234567", "."),
        ("Meine Handynummer lautet ", "01711234567", "."),
        ("मेरा फ़ोन नंबर ", "9876543210", " है।"),
        ("रقم هاتفي ", "0501234567", "."),
        ("رقم جوالي ", "٠٥٠١٢٣٤٥٦٧", "."),
    ],
)
def test_telephone_numbers_elsewhere(before: str, number: str, after: str) -> None:
    result = clean(before + number + after)
    assert result.replaced == ("phone number",)
    assert result.text.startswith(f"{before}555-01")
    assert result.text.endswith(after)
    assert len(result.text) == len(before + after) + len("555-0100")
    assert clean(result.text).text == result.text


@pytest.mark.parametrize(
    "text",
    [
        "Die Bestellung 0815-4711 vom 05-11-2026 fehlt, Kundennummer 0042 123456.",
        "注文番号は2026-11-24-0042、金額は1,280円、2026年11月24日です。",
        "〒100-0001 千代田区の店舗です。",
        "Am 24.11.2026 um 09:30 Uhr, 0,75 Liter, 01.02.2026",
        "طلب رقم 44712 بتاريخ 2026-11-24",
    ],
)
def test_dates_and_orders_elsewhere_stay(text: str) -> None:
    assert clean(text).text == text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("口座はDE89370400440532013000です。", "account number (IBAN)"),
        ("bitte auf de89370400440532013000 überweisen", "account number (IBAN)"),
        ("マイナンバーは1234 5678 9012です。", "national identity number"),
        ("मेरा आधार नंबर 2345 6789 0123 है।", "national identity number"),
        ("Meine Steuer-ID ist 12 345 678 901.", "national identity number"),
    ],
)
def test_numbers_for_which_nothing_is_reserved_elsewhere(text: str, kind: str) -> None:
    assert clean(text).refused == kind
