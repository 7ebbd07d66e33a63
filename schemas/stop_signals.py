"""SIGTERM and SIGHUP end a command as Ctrl-C does: with an exception, so that files are closed and children ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
SAME_STOP = 1.0  # seconds; systemd sends SIGTERM and SIGHUP together, and the second must not interrupt the cleaning up


class StopSignal(KeyboardInterrupt):
    """One of SIGNALS was received. A KeyboardInterrupt, because libraries know how to end for that."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def signal_name(error: KeyboardInterrupt) -> str:
    """`SIGTERM`, `SIGHUP`, or for Ctrl-C `SIGINT`."""
    return str(error) if isinstance(error, StopSignal) else signal.SIGINT.name


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raises StopSignal in the main thread when a signal of SIGNALS arrives while the body runs.

    A signal that is ignored (nohup) remains ignored. Outside the main thread this has no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -SAME_STOP

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SAME_STOP:
            last = now
            raise StopSignal(number)

    replaced = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)
