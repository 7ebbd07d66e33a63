"""Changes to Argilla's annotation page: what annotation_page.js and annotation_page.css do.

Argilla has no settings for these and is delivered as compiled scripts. So calls are added to the copy of the scripts
that the server makes at each start. Argilla's own code stays next to each call, for a browser that has an older page in
its cache."""

import logging
import re
import shutil
from pathlib import Path

SCRIPT, STYLE = "annotation_page.js", "annotation_page.css"
TAGS = f'<script src="@@/{SCRIPT}"></script><link rel="stylesheet" href="@@/{STYLE}"></head>'
OPTIONS = 'name:"LabelSelectionComponent"'  # the options of one question; a similar component marks spans of text
# code of Argilla 2.8.0 → the code with a call; in scripts that contain the first text
CALLS = [
    (
        OPTIONS,
        r"(keyboards:function keyboards\(\)\{return )",
        r"\1self.annotationPage?self.annotationPage.keys(this.options):",
    ),
    (
        OPTIONS,
        r"(keyboardHandler:function keyboardHandler\((\w)\)\{)",
        r"\1if(self.annotationPage&&self.annotationPage.pressed(this,\2))return;",
    ),
    (
        "List of annotation questions",
        r'("List of annotation questions"\}\},(\w)\._l\()(\2\.questions),',
        r"\1self.annotationPage?self.annotationPage.shown(\3):\3,",
    ),
    (
        "numberOfQuestions()",
        r"(numberOfQuestions:function numberOfQuestions\(\)\{return )(this\.record\.questions)\.length",
        r"\1(self.annotationPage?self.annotationPage.shown(\2):\2).length",
    ),
]


def adapt(ui: Path, base_url: str) -> None:
    """Change the web UI in the folder `ui`. If its code is not the expected one, it stays as it is, with a warning in
    the log: people can annotate with Argilla's own page."""
    scripts = {path: path.read_text("utf-8") for path in ui.rglob("*.js")}
    changed = dict(scripts)
    for where, code, with_call in CALLS:
        found = 0
        for path, text in changed.items():
            if where in text:
                changed[path], count = re.subn(code, with_call, text)
                found += count
        if not found:
            logging.getLogger(__name__).warning("the annotation page is Argilla's own: its code has no %s", code)
            return
    for path, text in changed.items():
        if text != scripts[path]:
            path.write_text(text, "utf-8")
    for name in (SCRIPT, STYLE):
        shutil.copyfile(Path(__file__).parent / name, ui / name)
    tags = TAGS.replace("@@", base_url.removesuffix("/"))
    for page in ui.rglob("*.html"):
        page.write_text(page.read_text("utf-8").replace("</head>", tags), "utf-8")
