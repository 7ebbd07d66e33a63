"""Errors that nobody expected: faults of this package. Their tracebacks are kept for a report."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from marginalia.schemas.errors import first_line
from marginalia.schemas.key_masking import KeyMask

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
SECRET = re.compile(r"(?i)key|token|secret|passw")  # in the name of an environment variable
SHORTEST_SECRET = 8  # characters; shorter values may be ordinary words, which are not masked
MOST_CHARACTERS = 300  # of an error's text in a message
MOST_FRAMES = 40  # of an error in a log; the innermost
_KEPT_IN = "its traceback is in "


class WorkerFault(Exception):
    """An unexpected error in another process. `frames` is where in that process, as from `frames`."""

    def __init__(self, message: str, frames: list[str]) -> None:
        super().__init__(message)
        self.frames = frames


def frames(error: BaseException) -> list[str]:
    """Where `error` and what caused it were raised, innermost last: `file:line in function` and names of classes.

    Without the errors' texts, which may contain data of a run."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [*frames(cause), "then"] if cause is not None else []
    places = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    lines += [f"{place.filename}:{place.lineno} in {place.name}" for place in places]
    if isinstance(error, WorkerFault):
        lines += error.frames
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        lines += frames(part)
    return [*lines, type(error).__name__]


def note_traceback(error: BaseException, path: Path) -> None:
    """Notes in the error that its traceback has been kept at `path`."""
    error.add_note(f"{_KEPT_IN}{path}")


def describe_fault(error: BaseException) -> str:
    """The message for a user: what failed, that it is our fault, and where the traceback is. Writes the traceback to
    the temporary folder if it has not been kept elsewhere."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_KEPT_IN)]
    name, text = type(error).__name__, masked(first_line(error), secrets())[:MOST_CHARACTERS]
    return (
        f"unexpected {name if text == name else f'{name}: {text}'} (this is a bug in Marginalia; please report it on "
        f"the project's page; {notes[0] if notes else _keep(error)})"
    )


def _keep(error: BaseException) -> str:
    text = masked("".join(traceback.format_exception(error)), secrets())
    if isinstance(error, WorkerFault):
        text += "".join(f"{line}\n" for line in error.frames)
    try:
        descriptor, path = tempfile.mkstemp(prefix="marginalia-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:  # a full or unwritable temporary folder
        print(text, file=sys.stderr, end="")
        return "its traceback is above"
    return f"{_KEPT_IN}{path}"


def secrets(named: Collection[str] = ()) -> list[KeyMask]:
    """Masks for the values of the environment variables `named` and of those whose names look like a secret's, longest
    first."""
    values = {value for name, value in os.environ.items() if name in named or SECRET.search(name)}
    long_enough = (value for value in values if len(value) >= SHORTEST_SECRET)
    return [_mask(value) for value in sorted(long_enough, key=lambda value: (-len(value), value))]


def masked(text: str, masks: Iterable[KeyMask]) -> str:
    """The text with `[masked]` in place of every secret, also of one in another notation."""
    for mask in masks:
        text = mask(text, limit=None)
    return text


@cache
def _mask(secret: str) -> KeyMask:
    return KeyMask(secret, mask="[masked]")
