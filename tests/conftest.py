"""For all tests: settings of libraries, and which tests one worker of pytest-xdist runs together."""

from __future__ import annotations

import os
from collections import Counter

import marginalia.scoring  # noqa: F401 - before anything imports torch: it says how torch's threads wait

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# the same examples on every run and machine; MARGINALIA_EXAMPLES=5000 looks for new ones
EXAMPLES = os.environ.get("MARGINALIA_EXAMPLES")
settings.register_profile("fixed", derandomize=True, deadline=None, database=None, max_examples=40)
settings.register_profile("search", deadline=None, max_examples=int(EXAMPLES or 1))
settings.load_profile("search" if EXAMPLES else "fixed")

# Tests of one group run in one worker, one after the other, because they share what is slow to start: a run folder with
# every stage done, an Argilla server, a demo run. Each other file is a group of its own. The groups that take longest
# come first, so that no worker waits for one at the end.
GROUPS = {
    "soak": ("tests/soak/",),
    "argilla": ("tests/annotation/client/", "tests/annotation/server/"),
    "demo": (
        "tests/pipeline/annotating/test_simulated_annotators.py",
        "tests/pipeline/annotating/test_suspect_labels.py",
        "tests/pipeline/test_overview.py",
        "tests/pipeline/test_run_demo.py",
        "tests/pipeline/test_verify.py",
    ),
    "server control": ("tests/annotation/server/test_control.py",),
    "ray": ("tests/scoring/test_ray_engine.py",),
}


def group_of(nodeid: str) -> str:
    path = nodeid.partition("::")[0]
    groups = [(start, name) for name, starts in GROUPS.items() for start in starts if path.startswith(start)]
    return max(groups)[1] if groups else path  # the longest start


class GroupScheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    config.option.loadscopereorder = False  # in the order of pytest_collection_modifyitems
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow groups first, then the files with most tests."""
    first = list(GROUPS)
    sizes = Counter(group_of(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[int, int, str]:
        group = group_of(item.nodeid)
        return (first.index(group) if group in first else len(first), -sizes[group], group)

    items.sort(key=place)
