"""Config of the evaluate stage."""

from __future__ import annotations

from schemas.strict import Strict


class EvaluateSection(Strict):
    """the evaluate stage"""
