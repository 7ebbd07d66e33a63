"""Evaluation of data frames from Python, without a run folder."""
