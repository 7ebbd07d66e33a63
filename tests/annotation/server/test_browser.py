"""The web UI as an annotator sees it, in a real browser."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from marginalia.annotation.server.server_control import RunningServer, accounts
from tests.annotation.page import Page, chromium, needs_browser
from tests.annotation.server.rest import LABELS, QUESTION, Dataset

pytestmark = needs_browser

HOSTILE = """What is <b>this</b>? <img src="http://192.0.2.1/pixel.png" onerror="document.body.append('PWNED')">
<script>document.body.append("PWNED")</script>"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path / "profile") as driver:
        yield driver


@pytest.fixture
def page(browser: webdriver.Chrome, argilla_home: Path, argilla_server: RunningServer, ann: httpx.Client) -> Page:
    """Ann's browser, logged in."""
    account = next(account for account in accounts(argilla_home) if account.username == "ann")
    page = Page(browser, argilla_server.url)
    page.log_in("ann", account.password)
    return page


def test_an_annotator_logs_in_ticks_a_label_and_submits(
    page: Page, ann: httpx.Client, owner: httpx.Client, new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = new_dataset(["How do I whittle a spoon?"])
    page.open(dataset.id)
    assert page.sees("How do I whittle a spoon?")
    page.label(LABELS[2].title()).click()
    page.browser.save_screenshot(str(tmp_path / "queue.png"))
    page.button("Submit").click()
    assert page.sees("no pending records")
    page.browser.save_screenshot(str(tmp_path / "done.png"))
    (record,) = owner.get(f"/datasets/{dataset.id}/records", params={"include": "responses"}).json()["items"]
    (response,) = record["responses"]
    assert (response["status"], response["values"]) == ("submitted", {QUESTION: {"value": [LABELS[2]]}})
    assert response["user_id"] == ann.get("/me").json()["id"]


def test_a_records_text_can_neither_run_a_script_nor_fetch_anything(
    page: Page, owner: httpx.Client, new_dataset: Callable[..., Dataset]
) -> None:
    """In a text field and in a chat field: the UI inserts both into the page as HTML."""
    dataset = new_dataset(["before"])
    fields = {"text": HOSTILE, "context": [{"role": "user", "content": HOSTILE}]}
    changed = {"items": [{"external_id": "r0", "fields": fields}]}
    owner.put(f"/datasets/{dataset.id}/records/bulk", json=changed).raise_for_status()
    page.open(dataset.id)
    assert page.sees("What is this?")
    page.wait.until(lambda browser: browser.find_elements(By.CSS_SELECTOR, "img[src*='192.0.2.1']"))
    assert "PWNED" not in page.browser.find_element(By.TAG_NAME, "body").text
    assert page.hosts_answering() == {page.url.removeprefix("http://")}


def test_an_escaped_text_is_shown_unchanged(page: Page, new_dataset: Callable[..., Dataset]) -> None:
    """Push escapes texts for this reason: annotators must see the text that the guard gets, with its tags and
    entities."""
    text = "a<b c>d <|eot_id|> <END CONVERSATION> &lt;i&gt; **md**"
    page.open(new_dataset([html.escape(text, quote=False)]).id)
    assert page.sees(text)
