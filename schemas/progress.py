"""The progress of long work on stderr: a bar with rate and time left in a terminal, elsewhere a line every ten
seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

SHOWN_AFTER = 0.5  # seconds; shorter work shows nothing in a terminal
LINE_SECONDS = 10.0  # between two lines where there is no terminal
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left{postfix}"
LINE_WITHOUT_TOTAL = "{desc}: {n_fmt} {unit}s, {rate_fmt}{postfix}"


def progress(
    items: Iterable[Any] | None = None,
    *,
    what: str,
    unit: str,
    total: int | None = None,
    done: int = 0,
    show: bool | None = None,
) -> tqdm[Any]:
    """Shows the progress of `items` while they are iterated, or of `.update(n)` calls until `.close()`.

    `what` names the work and `unit` one item, in the singular; `done`: items that were finished before. `show`: False
    shows nothing, None and True show it."""
    from tqdm import tqdm

    options: dict[str, Any] = {"desc": what, "unit": unit, "total": total, "initial": done, "disable": show is False}
    if sys.stderr.isatty():
        return tqdm(items, **options, file=sys.stderr, dynamic_ncols=True, delay=SHOWN_AFTER)
    line = LINE if total is not None else LINE_WITHOUT_TOTAL
    times = {"delay": LINE_SECONDS, "mininterval": LINE_SECONDS, "miniters": 1}
    return tqdm(items, **options, **times, file=_Lines(), bar_format=line, leave=False)  # type: ignore[arg-type]


class _Lines:
    """A file for tqdm that writes each of its updates to stderr as a line of its own."""

    def write(self, text: str) -> None:
        if shown := text.strip():
            print(shown, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
