"""Stages score and evaluate."""
