"""For all tests: as `scoring/__init__.py` says, before anything imports torch."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
