"""The web UI as an annotator sees it, in a real browser."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as until
from selenium.webdriver.support.ui import WebDriverWait

from annotation.server.control import Server, accounts
from tests.annotation.server.rest import LABELS, QUESTION, Dataset

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

SENT = "Network.requestWillBeSent"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed"),
]

HOSTILE = """What is <b>this</b>? <img src="http://192.0.2.1/pixel.png" onerror="document.body.append('PWNED')">
<script>document.body.append("PWNED")</script>"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for flag in [*flags.split(), "disable-component-update", "disable-sync", "window-size=1400,900"]:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """The annotation page, found by what a person sees on it."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser, self.url = browser, url
        self.wait = WebDriverWait(browser, 20)

    def log_in(self, username: str, password: str) -> None:
        self.browser.get(f"{self.url}/sign-in")
        self.field("Username").send_keys(username)
        self.field("Password").send_keys(password)
        self.button("Sign in").click()
        self.wait.until(lambda browser: "sign-in" not in browser.current_url)

    def open(self, dataset: Dataset) -> None:
        self.browser.get(f"{self.url}/dataset/{dataset.id}/annotation-mode?_page=1&_status=pending")

    def field(self, name: str) -> WebElement:
        return self.wait.until(until.element_to_be_clickable((By.CSS_SELECTOR, f"input[name='{name}']")))

    def button(self, text: str) -> WebElement:
        return self.wait.until(until.element_to_be_clickable((By.XPATH, f"//button[contains(., '{text}')]")))

    def label(self, text: str) -> WebElement:
        return self.wait.until(until.element_to_be_clickable((By.XPATH, f"//label[contains(., '{text}')]")))

    def hosts_answering(self) -> set[str]:
        """Hosts (with port) that requests of the page went to, as far as the browser let them go out."""
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        urls = {e["params"]["requestId"]: e["params"]["request"]["url"] for e in events if e["method"] == SENT}
        refused = {e["params"]["requestId"] for e in events if e["params"].get("blockedReason")}
        return {
            urlsplit(url).netloc for request, url in urls.items() if url.startswith("http") and request not in refused
        }

    def sees(self, text: str) -> bool:
        return bool(self.wait.until(lambda browser: text in browser.find_element(By.TAG_NAME, "body").text))


@pytest.fixture
def page(browser: webdriver.Chrome, argilla_home: Path, argilla_server: Server, ann: httpx.Client) -> Page:
    """Ann's browser, logged in."""
    account = next(account for account in accounts(argilla_home) if account.username == "ann")
    page = Page(browser, argilla_server.url)
    page.log_in("ann", account.password)
    return page


def test_an_annotator_logs_in_ticks_a_label_and_submits(
    page: Page, ann: httpx.Client, owner: httpx.Client, new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = new_dataset(["How do I whittle a spoon?"])
    page.open(dataset)
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
    """As text and in a chat: the UI puts both into the page as HTML."""
    dataset = new_dataset(["before"])
    fields = {"text": HOSTILE, "context": [{"role": "user", "content": HOSTILE}]}
    changed = {"items": [{"external_id": "r0", "fields": fields}]}
    owner.put(f"/datasets/{dataset.id}/records/bulk", json=changed).raise_for_status()
    page.open(dataset)
    assert page.sees("What is this?")
    page.wait.until(lambda browser: browser.find_elements(By.CSS_SELECTOR, "img[src*='192.0.2.1']"))
    assert "PWNED" not in page.browser.find_element(By.TAG_NAME, "body").text
    assert page.hosts_answering() == {page.url.removeprefix("http://")}


def test_an_escaped_text_is_shown_unchanged(page: Page, new_dataset: Callable[..., Dataset]) -> None:
    """So push escapes: an annotator must judge the text that the guard gets, tags and entities included."""
    text = "a<b c>d <|eot_id|> <END CONVERSATION> &lt;i&gt; **md**"
    page.open(new_dataset([html.escape(text, quote=False)]))
    assert page.sees(text)
