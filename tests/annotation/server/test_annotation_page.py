"""The changes to Argilla's annotation page, without a server. What they do is tested in a browser
(client/test_many_labels.py)."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path
from typing import Any

import pytest

import marginalia.annotation.server.server_process as server_process

PAGE = "<head></head><body></body>"
SCRIPTS = {  # the code of Argilla 2.8.0 that calls are added to
    "options.js": 'a={name:"LabelSelectionComponent",keyboards:function keyboards(){return this.options.reduce(f,{})},'
    "keyboardHandler:function keyboardHandler(t){var e}}",
    "spans.js": 'a={name:"EntityLabelSelectionComponent",keyboards:function keyboards(){return 1},'
    "keyboardHandler:function keyboardHandler(t){var e}}",
    "form.js": 't("div",{attrs:{"aria-label":"List of annotation questions"}},e._l(e.questions,(function(i,n){})));'
    "numberOfQuestions:function numberOfQuestions(){return this.record.questions.length}",
}


@pytest.fixture
def annotation_page() -> dict[str, Any]:
    return runpy.run_path(str(server_process.LAUNCHER.with_name("annotation_page.py")))


def make_ui(folder: Path, scripts: dict[str, str]) -> dict[str, str]:
    files = {**scripts, "index.html": PAGE}
    for name, text in files.items():
        (folder / name).write_text(text)
    return files


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_calls_are_added_where_they_belong(annotation_page: dict[str, Any], tmp_path: Path) -> None:
    before = make_ui(tmp_path, SCRIPTS)
    annotation_page["adapt"](tmp_path, "/argilla/")
    after = read(tmp_path)
    assert "{return self.annotationPage?self.annotationPage.keys(this.options):this.options." in after["options.js"]
    assert "(t){if(self.annotationPage&&self.annotationPage.pressed(this,t))return;var e}" in after["options.js"]
    assert "_l(self.annotationPage?self.annotationPage.shown(e.questions):e.questions,(" in after["form.js"]
    assert "shown(this.record.questions):this.record.questions).length" in after["form.js"]
    assert after["spans.js"] == before["spans.js"]
    for name in ("annotation_page.js", "annotation_page.css"):
        assert f'"/argilla/{name}"' in after["index.html"]
        assert after[name]


@pytest.mark.parametrize("name", ["options.js", "form.js"])
def test_a_page_with_other_code_stays_as_it_is(
    annotation_page: dict[str, Any], tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = make_ui(tmp_path, {**SCRIPTS, name: SCRIPTS[name].replace("function", "function ")})
    with caplog.at_level(logging.WARNING):
        annotation_page["adapt"](tmp_path, "/")
    assert read(tmp_path) == before
    assert "the annotation page is Argilla's own" in caplog.text
