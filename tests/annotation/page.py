"""Argilla's annotation page in a real browser; its elements are found by their visible text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as until
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SENT = "Network.requestWillBeSent"

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed"),
]


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for flag in [*flags.split(), "disable-component-update", "disable-sync", "window-size=1400,900"]:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The annotation page; its elements are found by their visible text."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser, self.url = browser, url
        self.wait = WebDriverWait(browser, 20, poll_frequency=0.05)

    def log_in(self, username: str, password: str) -> None:
        self.browser.get(f"{self.url}/sign-in")
        self.field("Username").send_keys(username)
        self.field("Password").send_keys(password)
        self.button("Sign in").click()
        self.wait.until(lambda browser: "sign-in" not in browser.current_url)

    def open(self, dataset_id: str) -> None:
        self.browser.get(f"{self.url}/dataset/{dataset_id}/annotation-mode?_page=1&_status=pending")

    def press(self, *keys: str) -> None:
        """Presses keys one at a time, in the element that has the focus."""
        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

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

    @property
    def text(self) -> str:
        """The visible text of the page."""
        return str(self.browser.find_element(By.TAG_NAME, "body").text)

    def sees(self, text: str) -> bool:
        return bool(self.wait.until(lambda browser: text in browser.find_element(By.TAG_NAME, "body").text))
