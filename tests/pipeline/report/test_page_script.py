"""The page's script and its data: one script under a policy that names its hash, and texts that stay data."""

from __future__ import annotations

import base64
import hashlib
import json

from marginalia.pipeline.report.page_script import content_policy, json_data, page_script


def test_the_policy_names_the_hash_of_the_script() -> None:
    digest = base64.b64encode(hashlib.sha256(page_script().encode()).digest()).decode()
    expected = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert content_policy(page_script()) == expected


def test_the_script_sets_no_markup_and_cannot_end_its_element() -> None:
    for forbidden in (
        "</",
        "<!--",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
    ):
        assert forbidden not in page_script()


def test_data_cannot_end_its_element_and_is_read_back() -> None:
    value = {"</script><!--": ["<script>alert(1)</script>", "a & b", 0.5, None, True]}
    text = json_data(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_data_holds_no_text_that_reorders_the_page() -> None:
    assert json.loads(json_data(["\u202egnp.exe", "bell \x07"])) == ["gnp.exe", "bell \ufffd"]
