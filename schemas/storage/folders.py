"""A folder that is written whole or not at all, as `write_whole` does for a file."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from marginalia.schemas.storage.files import UNFINISHED, cannot_write, fsync_folder


def write_folder_whole(path: Path, build: Callable[[Path], object]) -> None:
    """Calls `build` with a fresh empty folder beside `path` and puts it in `path`'s place when all of it is on disk.

    No call replaces one folder by another at once, so the old one is moved aside first; `recover_folder` brings it
    back after a kill between the two moves."""
    try:
        recover_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        temporary.mkdir()
        try:
            build(temporary)
            _fsync_tree(temporary)
            _swap(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def recover_folder(path: Path) -> None:
    """Undoes what a killed `write_folder_whole` left: unfinished copies go, an old folder moved aside comes back."""
    for left in path.parent.glob(f".{path.name}.*{UNFINISHED}"):
        shutil.rmtree(left)
    previous = _previous(path)
    if previous.is_dir():
        if path.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(path)


def _swap(temporary: Path, path: Path) -> None:
    previous = _previous(path)
    moved = path.exists()
    if moved:
        path.rename(previous)
    try:
        temporary.rename(path)
    except BaseException:
        if moved:
            previous.rename(path)
        raise
    fsync_folder(path.parent)
    # the new folder stands: an old one that cannot be removed now goes with the next recovery
    with contextlib.suppress(OSError):
        shutil.rmtree(previous)


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _fsync_tree(folder: Path) -> None:
    for current, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(current) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(current))
