"""The web UI as an annotator sees it, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

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
from tests.annotation.server.rest import LABELS, Dataset

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed"),
]

TEXT = "What is <b>this</b>? ![beacon](http://192.0.2.1/pixel.png)"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for flag in [*flags.split(), "disable-component-update", "disable-sync", "window-size=1400,900"]:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
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

    def sees(self, text: str) -> bool:
        return bool(self.wait.until(lambda browser: text in browser.find_element(By.TAG_NAME, "body").text))


def test_an_annotator_logs_in_ticks_a_label_and_submits(
    browser: webdriver.Chrome,
    argilla_home: Path,
    argilla_server: Server,
    ann: httpx.Client,
    new_dataset: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    dataset = new_dataset([TEXT])
    account = next(account for account in accounts(argilla_home) if account.username == "ann")
    page = Page(browser, argilla_server.url)
    page.log_in("ann", account.password)
    page.open(dataset)
    assert page.sees("What is")
    page.label(LABELS[2].title()).click()
    browser.save_screenshot(str(tmp_path / "queue.png"))
    page.button("Submit").click()
    assert page.sees("no pending records")
    browser.save_screenshot(str(tmp_path / "done.png"))
    (answer,) = ann.get(f"/me/datasets/{dataset.id}/metrics").json()["responses"]["submitted"], 
