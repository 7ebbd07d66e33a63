"""Speed, as ratios in one run."""

import scoring  # noqa: F401 - before anything imports torch: it says how torch's threads wait
