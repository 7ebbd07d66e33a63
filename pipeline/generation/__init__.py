"""Stages plan and generate."""
