"""A run and its stages: order, staleness, manifests, log, and checked reading of its files."""
