"""Faults of the operating system: the k-th write, fsync or replace fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

FULL = OSError(errno.ENOSPC, "No space left on device")


class FailingFile:
    """A file whose k-th write writes half of its data and then fails because the disk is full."""

    def __init__(self, file: Any, k: int) -> None:
        self._file = file
        self._writes_left = k

    def write(self, data: bytes) -> int:
        self._writes_left -= 1
        if self._writes_left == 0:
            self._file.write(bytes(data)[: len(data) // 2])
            self._file.flush()
            raise FULL
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()


def fail_call(monkeypatch: pytest.MonkeyPatch, name: str, k: int) -> Callable[[], int]:
    """Makes the k-th call of `os.NAME` fail; returns a function that counts the calls."""
    real = getattr(os, name)
    calls = 0

    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == k:
            raise FULL
        return real(*arguments, **named)

    monkeypatch.setattr(os, name, called)
    return lambda: calls


def fail_write(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """Makes the k-th write to a file that `write_whole` opened fail."""
    real = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *arguments: FailingFile(real(*arguments), k))
