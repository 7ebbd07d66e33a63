"""25 kills and 25 other faults over generate, push, pull and score; `make soak` does 300."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.__main__ import cases, summary, table
from tests.soak.harness import soak

pytestmark = pytest.mark.slow
KILLS = {"generate": 8, "push": 4, "pull": 6, "score": 7}


def test_25_kills_and_25_faults_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    with cases(tmp_path) as four:
        tallies = [soak(case, KILLS[case.stage], 2026) for case in four]
    assert not [what for one in tallies for what in one.wrong], table(tallies)
    assert summary(tallies) == {"kills": 25, "lost": 0, "doubled": 0, "faults": 25, "survived": 25}
