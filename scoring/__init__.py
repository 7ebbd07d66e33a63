"""A guard model's answer turned into one probability per label. Imports `schemas` only."""

import os

# OpenMP's threads wait by spinning unless told otherwise before torch is loaded; beside any other busy process they
# then fight for the cores, and a forward pass takes up to ten times as long
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
