"""A run and its stages: order, staleness, manifests, log, checked reading."""
