"""How a guard with other categories covers the labels of a taxonomy, in manifests and evaluation.json."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class LabelCoverage(StrictModel):
    """How a guard with other categories covers one label of the taxonomy (`score.guards[].categories`)."""

    label: str
    kind: Literal["exact", "union", "bounds"] = Field(
        description="exact: one category of the guard is the label; union: the label applies when any of several does, "
        "with an exact probability; bounds: only a lower and an upper bound are known"
    )
    any_of: list[str] = Field(description="the guard's categories that lie inside the label")
    part_of: list[str] = Field(description="the guard's categories that are wider than the label")


class GuardCoverage(StrictModel):
    """How a guard with other categories covers the labels of the taxonomy."""

    labels: list[LabelCoverage] = Field(description="the covered labels, in the order of the taxonomy")
    not_covered: list[str] = Field(description="the other labels of the taxonomy")
    unused: list[str] = Field(description="categories of the guard that no label names")
