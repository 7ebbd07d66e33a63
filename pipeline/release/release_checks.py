"""What must be true before a release leaves the house."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from marginalia.pipeline.config.release import ReleaseSection
from marginalia.pipeline.release.dataset_card import TEMPLATE
from marginalia.pipeline.release.private_data_scan import holds_secret, private_data
from marginalia.pipeline.release.release_tables import PSEUDONYM
from marginalia.schemas.errors import InputError

NAMED = 10  # records that a message lists
# columns that hold words of ours only; a person may well be called `test`
CLOSED = {
    "messages",
    "labels",
    "soft_labels",
    "votes",
    "label",
    "split",
    "status",
    "round",
    "method",
    "estimator",
    "reason",
}


def missing_settings(section: ReleaseSection) -> list[str]:
    """What the config must still say before anything can be pushed."""
    missing = []
    if section.repo_id is None:
        missing.append("release.repo_id is not set")
    if section.license is None:
        missing.append("release.license is not set")
    return missing


def refuse_leaks(folder: Path, names: Collection[str], reviewed: Collection[str]) -> None:
    """Raises InputError when the release in `folder` holds an annotator's name, a secret, or private data in a record
    that nobody has reviewed.

    `names` are log-ins and full names of annotators. They may stand in no free column and no text, with two exceptions,
    since a log-in can be an ordinary word: words of our own card and of the taxonomy, and, in the records' messages
    (written before anyone annotated them), names without a digit, dot, underscore, hyphen, at sign or space."""
    for path in sorted((folder / "data").rglob("*.parquet")):
        _check_table(path.relative_to(folder).as_posix(), pl.read_parquet(path), names, reviewed)
    taxonomy = (folder / "taxonomy.json").read_text(encoding="utf-8")
    own = (TEMPLATE.read_text(encoding="utf-8") + taxonomy).casefold()
    telling = _pattern([name for name in names if name.casefold() not in own])
    _check_documents(folder, names)
    for where in ("README.md", "CHANGELOG.md", "release.json", "taxonomy.json"):
        text = (folder / where).read_text(encoding="utf-8")
        if _search(telling, text):
            raise InputError(f"{where} holds the name of an annotator", hint="names never leave a run; mend the config")
        if holds_secret(text):
            raise InputError(f"{where} holds something like an access token", hint="mend the config and release again")


def _check_documents(folder: Path, names: Collection[str]) -> None:
    """Charts and the files for services hold our own words only: no log-in that could be nothing else, no secret."""
    telling = _pattern(_telling(names))
    for path in sorted([*folder.glob("charts/*.svg"), folder / "thresholds.json", folder / "calibration.json"]):
        if not path.exists():
            continue
        text, where = path.read_text(encoding="utf-8"), path.relative_to(folder).as_posix()
        if _search(telling, text):
            raise InputError(f"{where} holds the name of an annotator", hint="names never leave a run; mend the config")
        if holds_secret(text):
            raise InputError(f"{where} holds something like an access token", hint="mend the config and release again")


def _telling(names: Collection[str]) -> list[str]:
    """Names that are no ordinary word."""
    return [name for name in names if re.search(r"[\d._@ -]", name)]


def _check_table(where: str, frame: pl.DataFrame, names: Collection[str], reviewed: Collection[str]) -> None:
    found: dict[str, list[str]] = {}
    anywhere = _pattern(names)
    in_messages = _pattern(_telling(names))
    for number, row in enumerate(frame.iter_rows(named=True)):
        identifier = str(row.get("id") or row.get("record_id") or row.get("slot_id") or number)
        if "annotator" in row and not re.match(PSEUDONYM, row["annotator"]):
            raise InputError(f"{where}: the annotator of record '{identifier}' is no pseudonym such as A01")
        messages = "\n".join(message["content"] for message in row.get("messages") or [])
        rest = "\n".join(_strings({key: value for key, value in row.items() if key not in CLOSED}))
        if _search(anywhere, rest) or _search(in_messages, messages):
            raise InputError(
                f"{where}: record '{identifier}' holds the name of an annotator", hint="names never leave a run"
            )
        if identifier not in reviewed and (kinds := private_data(messages)):
            found[identifier] = kinds
        if holds_secret(rest):
            found[identifier] = ["secret"]
    if found:
        shown = "; ".join(f"'{key}' ({', '.join(kinds)})" for key, kinds in list(found.items())[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise InputError(
            f"{where}: {len(found)} records hold what may be private data: {shown}{more}",
            hint="look at them; take them out, or list the harmless ones in release.reviewed_records",
        )


def _pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    known = sorted({name.strip() for name in names if name.strip()}, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, known)) + r")(?!\w)", re.IGNORECASE) if known else None


def _search(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is not None and pattern.search(text) is not None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def listing(folder: Path) -> list[dict[str, Any]]:
    """path and bytes of every file that would be uploaded."""
    files = sorted(item for item in folder.rglob("*") if item.is_file())
    return [{"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size} for file in files]


def content_of(folder: Path) -> tuple[int, str]:
    """Version and content hash of the release."""
    latest = json.loads((folder / "release.json").read_text(encoding="utf-8"))["versions"][-1]
    return latest["version"], latest["content_sha256"]
