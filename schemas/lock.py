"""One process a run: a second one is refused and told which process holds the folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import LockedError
from schemas.files import cannot_write


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
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 500).decode("utf-8", "replace").strip() or "another process"
            raise LockedError(f"{folder} is in use by {holder}", hint="wait for it, or end it") from None
        os.ftruncate(descriptor, 0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(descriptor, f"process {os.getpid()} ({what}, since {now})".encode(), 0)
        yield
    finally:
        os.close(descriptor)
