"""Stages release and publish."""
