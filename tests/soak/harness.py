"""kill -9 at seeded random moments, again and again until a run ends; then it must be what an uninterrupted run is.

Between the kills the same runs meet as many other faults, chosen by the seed: the k-th fsync or rename fails, all HTTP
calls from the k-th on, or no file may grow beyond a limit. The stage must end with an error of ours, or not at all, and
lose nothing."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGKILL

from tests.soak.cases import Case
from tests.soak.child import ABSORBED, SAID, work

MOST_EVENTS = 8  # of one run, which then may end
PATIENCE = 120  # seconds for a child that is not killed


@dataclass
class Tally:
    """What one stage went through. `lost` and `doubled` count items, `repeated` calls that were paid for twice;
    `survived` counts the faults after which the stage said what was wrong and the run came out whole."""

    stage: str
    runs: int = 0
    kills: int = 0
    faults: int = 0
    survived: int = 0
    lost: int = 0
    doubled: int = 0
    repeated: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Uninterrupted:
    """What a run is that nothing happened to, and how long it took."""

    content: str
    items: Counter[str]
    seconds: float


def soak(case: Case, kills: int, seed: int) -> Tally:
    """Runs of the case under `kills` kills and as many faults, in a random order of both."""
    started = time.monotonic()
    tally = Tally(case.stage)
    soaked = _Soak(case, kills, random.Random(f"{seed}:{case.stage}"), tally)
    while tally.kills < kills or tally.faults < kills:
        soaked.one_run()
    tally.seconds = time.monotonic() - started
    return tally


class _Soak:
    def __init__(self, case: Case, kills: int, draw: random.Random, tally: Tally) -> None:
        self._case, self._kills, self._draw, self._tally = case, kills, draw, tally
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["tests.soak.child"])
        self._whole = self._uninterrupted("warm-up")  # starts the fork server
        self._whole = self._uninterrupted("whole")

    def _uninterrupted(self, name: str) -> Uninterrupted:
        folder = self._case.lay_out(f"{self._case.stage}-{name}")
        started = time.monotonic()
        code = self._end(self._start(folder))
        if code != 0:
            raise RuntimeError(f"{self._case.stage} without any fault ended with {code}")
        return Uninterrupted(self._case.content(folder), self._case.items(folder), time.monotonic() - started)

    def one_run(self) -> None:
        """One run from nothing to its end, and what became of it."""
        case, tally = self._case, self._tally
        folder = case.lay_out(f"{case.stage}-{tally.runs}")
        tally.runs += 1
        events = faults = 0
        wrong: list[str] = []
        while not (folder / f"manifests/{case.stage}.json").exists():
            paid, kept = case.paid(), case.kept(folder)
            event = self._next(events)
            code = self._fault(folder) if event == "fault" else self._kill(folder, spare=event == "end")
            killed, met = code == -SIGKILL, code in (SAID, ABSORBED)
            if not (killed or met or code == 0):
                wrong.append(f"{folder.name}: {event}: exit code {code}")
                break
            repeated = case.paid() - paid - (case.kept(folder) - kept)
            if not 0 <= repeated <= case.most_repeated * (1 if killed else 4 if met else 0):
                wrong.append(f"{folder.name}: {event}: {repeated} calls were paid for twice")
            tally.kills, tally.faults, tally.repeated = (
                tally.kills + killed,
                tally.faults + met,
                tally.repeated + repeated,
            )
            events, faults = events + 1, faults + met
        self._judge(folder, faults, wrong)

    def _next(self, events: int) -> str:
        left = {"kill": self._kills - self._tally.kills, "fault": self._kills - self._tally.faults}
        wanted = [name for name, count in left.items() if count > 0]
        return self._draw.choice(wanted) if wanted and events < MOST_EVENTS else "end"

    def _judge(self, folder: Path, faults: int, wrong: list[str]) -> None:
        tally = self._tally
        if not wrong:
            items = self._case.items(folder)
            lost, twice = self._whole.items - items, items - self._whole.items
            tally.lost += lost.total()
            tally.doubled += twice.total()
            if lost or twice or self._case.content(folder) != self._whole.content:
                wrong.append(f"{folder.name}: is not what an uninterrupted run is")
        tally.wrong += wrong
        if not wrong:
            tally.survived += faults
            shutil.rmtree(folder)

    def _start(self, folder: Path, fault: tuple[str, int] | None = None) -> BaseProcess:
        child = self._processes.Process(target=work, args=(self._case.stage, str(folder), fault))
        child.start()
        return child

    def _end(self, child: BaseProcess) -> int | None:
        child.join(PATIENCE)
        if child.exitcode is None:
            child.kill()
            child.join()
            return None
        return child.exitcode

    def _kill(self, folder: Path, *, spare: bool) -> int | None:
        child = self._start(folder)
        if not spare:
            time.sleep(self._draw.random() * self._whole.seconds)
            child.kill()
        return self._end(child)

    def _fault(self, folder: Path) -> int | None:
        kind = self._draw.choice(self._case.faults)
        most = {"full": 30_000, "replace": 4, "fsync": 12, "http": 25}[kind]
        return self._end(self._start(folder, (kind, self._draw.randint(1, most))))
