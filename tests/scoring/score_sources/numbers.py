"""What the tests of guards with numbers from elsewhere share: a taxonomy, guard files, records and a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from marginalia.scoring.score_request import EndpointOptions
from marginalia.scoring.scorer import Scorer
from tests.number_server import NumberServer

TEXTS = ["hello", "Where is my parcel?", "I want my money back", "x", "The lamp is broken, and so on"]
RECORDS = [(f"r{n}", [{"role": "user", "content": text}]) for n, text in enumerate(TEXTS)]
TALK = [*RECORDS[1][1], {"role": "assistant", "content": "On its way."}]
LABELS = {"hate": "Hate", "violence": "Violence"}
QUESTIONS = {"question": "Is it about {{ category.code }}?", "unsafe": "Is it about any of these?"}


def write_taxonomy(folder: Path, labels: dict[str, str] | None = None) -> Path:
    rows = [{"id": name, "name": title, "definition": f"About {title}."} for name, title in (labels or LABELS).items()]
    content = {"id": "two", "version": "1", "title": "Two", "subject": "texts", "labels": rows}
    path = folder / "taxonomy.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def write_guard(folder: Path, kind: str, **keys: Any) -> Path:
    """The path of a guard file of this kind for LABELS, with these keys."""
    write_taxonomy(folder)
    path = folder / f"my-{kind}.yaml"
    content = {"kind": kind, "taxonomy": "taxonomy.yaml", **keys}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


@contextmanager
def served(
    folder: Path, form: str, server: dict[str, Any] | None = None, keys: dict[str, Any] | None = None, **options: Any
) -> Iterator[tuple[NumberServer, Scorer]]:
    """A server of this form, and a scorer that asks it. `keys`: of the guard file."""
    kind = "decisions" if form == "sglang" else form
    if keys is None:
        keys = {"labels": {name: name for name in LABELS}} if kind == "moderations" else QUESTIONS
    with NumberServer(form, **(server or {})) as started:
        endpoint = EndpointOptions(**{"timeout_seconds": 1.0, "retries": 8, **options})
        scorer = Scorer.load(started.url, write_guard(folder, kind, **keys), endpoint=endpoint)
        try:
            yield started, scorer
        finally:
            scorer.model.caller.close()
