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
from marginalia.schemas.errors import InputError
from marginalia.schemas.key_masking import KeyMask
from marginalia.schemas.storage.regular_files import open_regular
from marginalia.schemas.unexpected_errors import masked, secrets

LOG, BEFORE = "log.jsonl", "log.1.jsonl"
MOST_BYTES = 4_000_000  # of log.jsonl; then it is renamed to log.1.jsonl, which replaces an older one
MOST_CHARACTERS = 2_000  # of a text in an entry
_warned: set[Path] = set()


def log_event(run: Run, stage: str, event: str, **details: Any) -> None:
    """Appends an entry: time (UTC), stage, event (started, finished, up to date, failed, interrupted …), process and
    `details` such as counts and seconds. Secrets are masked, also in other notations such as base64: the values of
    environment variables that the config names for a key, and of those whose names look like a secret's.

    When the log cannot be written, warns on stderr, once."""
    entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "stage": stage, "event": event}
    shown = {**entry, "process": os.getpid(), **_masked(details, secrets(set(_variables(run.config.model_dump()))))}
    line = json.dumps(shown, default=str).encode() + b"\n"
    path = run.folder / LOG
    try:
        if path.exists() and path.stat().st_size + len(line) > MOST_BYTES:
            os.replace(path, run.folder / BEFORE)  # noqa: PTH105 - the fault tests replace this function
        descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, links=False)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except InputError as error:
        _warn(path, str(error))
    except OSError as error:
        _warn(path, f"{path}: cannot write: {error.strerror}")


def _warn(path: Path, problem: str) -> None:
    if path not in _warned:
        _warned.add(path)
        with contextlib.suppress(OSError):  # standard error may be a file on the same full disk
            print(f"warning: {problem}; continuing without a log", file=sys.stderr)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The entries of both files, oldest first. Lines that are not log entries are skipped, and so is what is not a
    regular file."""
    for name in (BEFORE, LOG):
        try:
            with os.fdopen(open_regular(folder / name, links=False), "rb") as file:
                lines = file.read(2 * MOST_BYTES).split(b"\n")
        except (OSError, InputError):
            continue
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and {"time", "stage", "event"} <= entry.keys():
                yield entry


def _masked(value: Any, masks: list[KeyMask]) -> Any:
    if isinstance(value, str):
        value = masked(value, masks)
        return value if len(value) <= MOST_CHARACTERS else value[:MOST_CHARACTERS] + "…"
    if isinstance(value, dict):
        return {masked(str(key), masks): _masked(item, masks) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, masks) for item in value]
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
