"""Profiles for moderation: `marginalia profile`."""
