"""Computes one probability per label from a guard model's answers. Imports only `schemas`."""

import os

# By default, waiting OpenMP threads spin (this must be set before torch is loaded). Next to another busy process they
# compete for the cores, and a forward pass takes up to ten times as long. But a pass over a few tokens is 200 small
# products, and threads that sleep at once between them double its time. So they spin for a fraction of a millisecond
# and then sleep: as fast as spinning on an idle machine, and next to a busy process less than twice as slow as sleeping
# at once
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

COMMAND = "python -m marginalia.scoring"  # as shown in help and hints: works with and without a checkout
