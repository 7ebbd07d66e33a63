"""Speed, as ratios in one run."""

import marginalia.scoring  # noqa: F401 - before anything imports torch: it says how torch's threads wait
