"""Servers whose pages never end, repeat themselves, or end too early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from marginalia.annotation.client import changed_records, push_records
from marginalia.schemas.errors import ServiceError
from tests.annotation.runs import SimulatedRun
from tests.hostile.fake_argilla import FakeArgilla

PAGE = 3


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (push_records, changed_records):
        monkeypatch.setattr(module, "PAGE_SIZE", PAGE)


def endless(argilla: FakeArgilla, key: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """Full pages of records with new ids, for ever. `key` puts a record into an item of the page."""

    def page(reply: Any) -> Any:
        records = [{"id": argilla.new_id(), "external_id": argilla.new_id(), "responses": []} for _ in range(PAGE)]
        return {**reply, "items": [key(record) for record in records]}

    return page


@pytest.mark.parametrize("stage", ["pull", "push"])
def test_new_records_for_ever(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun], stage: str) -> None:
    work = pushed()
    argilla.replace["GET", "/records"] = endless(argilla, lambda record: record)
    with pytest.raises(ServiceError, match="unexpected reply: more than the 3 records that it announced"):
        work.stage(stage, force=True)


def test_new_search_results_for_ever(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    work.stage("pull")
    argilla.replace["POST", "/records/search"] = endless(argilla, lambda record: {"record": record})
    with pytest.raises(ServiceError, match="unexpected reply: more than the 3 records that it announced"):
        work.stage("pull")


def test_the_same_full_page_again(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    first = argilla.records_of(0)[:PAGE]
    argilla.replace["GET", "/records"] = lambda reply: {"items": first, "total": 100}
    with pytest.raises(ServiceError, match="unexpected reply: a page from record 3 on repeats earlier records"):
        work.stage("pull")


def test_fewer_records_than_announced(argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]) -> None:
    work = pushed()
    argilla.replace["GET", "/records"] = lambda reply: {"items": [], "total": 3}
    with pytest.raises(ServiceError, match="unexpected reply: 0 of the 3 records that it announced"):
        work.stage("pull")


def test_shorter_pages_than_asked_for_are_read_to_the_end(
    argilla: FakeArgilla, pushed: Callable[..., SimulatedRun]
) -> None:
    work = pushed(texts={f"r{at}": f"text {at}" for at in range(8)})
    for at in range(8):
        argilla.answer(f"r{at}", "ann", labels=["a"])
    argilla.replace["GET", "/records"] = lambda reply: {**reply, "items": reply["items"][:2]}
    assert work.stage("pull").manifest.counts_out["answers"] == 8
