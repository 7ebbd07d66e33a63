"""For all tests."""

import os

import marginalia.scoring  # noqa: F401 - before anything imports torch: it says how torch's threads wait

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from hypothesis import settings

# the same examples on every run and machine; MARGINALIA_EXAMPLES=5000 looks for new ones
EXAMPLES = os.environ.get("MARGINALIA_EXAMPLES")
settings.register_profile("fixed", derandomize=True, deadline=None, database=None, max_examples=40)
settings.register_profile("search", deadline=None, max_examples=int(EXAMPLES or 1))
settings.load_profile("search" if EXAMPLES else "fixed")
