"""Stages push, pull, reconcile, adjudicate and audit."""
