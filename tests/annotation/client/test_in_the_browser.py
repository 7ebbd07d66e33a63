"""Three annotators and an expert at work in the web UI, by keyboard, and the gold that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from marginalia.annotation.server.server_control import accounts
from tests.annotation.page import Page, chromium, needs_browser
from tests.annotation.runs import SimulatedRun

pytestmark = [*needs_browser, pytest.mark.slow]

TEXTS = {"r1": "record number one", "r2": "record number two", "r3": "record number three", "r4": "record number four"}
KEYS = {"a": "1", "b": "2", "c": "3", "none": "4"}
SKIP = None


def work_through(
    work: SimulatedRun,
    username: str,
    answers: Mapping[str, str | list[str] | None],
    profile: Path,
    *,
    file: str = "push.json",
    note: tuple[str, str] | None = None,
) -> None:
    """`username` logs in and answers the records in the order in which Argilla shows them. `answers`: labels by record,
    or SKIP."""
    password = next(account.password for account in accounts(work.home) if account.username == username)
    with chromium(profile) as browser:
        page = Page(browser, work.url)
        page.log_in(username, password)
        page.open(work.pushed(file)["dataset_id"])
        left = dict(answers)
        while left:
            record = page.wait.until(lambda _: shown(page, left))
            page.label("Apples")  # the questions are there
            labels = left.pop(record)
            if labels is SKIP:
                page.press(Keys.BACKSPACE)
            else:
                for count, tick in enumerate(labels, start=1):
                    page.press(KEYS[tick])
                    page.wait.until(lambda _, expected=count: ticked(page) == expected)
                if note is not None and note[0] == record:
                    area = browser.find_element(By.CSS_SELECTOR, "[contenteditable='true'], textarea")
                    area.click()
                    page.press(note[1])
                    page.press(Keys.ESCAPE)
                browser.save_screenshot(str(profile.parent / f"{username}-{record}.png"))
                page.press(Keys.RETURN)  # Selenium's ENTER is the keypad's
            page.wait.until(lambda _, gone=record: TEXTS[gone] not in page.text)
        page.wait.until(lambda _: saved(work, username, file) == len(answers))


def saved(work: SimulatedRun, username: str, file: str) -> int:
    """Answers of this person that the server has."""
    with work.as_user("owner") as owner:
        users = owner.get(f"/datasets/{work.pushed(file)['dataset_id']}/users/progress")["users"]
    own = next((user for user in users if user["username"] == username), {})
    return sum(sum(own.get(state, {}).values()) for state in ("completed", "pending"))


def ticked(page: Page) -> int:
    return len(page.browser.find_elements(By.CSS_SELECTOR, "input[type='checkbox']:checked"))


def shown(page: Page, left: Mapping[str, object]) -> str | None:
    return next((record for record in left if TEXTS[record] in page.text), None)


def test_three_annotators_and_an_expert_make_the_gold_computed_by_hand(
    new_run: Callable[..., SimulatedRun], tmp_path: Path
) -> None:
    work = new_run(texts=TEXTS, annotation={"team": ["ann", "ben", "carl"], "annotators": 3})
    work.stage("push")
    work_through(work, "ann", {"r1": ["a"], "r2": ["a", "b"], "r3": ["none"], "r4": SKIP}, tmp_path / "ann")
    noted = ("r3", "A note")
    work_through(work, "ben", {"r1": ["a"], "r2": ["a"], "r3": ["c"], "r4": ["b"]}, tmp_path / "ben", note=noted)
    work_through(work, "carl", {"r1": ["a", "c"], "r2": ["b"], "r3": SKIP, "r4": ["b"]}, tmp_path / "carl")
    work.stage("pull")
    counts = work.stage("reconcile").manifest.counts_out
    # r1: a 3 of 3, c 1 of 3. r2: a and b 2 of 3. r3: c 1 of 2, a tie. r4: b 2 of 2
    assert (counts["final"], counts["needs_adjudication"]) == (3, 1)
    work.stage("adjudicate")
    work_through(work, "eva", {"r3": ["b", "c"]}, tmp_path / "eva", file="adjudicate.json")
    work.stage("pull")
    work.stage("reconcile")
    gold = pl.read_parquet(work.folder / "gold.parquet").sort("id")
    assert gold["labels"].to_list() == [["a"], ["a", "b"], ["b", "c"], ["b"]]
    assert gold["adjudicated"].to_list() == [False, False, True, False]
    assert gold["n_annotators"].to_list() == [3, 3, 2, 2]
    ben = work.annotations().filter(annotator=work.pseudonym("ben"), record_id="r3")
    assert ben["note"].to_list() == ["A note"]
    assert work.annotations().filter(status="discarded").height == 2
