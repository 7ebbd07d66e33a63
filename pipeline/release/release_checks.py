"""Checks before a release is published: settings, annotators' names, secrets, private data."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from marginalia.pipeline.config.release import ReleaseSection
from marginalia.pipeline.release.croissant import missing_properties
from marginalia.pipeline.release.dataset_card import OWN_TEXTS
from marginalia.pipeline.release.owner_statements import missing_statements
from marginalia.pipeline.release.private_data_scan import contains_secret, private_data
from marginalia.pipeline.release.release_folder import CROISSANT
from marginalia.pipeline.release.release_tables import PSEUDONYM
from marginalia.pipeline.report.as_text import plural
from marginalia.schemas.errors import InputError
from marginalia.schemas.progress import progress

LISTED_RECORDS = 10  # records that a message lists
# columns that are not searched for names: their words are Marginalia's own (a log-in may be `test`) or texts
OWN_COLUMNS = {
    "messages",
    "labels",
    "judged",
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
    """The settings that are still missing in the config before a push."""
    missing = []
    if section.repo_id is None:
        missing.append("release.repo_id is not set")
    if section.license is None:
        missing.append("release.license is not set")
    return missing


def unfilled_settings(section: ReleaseSection, *, simulated: bool) -> list[str]:
    """The settings that a published data set should have and this one lacks, each with what it says. A push is possible
    without them."""
    return [*missing_statements(section, simulated=simulated), *missing_properties(section)]


def refuse_leaks(folder: Path, names: Collection[str], reviewed: Collection[str]) -> None:
    """Raises InputError when the release in `folder` contains an annotator's name, a secret, or private data in a
    record that is not in `reviewed`.

    `names` are log-ins and full names of annotators. No text and no free column may contain them, with two exceptions,
    since a log-in can be an ordinary word: words of the card's own sentences and of the taxonomy, and, in the records'
    messages (written before annotation), names without a digit, dot, underscore, hyphen, at sign or space."""
    for path in sorted((folder / "data").rglob("*.parquet")):
        _check_table(path.relative_to(folder).as_posix(), pl.read_parquet(path), names, reviewed)
    taxonomy = (folder / "taxonomy.json").read_text(encoding="utf-8")
    own_words = "".join([*(path.read_text(encoding="utf-8") for path in OWN_TEXTS), taxonomy]).casefold()
    names_to_find = _pattern([name for name in names if name.casefold() not in own_words])
    for name in ("README.md", "CHANGELOG.md", "release.json", "taxonomy.json"):
        _refuse_text(name, (folder / name).read_text(encoding="utf-8"), names_to_find)
    _check_documents(folder, names)


def _check_documents(folder: Path, names: Collection[str]) -> None:
    """Checks the charts and the JSON files for programs. They contain Marginalia's own words, so only distinctive names
    count."""
    distinctive = _pattern(_distinctive(names))
    documents = [folder / name for name in ("thresholds.json", "calibration.json", CROISSANT)]
    for path in sorted([*folder.glob("charts/*.svg"), *documents]):
        if not path.exists():
            continue
        _refuse_text(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8"), distinctive)


def _refuse_text(name: str, text: str, names: re.Pattern[str] | None) -> None:
    if _search(names, text):
        raise InputError(
            f"{name} contains the name of an annotator",
            hint="a release must not contain names: remove it from the config, then release again",
        )
    if contains_secret(text):
        raise InputError(
            f"{name} contains what looks like an access token", hint="remove it from the config, then release again"
        )


def _distinctive(names: Collection[str]) -> list[str]:
    """The names that cannot be ordinary words."""
    return [name for name in names if re.search(r"[\d._@ -]", name)]


def _check_table(file_name: str, frame: pl.DataFrame, names: Collection[str], reviewed: Collection[str]) -> None:
    problems: dict[str, list[str]] = {}
    any_name = _pattern(names)
    distinctive_name = _pattern(_distinctive(names))
    rows = progress(frame.iter_rows(named=True), total=frame.height, what=f"check {file_name}", unit="row")
    for number, row in enumerate(rows):
        identifier = str(row.get("id") or row.get("record_id") or row.get("slot_id") or number)
        if "annotator" in row and not re.match(PSEUDONYM, row["annotator"]):
            raise InputError(f"{file_name}: the annotator of record '{identifier}' is not a pseudonym such as A01")
        messages = "\n".join(message["content"] for message in row.get("messages") or [])
        other_texts = "\n".join(_strings({key: value for key, value in row.items() if key not in OWN_COLUMNS}))
        if _search(any_name, other_texts) or _search(distinctive_name, messages):
            raise InputError(
                f"{file_name}: record '{identifier}' contains the name of an annotator",
                hint="a release must not contain names",
            )
        if identifier not in reviewed and (kinds := private_data(messages)):
            problems[identifier] = kinds
        if contains_secret(other_texts):
            problems[identifier] = ["secret"]
    if problems:
        shown = "; ".join(f"'{key}' ({', '.join(kinds)})" for key, kinds in list(problems.items())[:LISTED_RECORDS])
        more = f" and {len(problems) - LISTED_RECORDS} more" if len(problems) > LISTED_RECORDS else ""
        raise InputError(
            f"{file_name}: possible private data in {plural(len(problems), 'record')}: {shown}{more}",
            hint="check these records: remove them, or list the harmless ones in release.reviewed_records",
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


def file_sizes(folder: Path) -> list[dict[str, Any]]:
    """`path` and `bytes` of every file of the release."""
    files = sorted(item for item in folder.rglob("*") if item.is_file())
    return [{"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size} for file in files]


def latest_version(folder: Path) -> tuple[int, str]:
    """(number, content hash) of the latest version of the release."""
    latest = json.loads((folder / "release.json").read_text(encoding="utf-8"))["versions"][-1]
    return latest["version"], latest["content_sha256"]
