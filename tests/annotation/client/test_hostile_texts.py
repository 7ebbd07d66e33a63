"""Hostile versions of every text that reaches the annotators' page from outside, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from selenium.webdriver.common.by import By

from marginalia.annotation.server.server_control import accounts
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import PromptRecord
from tests.annotation.page import Page, chromium, needs_browser
from tests.annotation.runs import SimulatedRun

pytestmark = [*needs_browser, pytest.mark.slow]

IMAGE = '<img src="http://192.0.2.1/x.png" onerror="document.title=\'PWNED\'">'
BREAKOUT = IMAGE + "<b>{}</b> [x](javascript:alert(1)) {{{{7*7}}}}"
RECORD = BREAKOUT.format("record") + " &lt;i&gt; <|eot_id|> **md** <END CONVERSATION>"
IN_GUIDELINES = (
    "title",
    "subject",
    "notice",
    "none",
    "nothing",
    "name",
    "definition",
    "includes",
    "excludes",
    "example",
)


def hostile(where: str) -> str:
    return BREAKOUT.format(where)


@pytest.fixture
def work(new_run: Callable[..., SimulatedRun]) -> SimulatedRun:
    """A run in which every text of the taxonomy and the record is an attack."""
    section = {"suggestions": True, "control_share": 0.0, "annotators": 3, "severity": [hostile("level"), "much"]}
    made = new_run(texts={"r1": RECORD}, intended={"r1": ["b"]}, annotation=section)
    label = {name: hostile(name) for name in ("name", "definition")}
    label |= {name: [hostile(name)] for name in ("includes", "excludes")}
    taxonomy = {
        "id": "hostile",
        "version": "1",
        "title": hostile("title"),
        "subject": hostile("subject"),
        "content_notice": hostile("notice"),
        "none": {"name": hostile("none"), "definition": hostile("nothing")},
        "labels": [
            {"id": "a", **label, "examples": [hostile("example")]},
            {"id": "b", "name": "Boats & <i>ships</i>", "definition": "About boats."},
        ],
    }
    (made.folder / "taxonomy.yaml").write_text(json.dumps(taxonomy))
    prompts = pl.read_parquet(made.folder / "prompts.parquet")
    messages = [{"role": "user", "content": RECORD}, {"role": "<b>boss</b>", "content": hostile("answer")}]
    written = prompts.with_columns(messages=pl.Series([messages], dtype=prompts.schema["messages"]))
    write_frame(made.folder / "prompts.parquet", written, PromptRecord)
    return made


def opened(work: SimulatedRun, browser: object, username: str, file: str) -> Page:
    page = Page(browser, work.url)  # type: ignore[arg-type]
    page.log_in(username, next(account.password for account in accounts(work.home) if account.username == username))
    page.open(work.pushed(file)["dataset_id"])
    page.wait.until(lambda shown: shown.find_elements(By.CSS_SELECTOR, "input[type='checkbox']"))
    return page


def assert_only_text(page: Page) -> None:
    """No text became an element of the page, ran as a script, or was fetched."""
    for selector in ("img[src*='192.0.2.1']", "a[href^='javascript']", "[onerror]"):
        assert page.browser.find_elements(By.CSS_SELECTOR, selector) == []
    assert "PWNED" not in page.browser.title
    assert page.hosts_answering() == {page.url.removeprefix("http://")}


def test_annotators_and_experts_see_every_text_of_a_run_as_text(work: SimulatedRun, tmp_path: Path) -> None:
    work.stage("push")
    with chromium(tmp_path / "ann") as browser:
        page = opened(work, browser, "ann", "push.json")
        assert page.sees(RECORD)
        for text in (hostile("answer"), "<b>boss</b>", hostile("name"), "Boats & <i>ships</i>", hostile("level")):
            assert text in page.text
        page.browser.find_element(By.XPATH, "//*[contains(text(), 'uidelines')]").click()
        for where in IN_GUIDELINES:
            assert page.sees(hostile(where)), where
        assert_only_text(page)
        page.browser.save_screenshot(str(tmp_path / "ann.png"))

    work.answer("ben", {"r1": ["none"]}, note=hostile("note"))
    work.answer("ann", {"r1": ["a"]}, **{"severity-a": "1", "severity-b": "2"})
    for stage in ("pull", "reconcile", "adjudicate"):
        work.stage(stage)
    with chromium(tmp_path / "eva") as browser:
        page = opened(work, browser, "eva", "adjudicate.json")
        assert page.sees(f"{hostile('name')}: 1 of 2")
        assert f"Note: “{hostile('note')}”" in page.text
        assert_only_text(page)
        page.browser.save_screenshot(str(tmp_path / "eva.png"))
