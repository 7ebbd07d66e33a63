"""A disk whose k-th operation fails: every write, fsync, rename, removal … below one folder, numbered as they come.

Works in this process and on what goes through Python's own `os` and `open`, as all our writing does (pyarrow's and
polars' writers are given files of Python's)."""

from __future__ import annotations

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")
BY_PATH = ("mkdir", "rmdir", "unlink", "remove", "replace", "rename", "truncate")
BY_DESCRIPTOR = ("fsync", "write", "pwrite", "ftruncate")


class FailingDisk:
    """While it is entered, operation number `k` (from 1) below `root` raises `error`; with `for_ever` those after it,
    too. With k = 0 they are only counted.

    `count` is how many there were, `met` whether one failed, `names` what they were."""

    def __init__(self, root: Path, k: int = 0, error: OSError = FULL, *, for_ever: bool = False) -> None:
        self.names: list[str] = []
        self.met = False
        self.error = error
        self._root = str(root.resolve())
        self._k, self._for_ever = k, for_ever
        self._lock = threading.Lock()
        self._real: list[tuple[Any, str, Any]] = []

    @property
    def count(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        what = self.names[self._k - 1] if self.met else "nothing"
        return f"operation {self._k} ({what}, {self.error.strerror}{', and all after it' * self._for_ever})"

    def __enter__(self) -> Self:
        for name in BY_PATH:
            self._patch(os, name, self._by_path)
        for name in BY_DESCRIPTOR:
            self._patch(os, name, self._by_descriptor)
        self._patch(os, "open", self._descriptor_opened)
        for owner in (io, builtins):
            self._patch(owner, "open", self._file_opened)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for owner, name, real in reversed(self._real):
            setattr(owner, name, real)

    def operation(self, name: str, path: str) -> None:
        """Counts one operation. Raises OSError when its turn has come."""
        with self._lock:
            self.names.append(f"{name} {path[len(self._root) + 1 :]}")
            fails = self._k > 0 and (self.count == self._k or (self._for_ever and self.count > self._k))
            self.met |= fails
        if fails:
            raise OSError(self.error.errno, self.error.strerror, path)

    def below(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + os.sep)

    def _patch(self, owner: Any, name: str, wrapped: Callable[[str, Any], Callable[..., Any]]) -> None:
        real = getattr(owner, name)
        self._real.append((owner, name, real))
        setattr(owner, name, wrapped(name, real))

    def _by_path(self, name: str, real: Any) -> Callable[..., Any]:
        def called(path: Any, *arguments: Any, **named: Any) -> Any:
            where = _absolute(path, named.get("dir_fd"))
            if self.below(where):
                self.operation(name, where)
            return real(path, *arguments, **named)

        return called

    def _by_descriptor(self, name: str, real: Any) -> Callable[..., Any]:
        def called(descriptor: int, *arguments: Any) -> Any:
            where = _of_descriptor(descriptor)
            if self.below(where):
                self.operation(name, where)
            return real(descriptor, *arguments)

        return called

    def _descriptor_opened(self, name: str, real: Any) -> Callable[..., Any]:
        def called(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
            where = _absolute(path, named.get("dir_fd"))
            if flags & (os.O_WRONLY | os.O_RDWR) and self.below(where):
                self.operation(name, where)
            return int(real(path, flags, *arguments, **named))

        return called

    def _file_opened(self, name: str, real: Any) -> Callable[..., Any]:
        def called(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            where = _of_descriptor(file) if isinstance(file, int) else _absolute(file, None)
            if not set(mode) & set("wax+") or not self.below(where):
                return real(file, mode, *arguments, **named)
            if not isinstance(file, int):
                self.operation(name, where)
            return _File(real(file, mode, *arguments, **named), self, where)

        return called


class _File:
    """A file opened for writing. A write that fails has put half of its data down."""

    def __init__(self, file: Any, disk: FailingDisk, path: str) -> None:
        self._file, self._disk, self._path = file, disk, path

    def write(self, data: Any) -> int:
        try:
            self._disk.operation("write", self._path)
        except OSError:
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise
        return int(self._file.write(data))

    def flush(self) -> None:
        self._disk.operation("flush", self._path)
        self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()


def _absolute(path: Any, folder: int | None) -> str:
    if isinstance(path, int):
        return _of_descriptor(path)
    text = os.fsdecode(path)
    return os.path.join(_of_descriptor(folder), text) if folder is not None else os.path.abspath(text)  # noqa: PTH100,PTH118


def _of_descriptor(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return ""
