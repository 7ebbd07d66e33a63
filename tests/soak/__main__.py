"""`python -m tests.soak [--kills 300] [--seed 2026]`: kills and faults over generate, push, pull and score; then, for
every stage and every k, the k-th operation on the disk fails.

Prints a table, and as the last line one JSON object: `kills` delivered; items `lost` and `doubled` by kills or faults;
other `faults` that were met, as many as kills, and how many of them were `survived`: the stage named the place in an
error of its own, or went on, and the run came out as if nothing had happened. Exit code 1 when anything was not."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from marginalia.annotation.server.server_control import down, up
from tests.argilla_fixture import free_port
from tests.openai_server import OpenAIServer
from tests.scoring.tiny import save
from tests.soak.cases import Case, Generate, Pull, Push, Score, slow_enough
from tests.soak.harness import Tally, soak
from tests.soak.operations import every_operation
from tests.soak.small_run import SmallLine, lay_out


@dataclass(frozen=True)
class Services:
    """What stages need: a local Argilla in `home` at `url`, and a tiny random model's folder."""

    root: Path
    home: Path
    url: str
    model: Path

    @contextmanager
    def cases(self) -> Iterator[list[Case]]:
        """The four stages to be killed, with a loopback LLM that takes its time."""
        root = self.root
        with OpenAIServer(latency=slow_enough) as server:
            argilla = (root, self.home, self.url)
            yield [Generate(root, server), Push(*argilla), Pull(*argilla), Score(root, self.model)]

    @contextmanager
    def line(self) -> Iterator[SmallLine]:
        """A small run of all stages, with an LLM that answers at once."""
        with OpenAIServer() as server:
            yield lay_out(self.root / "line", server.url, self.home, self.url, self.model)


@contextmanager
def services(root: Path) -> Iterator[Services]:
    """They run for the body."""
    home = root / "argilla-home"
    try:
        yield Services(root, home, up(home, port=free_port()).url, save(root / "model", 4, sharpness=3.0))
    finally:
        down(home)


def table(tallies: list[Tally]) -> str:
    names = ("runs", "kills", "faults", "survived", "lost", "doubled", "repeated")
    lines = ["stage         " + "".join(f"{name:>9}" for name in names) + "  seconds"]
    for one in tallies:
        lines.append(f"{one.stage:14}" + "".join(f"{getattr(one, name):9}" for name in names) + f"{one.seconds:9.0f}")
    return "\n".join([*lines, *(f"WRONG  {what}" for one in tallies for what in one.wrong)])


def summary(tallies: list[Tally]) -> dict[str, int]:
    names = ("kills", "lost", "doubled", "faults", "survived")
    return {name: sum(getattr(one, name) for one in tallies) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="SIGKILL and faults over generate, push, pull and score; the k-th operation of every stage.",
        epilog="Example: python -m tests.soak --kills 300",
    )
    parser.add_argument("--kills", type=int, default=300, help="in all, a quarter for each stage (default 300)")
    parser.add_argument("--operations", type=int, help="most operations that fail in each stage (default: every one)")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    tallies = []
    with tempfile.TemporaryDirectory(prefix="soak-") as root, services(Path(root)) as running:
        with running.cases() as four:
            for place, case in enumerate(four):
                share = options.kills // 4 + (place < options.kills % 4)
                tallies.append(soak(case, share, options.seed))
                print(table(tallies[-1:]), flush=True)
        with running.line() as line:
            for stage in line.before:
                tallies.append(every_operation(line, stage, options.seed, most=options.operations))
                print(table(tallies[-1:]), flush=True)
    print(f"\n{table(tallies)}")
    found = summary(tallies)
    print(json.dumps(found))
    whole = not any(one.wrong for one in tallies)
    return 0 if whole and not found["lost"] + found["doubled"] else 1


if __name__ == "__main__":
    sys.exit(main())
