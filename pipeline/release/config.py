"""Config of the release and publish stages."""

from __future__ import annotations

from schemas.strict import Strict


class ReleaseSection(Strict):
    """the release and publish stages"""
