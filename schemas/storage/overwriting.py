"""Refuses to write over a file that the same command reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from marginalia.schemas.errors import InputError


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path | str | None], *, hint: str) -> None:
    """Raises InputError when one of the `outputs` is one of the `inputs`, also by another path, a symbolic link or a
    hard link. Inputs that are no files (a shipped name, a URL, None) are ignored."""
    files = [Path(path) for path in inputs if path is not None and _is_file(Path(path))]
    for output in outputs:
        for file in files:
            with contextlib.suppress(OSError):
                if output.samefile(file):
                    raise InputError(f"{output} would be written over, and is the input {file}", hint=hint)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a long text or one with a NUL character is not a path
        return False
