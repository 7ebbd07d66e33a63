"""One process a run: a second one is refused and told which process holds the folder."""

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

TRIES = 40  # for the lock of a process that is dead


@contextmanager
def run_lock(folder: Path, what: str) -> Iterator[None]:
    """Holds `folder/.lock` while the body runs. The kernel frees it when the process dies, so it is never stale.

    Raises LockedError that names the process id, its command and since when."""
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        try:
            _take(descriptor)
        except BlockingIOError:
            holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip() or "another process"
            raise LockedError(f"{folder} is in use by {holder}", hint="wait for it, or end it") from None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        said = f"process {os.getpid()} ({what}, since {now})".encode()
        try:
            # in this order it takes no new space on a full disk
            os.pwrite(descriptor, said, 0)
            os.ftruncate(descriptor, len(said))
        except OSError as error:
            raise cannot_write(path, error) from error
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    """Raises BlockingIOError when another process has the lock. One that was killed a moment ago is waited for: on a
    busy machine the kernel frees its lock a little after its end."""
    for left in range(TRIES, -1, -1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = re.match(r"process (\d+) ", os.pread(descriptor, 500, 0).decode("utf-8", "replace"))
            if not left or process is None or _alive(int(process[1])):
                raise
            time.sleep(0.05)
        else:
            return


def holder(folder: Path) -> str | None:
    """Which process works in `folder` at this moment, in the words of its lock; None when none does. Writes nothing."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        said = os.read(descriptor, 500).decode("utf-8", "replace").strip()
        process = re.match(r"process (\d+) ", said)
        if process is None or not _alive(int(process[1])):
            return None  # without trying the lock, which for that moment would keep others out
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return said
    finally:
        os.close(descriptor)
    return None


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
