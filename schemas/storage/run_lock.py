"""A lock that lets one process at a time work in a run folder; others get an error that names the process."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from marginalia.schemas.errors import LockedError
from marginalia.schemas.storage.files import cannot_write
from marginalia.schemas.storage.regular_files import open_regular

TRIES = 40  # 0.05 s apart, for the lock of a process that has just ended


@contextmanager
def run_lock(folder: Path, command: str) -> Iterator[None]:
    """Holds `folder/.lock` while the body runs. The kernel releases it when the process ends, so it is never stale.

    Raises LockedError with the process id, command and start time of the process that holds it, and InputError when
    `.lock` is a symbolic link or otherwise not a file."""
    path = folder / ".lock"
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT, links=False)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        try:
            _take(descriptor)
        except BlockingIOError:
            holder = _content(descriptor) or "another process"
            raise LockedError(f"{folder} is in use by {holder}", hint="wait for it, or end it") from None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = f"process {os.getpid()} ({command}, since {now})".encode()
        try:
            # write before truncating: this needs no new block on a full disk
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        except OSError as error:
            raise cannot_write(path, error) from error
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    """Takes the lock. Raises BlockingIOError if another process has it. Waits for one that has ended: on a busy machine
    the kernel releases its lock a little later."""
    for tries_left in range(TRIES, -1, -1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = re.match(r"process (\d+) ", _content(descriptor))
            if not tries_left or process is None or _alive(int(process[1])):
                raise
            time.sleep(0.05)
        else:
            return


def lock_holder(folder: Path) -> str | None:
    """The process that is working in `folder` now, as `process 12 (marginalia score, since …)`; None if there is none.

    Writes nothing."""
    try:
        descriptor = open_regular(folder / ".lock", links=False)
    except OSError:
        return None
    try:
        content = _content(descriptor)
        process = re.match(r"process (\d+) ", content)
        if process is None or not _alive(int(process[1])):
            return None  # without taking the lock, which would keep other processes out for a moment
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return content
    finally:
        os.close(descriptor)
    return None


def _content(descriptor: int) -> str:
    return os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
