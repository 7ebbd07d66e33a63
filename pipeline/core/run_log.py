"""log.jsonl: what happened in a run and when, one JSON object per line, for people and for monitoring programs.

The log is not an artifact: it is neither synced nor hashed, it is limited to two files of a few megabytes, and no stage
fails because it cannot be written."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marginalia.pipeline.core.run import Run
from marginalia.schemas.unexpected_errors import masked, secrets

LOG, BEFORE = "log.jsonl", "log.1.jsonl"
MOST_BYTES = 4_000_000  # of log.jsonl; then it is renamed to log.1.jsonl, which replaces an older one
MOST_CHARACTERS = 2_000  # of a text in an entry
_warned: set[Path] = set()


def log_event(run: Run, stage: str, event: str, **details: Any) -> None:
    """Appends an entry: time (UTC), stage, event (started, finished, up to date, failed, interrupted …), process and
    `details` such as counts and seconds. Secrets are masked: the values of environment variables that the config names
    for a key, and of those whose names look like a secret's.

    When the log cannot be written, warns on stderr, once."""
    entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "stage": stage, "event": event}
    shown = {**entry, "process": os.getpid(), **_masked(details, secrets(set(_variables(run.config.model_dump()))))}
    line = json.dumps(shown, default=str).encode() + b"\n"
    path = run.folder / LOG
    try:
        if path.exists() and path.stat().st_size + len(line) > MOST_BYTES:
            os.replace(path, run.folder / BEFORE)  # noqa: PTH105 - the fault tests replace this function
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        if path not in _warned:
            _warned.add(path)
            with contextlib.suppress(OSError):  # standard error may be a file on the same full disk
                warning = f"warning: {path}: cannot write: {error.strerror}; continuing without a log"
                print(warning, file=sys.stderr)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The entries of both files, oldest first. Lines that are not log entries are skipped."""
    for name in (BEFORE, LOG):
        try:
            lines = (folder / name).read_bytes().split(b"\n")
        except OSError:
            continue
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and {"time", "stage", "event"} <= entry.keys():
                yield entry


def _masked(value: Any, hidden: list[str]) -> Any:
    if isinstance(value, str):
        value = masked(value, hidden)
        return value if len(value) <= MOST_CHARACTERS else value[:MOST_CHARACTERS] + "…"
    if isinstance(value, dict):
        return {str(key): _masked(item, hidden) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, hidden) for item in value]
    return value


def _variables(section: Any) -> Iterator[str]:
    """The values of all keys such as `api_key_env`."""
    if isinstance(section, dict):
        for key, value in section.items():
            if str(key).endswith("_env") and isinstance(value, str):
                yield value
            yield from _variables(value)
    elif isinstance(section, list | tuple):
        for item in section:
            yield from _variables(item)
