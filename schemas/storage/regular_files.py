"""Opens regular files only, and the files of a run only without symbolic links.

A named pipe or a device never ends, so reading it would hang. A run folder can come from somebody else: a symbolic link
in it would let a stage read, append to or truncate a file anywhere on this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from marginalia.schemas.errors import InputError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}
REPLACE_LINK = "replace it by a copy of the file, or delete it"


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o644, *, links: bool = True) -> int:
    """A descriptor of the file, as from `os.open`. `links`: whether `path` may itself be a symbolic link.

    Raises InputError for anything but a regular file, without waiting for it, and IsADirectoryError for a folder.
    Errors of the operating system pass through."""
    check_regular(path, links=links)  # before it is opened: opening a device can have effects of its own
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW), mode)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise _refused(path, stat.S_IFLNK) from error
        raise
    try:
        _check_kind(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(path: Path, *, links: bool = True) -> None:
    """Raises what `open_regular` raises, without opening the file. A missing file is not an error."""
    try:
        status = path.stat() if links else path.lstat()
    except FileNotFoundError:
        return
    _check_kind(path, status.st_mode)


def path_inside(folder: Path, name: str) -> Path:
    """`folder / name`, for a file or folder that belongs to `folder`. `folder` itself may be reached through a link.

    Raises InputError when a part of `name` is a symbolic link, or the whole is neither a file nor a folder. A name that
    leads out of the folder (absolute, or with `..`) belongs to the user, whose links are followed."""
    relative = Path(name)
    path = folder / relative
    if relative.is_absolute() or ".." in relative.parts:
        check_file_or_folder(path)
        return path
    part = folder
    for step in relative.parts:
        part /= step
        check_file_or_folder(part, links=False)
    return path


def check_file_or_folder(path: Path, *, links: bool = True) -> None:
    """Raises InputError when there is something else at `path`. `links`: whether it may be a symbolic link to one."""
    # a path that cannot be looked up is reported when it is opened
    with contextlib.suppress(OSError, ValueError):
        check_regular(path, links=links)


def files_inside(folder: Path, *, links: bool = False) -> list[Path]:
    """All files in the folder and the folders in it, sorted.

    Raises InputError for a named pipe or a device among them and, without `links`, for a symbolic link: what it leads
    to does not belong to the folder."""
    items = sorted(folder.rglob("*"))
    for item in items:
        check_file_or_folder(item, links=links)
    return [item for item in items if item.is_file()]


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise _refused(path, stat.S_IFMT(mode))


def _refused(path: Path, kind: int) -> InputError:
    hint = REPLACE_LINK if kind == stat.S_IFLNK else "replace it by a file, or delete it"
    return InputError.at(path, f"is {_KINDS.get(kind, 'not a file')}, expected a regular file", hint=hint)
