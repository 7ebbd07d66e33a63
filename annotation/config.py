"""Config of the annotation stages."""

from __future__ import annotations

from schemas.strict import Strict


class AnnotationSection(Strict):
    """the annotation stages"""


class ReconcileSection(Strict):
    """the annotation stages"""
