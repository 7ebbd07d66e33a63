"""Argilla's pages with 14 labels: by keyboard, on a laptop's screen and on a phone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from marginalia.annotation.server.server_control import accounts
from marginalia.schemas.taxonomy import SHIPPED, load_taxonomy
from tests.annotation.page import Page, chromium, needs_browser
from tests.annotation.runs import SimulatedRun

pytestmark = [*needs_browser, pytest.mark.slow]

LABELS = [*load_taxonomy("llama-guard-3").ids, "none"]
KEYS = {label: f"{at:02d}" for at, label in enumerate(LABELS, start=1)}
FINISHED = "input[data-keyboard]:checked"
PAUSE = 0.6  # seconds; Argilla's own page waits 0.3 for a second digit
LAPTOP, PHONE = (1366, 768), (390, 844)
NewRun = Callable[..., SimulatedRun]


def run_with_many_labels(new_run: NewRun, texts: dict[str, str], **annotation: object) -> SimulatedRun:
    work = new_run(texts=texts, annotation=annotation)
    (work.folder / "taxonomy.yaml").write_bytes((SHIPPED / "llama-guard-3.yaml").read_bytes())
    work.stage("push")
    return work


@contextmanager
def opened(work: SimulatedRun, profile: Path, size: tuple[int, int] = LAPTOP) -> Iterator[Page]:
    """The annotation page of `ann`, in a window whose page has this size."""
    password = next(account.password for account in accounts(work.home) if account.username == "ann")
    with chromium(profile) as browser:
        page = Page(browser, work.url)
        page.log_in("ann", password)
        resize(page, size)
        page.open(work.pushed()["dataset_id"])
        page.label("Violent crimes")
        page.wait.until(lambda browser: browser.switch_to.active_element.get_attribute("data-keyboard"))
        yield page


def resize(page: Page, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def at_once(page: Page, keys: str) -> None:
    ActionChains(page.browser).send_keys(keys).perform()


def ticked(page: Page) -> set[str]:
    """What is ticked, as question_option."""
    return {str(option.get_attribute("id")) for option in page.browser.find_elements(By.CSS_SELECTOR, FINISHED)}


def ready(page: Page, texts: dict[str, str]) -> str | None:
    """The record that is shown, when keys arrive in its questions."""
    shown, focus = page.browser.execute_script(
        "return [document.body.innerText, document.activeElement.hasAttribute('data-keyboard')"
        f" && !document.querySelector('{FINISHED}')]"  # the form of the record before has ticked options
    )
    return next((record for record, text in texts.items() if focus and text in shown), None)


def gone(page: Page, text: str) -> bool:
    """Whether the record with this text leaves the page within five seconds."""
    try:
        WebDriverWait(page.browser, 5, 0.05).until(
            lambda browser: text not in browser.execute_script("return document.body.innerText")
        )
    except TimeoutException:
        return False
    return True


def labels(*names: str) -> set[str]:
    return {f"labels_{name}" for name in names}


def saved(work: SimulatedRun) -> dict[str, tuple[str, list[str]]]:
    """Status and labels of the only answer of each answered record."""
    answers = {}
    for record in work.on_server(responses=True):
        for response in record["responses"]:
            ticked = response["values"].get("labels", {"value": []})["value"] if response["values"] else []
            answers[record["external_id"]] = (response["status"], sorted(ticked))
    return answers


def test_fifty_records_by_keyboard_are_stored_as_they_were_meant(new_run: NewRun, tmp_path: Path) -> None:
    texts = {f"r{at:02d}": f"record number {at:02d}" for at in range(50)}
    choice = random.Random(7)
    meant = {record: sorted(choice.sample(LABELS[:-1], choice.choice([1, 2, 3]))) for record in texts}
    meant |= {"r10": ["none"], "r20": ["none"], "r30": [], "r40": []}
    meant |= {"r00": ["sexual_content", "violent_crimes"], "r01": ["non_violent_crimes", "violent_crimes"]}
    work = run_with_many_labels(new_run, texts)
    with opened(work, tmp_path / "ann") as page:
        left = dict(meant)
        while left:
            record = page.wait.until(lambda _: ready(page, {one: texts[one] for one in left}))
            names = left.pop(record)
            keys = "".join(KEYS[name] for name in sorted(names, key=lambda name: choice.random()))
            if record.endswith("5"):  # slowly
                for key in keys:
                    at_once(page, key)
                    time.sleep(PAUSE)
                keys = ""
            end = Keys.RETURN if names else Keys.BACKSPACE
            at_once(page, keys + end)
            if not gone(page, texts[record]):  # on a busy machine the page may not see the key; people press it again
                at_once(page, end)
        page.wait.until(lambda _: len(saved(work)) == len(meant))
    assert saved(work) == {
        record: ("submitted", names) if names else ("discarded", []) for record, names in meant.items()
    }


def test_a_key_is_read_in_one_way_at_every_speed(new_run: NewRun, tmp_path: Path) -> None:
    work = run_with_many_labels(new_run, {"r1": "first record", "r2": "second record"})
    with opened(work, tmp_path / "ann") as page:
        shown = page.browser.find_elements(By.CSS_SELECTOR, "[aria-label='Question: labels'] .key")
        assert [key.text for key in shown] == list(KEYS.values())
        at_once(page, "1")
        time.sleep(PAUSE)
        assert ticked(page) == set()
        dimmed = [
            key.text
            for key in shown
            if "opacity: 0.35" in key.find_element(By.XPATH, "../../..").get_attribute("style")
        ]
        assert dimmed == [key for key in KEYS.values() if not key.startswith("1")]
        at_once(page, "2")
        assert ticked(page) == labels("sexual_content")
        at_once(page, "0103")
        assert ticked(page) == labels("sexual_content", "violent_crimes", "sex_related_crimes")
        at_once(page, "99" + "01")
        assert ticked(page) == labels("sexual_content", "sex_related_crimes")
        before = page.text
        for cancels in (Keys.RETURN, Keys.BACKSPACE, Keys.ESCAPE):  # neither submits nor discards with half a key
            at_once(page, "0" + cancels)
            time.sleep(PAUSE)
            assert page.text == before
            assert saved(work) == {}
        at_once(page, "03" + Keys.RETURN)
        page.wait.until(lambda _: list(saved(work).values()) == [("submitted", ["sexual_content"])])


def test_a_label_is_found_by_letters_of_its_name(new_run: NewRun, tmp_path: Path) -> None:
    work = run_with_many_labels(new_run, {"r1": "a record"})
    with opened(work, tmp_path / "ann") as page:
        at_once(page, "S")  # the first letter goes to the search
        at_once(page, "elf")
        options = "[aria-label='Question: labels'] input[data-keyboard]"
        page.wait.until(lambda browser: len(browser.find_elements(By.CSS_SELECTOR, options)) == 1)
        at_once(page, Keys.RETURN)
        page.wait.until(lambda browser: len(browser.find_elements(By.CSS_SELECTOR, options)) == len(LABELS))
        assert ticked(page) == labels("suicide_self_harm")
        at_once(page, "hate")
        page.wait.until(lambda browser: len(browser.find_elements(By.CSS_SELECTOR, options)) == 1)
        at_once(page, Keys.ESCAPE)
        page.wait.until(lambda browser: browser.switch_to.active_element.get_attribute("data-keyboard") == KEYS["hate"])
        at_once(page, "13")
        assert ticked(page) == labels("suicide_self_harm", "elections")
        at_once(page, Keys.RETURN)
        page.wait.until(lambda _: saved(work) == {"r1": ("submitted", ["elections", "suicide_self_harm"])})


def test_severity_is_asked_of_ticked_labels_and_fits_on_a_laptop(new_run: NewRun, tmp_path: Path) -> None:
    work = run_with_many_labels(new_run, {"r1": "a record"}, severity=["minor", "serious", "extreme"])
    with opened(work, tmp_path / "ann") as page:

        def asked() -> list[str]:
            found = page.browser.find_elements(By.CSS_SELECTOR, "[aria-label^='Question: ']")
            return [str(question.get_attribute("aria-label")).removeprefix("Question: ") for question in found]

        assert asked() == ["labels", "unsure", "note"]
        at_once(page, "010512")
        severe = ["severity-violent_crimes", "severity-defamation", "severity-sexual_content"]
        page.wait.until(lambda _: asked() == ["labels", *severe, "unsure", "note"])
        time.sleep(PAUSE)  # the page moves to its new layout
        form = page.browser.find_element(By.CSS_SELECTOR, ".questions-form__content")
        assert int(form.get_property("scrollHeight")) <= int(form.get_property("clientHeight"))
        page.press(Keys.ARROW_DOWN)
        for question, level in zip(severe, "213", strict=True):
            page.wait.until(
                lambda browser, at=question: browser.switch_to.active_element.get_attribute("id").startswith(at)
            )
            page.press(level)
        page.wait.until(lambda browser: browser.switch_to.active_element.get_attribute("id").startswith("unsure"))
        page.press(Keys.RETURN)
        page.wait.until(lambda _: saved(work))
    (answer,) = work.on_server(responses=True)[0]["responses"]
    assert {question: given["value"] for question, given in answer["values"].items()} == {
        "labels": ["violent_crimes", "defamation", "sexual_content"],
        **dict(zip(severe, "213", strict=True)),
    }


def test_the_guidelines_fit_on_a_phone(new_run: NewRun, tmp_path: Path) -> None:
    work = run_with_many_labels(new_run, {"r1": "a record"})
    taxonomy = work.folder / "taxonomy.yaml"
    words = "definition: About Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetze,"
    taxonomy.write_text(taxonomy.read_text().replace("definition: Asks", f"{words} asks", 1))
    work.stage("push")
    with opened(work, tmp_path / "ann", PHONE) as page:
        names = page.browser.find_elements(By.XPATH, "//p[text()='Guidelines']")
        next(name for name in names if name.is_displayed()).click()
        page.sees("Rindfleisch")
        wider = """return [...document.querySelectorAll('*')].filter((one) =>
            one.getBoundingClientRect().width && one.getBoundingClientRect().right > innerWidth + 1
            || one.clientWidth && one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX != 'visible'
        ).map((one) => one.outerHTML.slice(0, 100))"""
        assert page.browser.execute_script(wider) == []
        assert page.browser.execute_script("return document.documentElement.scrollWidth") == PHONE[0]
