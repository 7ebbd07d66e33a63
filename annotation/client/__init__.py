"""Argilla through its API: datasets, records sent, answers fetched."""
