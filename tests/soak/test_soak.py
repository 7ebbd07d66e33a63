"""25 kills and 25 other faults over generate, push, pull and score, and a sample of all operations on the disk that can
fail; `make soak` does 300 and all."""

from __future__ import annotations

import pytest

from tests.soak.__main__ import Services, summary, table
from tests.soak.harness import soak
from tests.soak.operations import every_operation
from tests.soak.small_run import SmallLine

pytestmark = pytest.mark.slow
KILLS = {"generate": 8, "push": 4, "pull": 6, "score": 7}
SAMPLE = (  # every operation of plan, and a number of those of each other stage
    "plan 1000, import 20, generate 20, push 8, pull 12, reconcile 16, score 8, shard 1/2 4, merge 8, evaluate 5, "
    "report 5, release 6, publish 6"
)
OPERATIONS = {stage: int(most) for stage, _, most in (item.rpartition(" ") for item in SAMPLE.split(", "))}


def test_25_kills_and_25_faults_lose_nothing_and_double_nothing(running: Services) -> None:
    with running.cases() as four:
        tallies = [soak(case, KILLS[case.stage], 2026) for case in four]
    assert not [what for one in tallies for what in one.wrong], table(tallies)
    assert summary(tallies) == {"kills": 25, "lost": 0, "doubled": 0, "faults": 25, "survived": 25}


def test_no_operation_that_fails_leaves_half_a_file(line: SmallLine) -> None:
    tallies = [every_operation(line, stage, 2026, most=OPERATIONS[stage]) for stage in line.before]
    assert not [what for one in tallies for what in one.wrong], table(tallies)
    assert all(one.faults == one.runs for one in tallies), table(tallies)
