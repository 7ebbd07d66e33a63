"""The versions of a release, and what changed between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import polars as pl
from pydantic import Field, model_validator

from marginalia.pipeline.release.markdown_escaping import code, inline, label_id
from marginalia.pipeline.report.as_text import plural
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.storage.files import content_hash, frame_hash
from marginalia.schemas.tables import GoldRecord

LISTED = 50  # ids per list of the changelog; release.json has all


class Relabelled(StrictModel):
    """A record whose labels changed from one version to the next."""

    id: str
    before: list[str]
    after: list[str]


class Version(StrictModel):
    """One version of the data. A change of the card alone does not make a new version."""

    version: int = Field(ge=1)
    content_sha256: str = Field(description="hash of all tables of the release")
    tables: dict[str, str] = Field(description="data file → hash of its content")
    records: int
    added: list[str] = Field(default=[], description="ids that the previous version did not have; empty in the first")
    removed: list[str] = Field(default=[], description="ids that this version no longer has")
    relabelled: list[Relabelled] = Field(default=[], description="records whose labels changed")
    rejudged: list[str] = Field(
        default=[],
        exclude_if=lambda ids: not ids,
        description="ids of records in which other labels were judged than before; absent if there are none",
    )
    rewritten: list[str] = Field(default=[], description="ids whose messages changed")
    touched: list[str] = Field(default=[], description="ids of which only another column changed (split, votes …)")
    other: list[str] = Field(default=[], description="other data files that changed, were added or were removed")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if content_hash(self.tables) != self.content_sha256:
            raise ValueError(f"content_sha256 of version {self.version} is not that of its tables")
        return self


class ReleaseHistory(StrictModel):
    """release.json: every version of the release, oldest first."""

    made_by: str = "marginalia"
    name: str = Field(description="the run that it was made from")
    simulated: bool = Field(description="its annotators are simulated")
    versions: list[Version] = Field(min_length=1)

    @property
    def latest(self) -> Version:
        """The newest version."""
        return self.versions[-1]


def next_versions(
    before: list[Version], gold_before: pl.DataFrame | None, tables: Mapping[str, pl.DataFrame]
) -> list[Version]:
    """The versions `before`, followed by a new one unless `tables` are those of the latest version.

    `gold_before` is the gold table of the latest version, all splits."""
    hashes = {path: frame_hash(table, name=path) for path, table in sorted(tables.items())}
    content = content_hash(hashes)
    gold = gold_of(tables)
    if before and before[-1].content_sha256 == content:
        return [*before[:-1], before[-1].model_copy(update={"records": gold.height})]
    version = Version(version=1, content_sha256=content, tables=hashes, records=gold.height)
    if not before or gold_before is None:
        return [version]
    latest = before[-1]
    rows_before, rows_now = _rows(gold_before), _rows(gold)
    kept = sorted(rows_before.keys() & rows_now.keys())
    relabelled = [key for key in kept if sorted(rows_before[key]["labels"]) != sorted(rows_now[key]["labels"])]
    rejudged = [key for key in kept if _label_list(rows_before[key]["judged"]) != _label_list(rows_now[key]["judged"])]
    rewritten = [key for key in kept if rows_before[key]["messages"] != rows_now[key]["messages"]]
    changed_files = [
        path
        for path in sorted(hashes.keys() | latest.tables.keys())
        if hashes.get(path) != latest.tables.get(path) and not path.startswith("data/gold/")
    ]
    return [
        *before,
        version.model_copy(
            update={
                "version": latest.version + 1,
                "added": sorted(rows_now.keys() - rows_before.keys()),
                "removed": sorted(rows_before.keys() - rows_now.keys()),
                "relabelled": [
                    Relabelled(id=key, before=rows_before[key]["labels"], after=rows_now[key]["labels"])
                    for key in relabelled
                ],
                "rejudged": rejudged,
                "rewritten": rewritten,
                "touched": [
                    key
                    for key in kept
                    if rows_before[key] != rows_now[key] and key not in {*relabelled, *rejudged, *rewritten}
                ],
                "other": changed_files,
            }
        ),
    ]


def _rows(gold: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Id → row. A release without partly judged records has no column `judged`: all labels were judged."""
    return {row["id"]: {"judged": None, **row} for row in gold.iter_rows(named=True)}


def _label_list(labels: list[str] | None) -> list[str] | None:
    return None if labels is None else sorted(labels)


def gold_of(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The gold table, all splits together."""
    parts = [table for path, table in tables.items() if path.startswith("data/gold/")]
    return pl.concat(parts) if parts else GoldRecord.frame([])


def changelog(history: ReleaseHistory) -> str:
    """CHANGELOG.md, newest version first."""
    lines = ["# Changelog", ""]
    if history.simulated:
        lines += ["The annotators of this data set are simulated.", ""]
    for version in reversed(history.versions):
        lines += [f"## Version {version.version}", "", f"- {plural(version.records, 'record')} with settled labels"]
        if version.version == 1:
            lines += ["- first version", ""]
            continue
        lines += _counted_ids("added", version.added)
        lines += _counted_ids("removed", version.removed)
        lines += _counted_ids("with changed text", version.rewritten)
        lines += _counted_ids("in which other labels were judged", version.rejudged) if version.rejudged else []
        lines += _counted_ids("with the same text and labels, but another split, votes or soft labels", version.touched)
        lines += [f"- {plural(len(version.relabelled), 'record')} with changed labels" + ":" * bool(version.relabelled)]
        lines += [
            f"  - {code(item.id)}: {_label_set(item.before)} → {_label_set(item.after)}"
            for item in version.relabelled[:LISTED]
        ]
        lines += [f"  - and {len(version.relabelled) - LISTED} more"] if len(version.relabelled) > LISTED else []
        lines += [f"- other changed files: {', '.join(map(_file, version.other))}"] if version.other else []
        lines.append("")
    return "\n".join(lines)


def _counted_ids(description: str, ids: list[str]) -> list[str]:
    if not ids:
        return [f"- 0 records {description}"]
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return [f"- {plural(len(ids), 'record')} {description}: " + ", ".join(code(item) for item in ids[:LISTED]) + more]


def _label_set(labels: list[str]) -> str:
    return ", ".join(map(label_id, labels)) or "none"


def _file(path: str) -> str:
    return path if re.fullmatch(r"[a-z0-9_./-]+", path) else inline(path)
