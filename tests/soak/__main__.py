"""`python -m tests.soak [--kills 300] [--seed 2026]`: kills and faults over generate, push, pull and score.

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
from pathlib import Path

from annotation.server.control import down, up
from tests.argilla_fixture import free_port
from tests.openai_server import OpenAIServer
from tests.scoring.tiny import save
from tests.soak.cases import Case, Generate, Pull, Push, Score, slow_enough
from tests.soak.harness import Tally, soak


@contextmanager
def cases(root: Path) -> Iterator[list[Case]]:
    """The four stages, with a loopback LLM, a local Argilla and a tiny random model for the body."""
    home = root / "argilla-home"
    try:
        url = up(home, port=free_port()).url
        with OpenAIServer(latency=slow_enough) as server:
            model = save(root / "model", 4, sharpness=3.0)
            yield [Generate(root, server), Push(root, home, url), Pull(root, home, url), Score(root, model)]
    finally:
        down(home)


def table(tallies: list[Tally]) -> str:
    names = ("runs", "kills", "faults", "survived", "lost", "doubled", "repeated")
    lines = ["stage     " + "".join(f"{name:>9}" for name in names) + "  seconds"]
    for one in tallies:
        lines.append(f"{one.stage:10}" + "".join(f"{getattr(one, name):9}" for name in names) + f"{one.seconds:9.0f}")
    return "\n".join([*lines, *(f"WRONG  {what}" for one in tallies for what in one.wrong)])


def summary(tallies: list[Tally]) -> dict[str, int]:
    names = ("kills", "lost", "doubled", "faults", "survived")
    return {name: sum(getattr(one, name) for one in tallies) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="SIGKILL and faults over generate, push, pull and score.",
        epilog="Example: python -m tests.soak --kills 300",
    )
    parser.add_argument("--kills", type=int, default=300, help="in all, a quarter for each stage (default 300)")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as root, cases(Path(root)) as four:
        tallies = []
        for place, case in enumerate(four):
            share = options.kills // 4 + (place < options.kills % 4)
            tallies.append(soak(case, share, options.seed))
            print(table(tallies[-1:]), flush=True)
    print(f"\n{table(tallies)}")
    found = summary(tallies)
    print(json.dumps(found))
    whole = not any(one.wrong for one in tallies)
    return 0 if whole and not found["lost"] + found["doubled"] else 1


if __name__ == "__main__":
    sys.exit(main())
