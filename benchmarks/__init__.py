"""Benchmarks of speed, memory and statistical coverage. Speed is given as ratios, measured in one run."""

import marginalia.scoring  # noqa: F401 - before anything imports torch: it sets how torch's threads wait
