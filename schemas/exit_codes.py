"""How every command ends: an error as one line on stderr, and an exit code.

0 complete, 1 incomplete, 2 wrong input, 3 a model or a server failed, 4 the folder is in use, 70 an unexpected error,
which is a bug in this package, 128 + n stopped by signal n: 129 SIGHUP, 130 Ctrl-C, 141 the reader of stdout has ended,
143 SIGTERM."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from marginalia.schemas.errors import InputError, MarginaliaError
from marginalia.schemas.extras import missing_extra
from marginalia.schemas.stop_signals import signal_name, stop_signals
from marginalia.schemas.unexpected_errors import EXIT_CODE, describe_fault


def run_command(command: Callable[[], int | None]) -> int:
    """Runs `command` and gives the exit code; prints why it failed or was stopped. SystemExit is not caught."""
    with stop_signals():
        try:
            code = command() or 0
            sys.stdout.flush()  # a full disk or a closed pipe is noticed here, and not while Python ends
        except KeyboardInterrupt as stop:
            how = "interrupted" if signal_name(stop) == "SIGINT" else f"stopped by {signal_name(stop)}"
            _print(f"{how}; run the same command to continue")
            return 128 + signal.Signals[signal_name(stop)]
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # also polars' PanicException, which is not an Exception
            return _report(error)
        return code


def _report(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError) and _nobody_reads_stdout():
        _discard_stdout()
        return 128 + signal.SIGPIPE
    known = _as_known(error)
    if known is None:
        _print(f"error: {describe_fault(error)}")
        return EXIT_CODE
    _print(f"error: {known}")
    return known.exit_code


def _as_known(error: BaseException) -> MarginaliaError | None:
    """The error as one of ours; None for an unexpected one."""
    if isinstance(error, MarginaliaError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error)
    if isinstance(error, MemoryError):
        return InputError("not enough memory", hint="end other programs, or use a machine with more memory")
    if isinstance(error, OSError) and error.errno is not None and isinstance(error.filename, str | os.PathLike):
        hint = "check the path and its permissions"
        return InputError.at(Path(error.filename), error.strerror or str(error), hint=hint)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _discard_stdout()
        return InputError("no space left on the device that the output goes to", hint="free some space")
    return None


def _discard_stdout() -> None:
    """For output that cannot be written: Python tries once more while it ends, and then has an exit code of its own."""
    with contextlib.suppress(OSError, ValueError):  # stdout is not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nobody_reads_stdout() -> bool:
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(state & select.POLLERR for _, state in poll.poll(0))
    except (OSError, ValueError):  # stdout is not a file
        return False


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # after SIGHUP the terminal may be gone
        print(line, file=sys.stderr)
