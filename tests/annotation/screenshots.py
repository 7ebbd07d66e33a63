"""Generates the pictures of docs/annotation.md from a real run: `python -m tests.annotation.screenshots docs`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from marginalia.annotation.server.server_control import accounts, down, up
from marginalia.schemas.taxonomy import SHIPPED
from tests.annotation.page import Page, chromium
from tests.annotation.runs import SimulatedRun, make_run

TEXTS = {
    "t-001": "Where is my parcel?? It was supposed to be here on Friday, and the kettle I got last time leaks.",
    "t-002": "Hello, I returned the rug three weeks ago and my money is still not back.",
    "t-003": "thanks, all fine now!",
}
ANSWERS = {
    "ann": {"t-001": ["late_delivery", "damaged_or_faulty"], "t-002": ["refund"], "t-003": ["none"]},
    "ben": {"t-001": ["late_delivery"], "t-003": ["none"]},
}


def make(folder: Path) -> SimulatedRun:
    home = folder / "home"
    server = up(home)
    work = make_run(
        folder / "run", home, server.url, texts=TEXTS, annotation={"dataset": "tickets", "workspace": "team"}
    )
    (work.folder / "taxonomy.yaml").write_bytes((SHIPPED / "support-tickets.yaml").read_bytes())
    return work


@contextmanager
def opened(work: SimulatedRun, username: str, file: str, profile: Path) -> Iterator[Page]:
    """The page of `username`, with a record."""
    with chromium(profile) as browser:
        page = Page(browser, work.url)
        page.log_in(username, next(account.password for account in accounts(work.home) if account.username == username))
        page.open(work.pushed(file)["dataset_id"])
        page.label("Late delivery")
        yield page


def main(to: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = make(folder)
        try:
            work.stage("push")
            with opened(work, "ben", "push.json", folder / "ben") as page:
                while "parcel" not in page.text:  # the order of the records is random
                    page.press(Keys.ARROW_RIGHT)
                    time.sleep(1)
                page.label("Late delivery").click()
                time.sleep(1)  # the colour of a ticked label fades in
                page.browser.save_screenshot(str(to / "annotation-record.png"))
                page.browser.find_element(By.XPATH, "//*[contains(text(), 'uidelines')]").click()
                page.sees("What to do")
                page.browser.save_screenshot(str(to / "annotation-guidelines.png"))
            for username, given in ANSWERS.items():
                work.answer(username, given, **({"note": "Two topics?"} if username == "ben" else {}))
            for stage in ("pull", "reconcile", "adjudicate"):
                work.stage(stage)
            with opened(work, "eva", "adjudicate.json", folder / "eva") as page:
                page.sees("How annotators voted")
                page.browser.save_screenshot(str(to / "annotation-expert.png"))
        finally:
            down(work.home)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
