"""The k-th operation on the disk fails, for every k of every stage.

The stage must end with an error of ours that names the place, or not at all; leave every file whole or away, and those
of earlier stages as they were; and, run again, come out as if nothing had happened, with nothing left lying about."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.storage.files import sha256
from tests.soak.disk import BROKEN, FULL, FailingDisk
from tests.soak.harness import Tally
from tests.soak.small_run import SmallLine, artifacts, content, run_one

# what is added to while the stage runs
RELEASE = "release"  # moved aside while the new one takes its place; the next run moves it back
GROWING = ("responses.jsonl", "annotations.jsonl", "annotators.key.json", "tiny.journal.jsonl")


def every_operation(line: SmallLine, stage: str, seed: int, *, most: int | None = None) -> Tally:
    """Each operation of the stage fails once for want of space where the stage has not run yet, and once by a broken
    disk where it is run anew (`force`); a seeded half of them for good. `most`: no more faults than that, drawn."""
    started = time.monotonic()
    tally, draw = Tally(f"{stage}, k"), random.Random(f"{seed}:{stage}")
    whole = content(line.after[stage])
    todo = [(k, again) for again in (False, True) for k in range(1, _count(line, stage, again=again) + 1)]
    for k, again in todo if most is None or len(todo) <= most else draw.sample(todo, most):
        tally.runs += 1
        disk, wrong = _failing(line, stage, whole, k, again=again, for_ever=draw.random() < 0.5)
        tally.faults += disk.met
        tally.survived += disk.met and not wrong
        tally.wrong += wrong
    tally.seconds = time.monotonic() - started
    return tally


def _count(line: SmallLine, stage: str, *, again: bool) -> int:
    with line.copy(stage, after=again) as folder, FailingDisk(folder) as disk:
        run_one(stage, folder, force=again)
    return disk.count


def _failing(
    line: SmallLine, stage: str, whole: dict[str, str], k: int, *, again: bool, for_ever: bool
) -> tuple[FailingDisk, list[str]]:
    """The k-th operation fails; the last one if there are fewer this time: answers that arrive together are written
    together, so `generate` does not write equally often each time."""
    with line.copy(stage, after=again) as folder:
        disk = FailingDisk(folder, k, BROKEN if again else FULL, for_ever=for_ever)
        wrong = [f"{stage}: {disk} fails: {what}" for what in _tried(stage, folder, disk, whole, again=again)]
    if disk.met or wrong or not disk.count:
        return disk, wrong
    return _failing(line, stage, whole, disk.count, again=again, for_ever=for_ever)


def _tried(stage: str, folder: Path, disk: FailingDisk, whole: dict[str, str], *, again: bool) -> Iterator[str]:
    before = {path: sha256(path) for path in artifacts(folder)}
    try:
        with disk:
            run_one(stage, folder, force=again)
    except MarginaliaError as error:
        if not disk.met or str(folder) not in str(error) or disk.error.strerror not in str(error):
            yield f"it said: {error}"
    except Exception as error:
        yield f"{type(error).__name__}: {error}"
    yield from _half(folder, before, whole, again=again)
    try:
        run_one(stage, folder)
    except Exception as error:
        yield f"and run again it said {type(error).__name__}: {error}"
        return
    now = content(folder)
    yield from (
        f"{name} differs in the end" for name in sorted(now.keys() | whole.keys()) if now.get(name) != whole.get(name)
    )
    yield from (f"verify: {check.problem}" for check in verify(open_run(folder)).failed)
    yield from (f"left behind: {path}" for path in folder.rglob(".*") if path.name.endswith((".partial", ".previous")))


def _half(folder: Path, before: dict[Path, str], whole: dict[str, str], *, again: bool) -> Iterator[str]:
    """Files that are neither what they were nor what they are to be."""
    for path, digest in before.items():
        moved = (
            folder / ".release.previous" / path.relative_to(folder).relative_to("release")
            if RELEASE in path.parts
            else path
        )
        if not path.exists() and not moved.exists():
            yield f"{path.name} is gone"
        elif not again and path.exists() and sha256(path) != digest:
            yield f"{path.name} has changed"
    try:
        now = content(folder, without=GROWING)
    except Exception as error:
        yield f"a half file: {type(error).__name__}: {error}"
        return
    for name, digest in now.items():
        if digest != whole.get(name):
            yield f"{name} is not whole"
