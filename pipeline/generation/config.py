"""Config of the plan and generate stages."""

from __future__ import annotations

from schemas.strict import Strict


class PlanSection(Strict):
    """the plan and generate stages"""


class GenerateSection(Strict):
    """the plan and generate stages"""
