"""For all tests: settings of libraries, and which tests one worker of pytest-xdist runs together."""

from __future__ import annotations

import os
from collections import Counter

import marginalia.scoring  # noqa: F401 - before torch is imported, because it sets how torch's threads wait

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it; output is that of a pipe unless a test sets a width

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# the same examples on every run and machine; MARGINALIA_EXAMPLES=5000 looks for new ones
EXAMPLES = os.environ.get("MARGINALIA_EXAMPLES")
settings.register_profile("fixed", derandomize=True, deadline=None, database=None, max_examples=40)
settings.register_profile("search", deadline=None, max_examples=int(EXAMPLES or 1))
settings.load_profile("search" if EXAMPLES else "fixed")

# Tests of one group run in one worker, because they share something that is slow to make: a complete run folder, an
# Argilla server, a demo run. Every other file is its own group. The slowest groups start first, so that the workers
# finish at about the same time.
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
    return max(groups)[1] if groups else path  # the longest start that fits


class GroupScheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    config.option.loadscopereorder = False  # in the order of pytest_collection_modifyitems
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by group: first the slow ones, then the files with most tests."""
    slow_groups = list(GROUPS)
    sizes = Counter(group_of(item.nodeid) for item in items)

    def sort_key(item: pytest.Item) -> tuple[int, int, str]:
        group = group_of(item.nodeid)
        return (slow_groups.index(group) if group in slow_groups else len(slow_groups), -sizes[group], group)

    items.sort(key=sort_key)
