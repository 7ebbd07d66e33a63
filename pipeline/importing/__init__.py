"""Existing data sets as records of a run: which columns and label values mean what."""
