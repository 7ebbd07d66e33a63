"""A real limit of the operating system instead of a patched one: no file may grow beyond a number of bytes."""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.errors import InputError
from tests.soak.small_run import SmallLine, artifacts, content, run_one

pytestmark = pytest.mark.slow
TRIED = 3  # limits a stage


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def limits(line: SmallLine, stage: str) -> list[int]:
    """Half of a file of the stage, for some of them, and nothing at all. Half, because a file that tells times and
    durations is not of the same length each time."""
    before = {path.relative_to(line.before[stage]) for path in artifacts(line.before[stage])}
    new = [path for path in artifacts(line.after[stage]) if path.relative_to(line.after[stage]) not in before]
    sizes = sorted({path.stat().st_size // 2 for path in new})
    return [0, *random.Random(stage).sample(sizes, min(TRIED, len(sizes)))]


def test_every_stage_names_the_file_that_found_no_room_and_then_goes_on(line: SmallLine) -> None:
    for stage in line.before:
        for size in limits(line, stage):
            with line.copy(stage) as folder:
                with pytest.raises(InputError) as caught, no_file_beyond(size):
                    run_one(stage, folder)
                said = str(caught.value)
                path = Path(said.partition(": ")[0])
                assert path.is_relative_to(folder), said
                assert (
                    said == f"{path}: cannot write: File too large (free some space, then run the same command again)"
                )
                run_one(stage, folder)
                assert content(folder) == content(line.after[stage])
                assert not verify(open_run(folder)).failed
