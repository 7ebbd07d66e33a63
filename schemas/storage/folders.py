"""A folder that is written completely or not at all, as `write_whole` does for a file."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from marginalia.schemas.storage.files import UNFINISHED, cannot_write, fsync_folder


def write_folder_whole(path: Path, build: Callable[[Path], object]) -> None:
    """Calls `build` with a new empty folder next to `path`, which replaces `path` once all of it is on disk.

    No system call replaces a folder by another, so the old one is renamed first. `recover_folder` restores it if the
    process is killed between the two renames. Raises InputError if the operating system refuses."""
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
    """Cleans up after a killed `write_folder_whole`: removes unfinished folders, restores a renamed old one."""
    for unfinished in path.parent.glob(f".{path.name}.*{UNFINISHED}"):
        _remove(unfinished)
    previous = _previous(path)
    if previous.is_symlink():  # never made here, and what it leads to is not the old folder
        previous.unlink()
    if previous.is_dir():
        if path.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _swap(temporary: Path, path: Path) -> None:
    previous = _previous(path)
    replaces = path.exists()
    if replaces:
        path.rename(previous)
    try:
        temporary.rename(path)
    except BaseException:
        if replaces:
            previous.rename(path)
        raise
    fsync_folder(path.parent)
    # the new folder is complete: if the old one cannot be removed now, the next recovery does it
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
