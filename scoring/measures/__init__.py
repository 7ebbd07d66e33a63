"""Metrics, calibration, thresholds and intervals over arrays of probabilities."""
