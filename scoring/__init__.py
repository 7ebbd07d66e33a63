"""A guard model's answer turned into one probability per label. Imports `schemas` only."""

import os

# OpenMP's threads wait by spinning unless told otherwise before torch is loaded; beside any other busy process they
# then fight for the cores, and a forward pass takes up to ten times as long. But a pass over a few tokens is 200 small
# products, and a thread that sleeps between them makes it take twice as long. So they spin for a fraction of a
# millisecond and then sleep: as fast as spinning on a quiet machine, and beside a busy process never twice as slow as
# sleeping at once
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

COMMAND = "python -m marginalia.scoring"  # as help and hints show it: it also works where there is no checkout
