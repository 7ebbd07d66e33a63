"""Config of the score stage."""

from __future__ import annotations

from schemas.strict import Strict


class ScoreSection(Strict):
    """the score stage"""
