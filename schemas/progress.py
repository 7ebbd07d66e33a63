"""The progress of long work on stderr: a bar with rate and time left in a terminal, elsewhere a line every ten
seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SHOWN_AFTER = 0.5  # seconds; shorter work shows nothing in a terminal
LINE_SECONDS = 10.0  # between two lines where there is no terminal
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left{postfix}"
LINE_WITHOUT_TOTAL = "{desc}: {n_fmt} {unit}s, {rate_fmt}{postfix}"


class Progress(tqdm):  # type: ignore[type-arg]  # tqdm has type parameters only in its stubs
    """A progress bar without tqdm's watching thread: processes are forked while bars are shown."""

    monitor_interval = 0


def progress(
    items: Iterable[Any] | None = None,
    *,
    what: str,
    unit: str,
    total: int | None = None,
    done: int = 0,
    show: bool = True,
    as_bar: bool = False,
) -> Progress:
    """Shows the progress of `items` while they are iterated, or of `.update(n)` calls until `.close()`.

    `what` names the work and `unit` one item, in the singular; `done`: items that were finished before;
    `as_bar`: a bar at once, also where there is no terminal, such as in a notebook."""
    options: dict[str, Any] = {"desc": what, "unit": unit, "total": total, "initial": done, "disable": not show}
    options["miniters"] = 1  # tqdm's own choice leaves out updates when the work becomes slower
    if as_bar or sys.stderr.isatty():
        return Progress(items, **options, file=sys.stderr, dynamic_ncols=True, delay=0 if as_bar else SHOWN_AFTER)
    options |= {"delay": LINE_SECONDS, "mininterval": LINE_SECONDS, "leave": False}
    options |= {"file": _Lines(), "bar_format": LINE if total is not None else LINE_WITHOUT_TOTAL}
    return Progress(items, **options)


class _Lines:
    """A file for tqdm that writes each of its updates to stderr as a line of its own."""

    def write(self, text: str) -> None:
        if shown := text.strip():
            print(shown, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
