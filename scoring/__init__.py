"""A guard model's answer turned into one probability per label. Imports `schemas` only."""

import os

# OpenMP's threads wait by spinning unless told otherwise before torch is loaded; beside any other busy process they
# then fight for the cores, and a forward pass takes up to ten times as long. A few microseconds of it are worth their
# cost: a pass over a few tokens is 200 small products, and waking a sleeping thread for each took half of its time
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
