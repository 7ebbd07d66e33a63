"""Simulated annotators, for the demo and for forecasts."""
