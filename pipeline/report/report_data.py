"""What a report is made of. Everything but gold and the evaluation may be absent: an imported set has no history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl
from markupsafe import Markup

from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.generation_json import Generation
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.taxonomy import Taxonomy


@dataclass(frozen=True)
class ReportData:
    name: str
    seed: int
    simulated: bool
    taxonomy: Taxonomy
    evaluation: Evaluation
    gold: pl.DataFrame  # GoldRecord
    agreement: Agreement | None = None
    manifests: list[Manifest] = field(default_factory=list)
    plan: pl.DataFrame | None = None  # PlannedSlot
    prompts: pl.DataFrame | None = None  # PromptRecord
    rejected: pl.DataFrame | None = None  # RejectedAttempt
    annotations: pl.DataFrame | None = None  # Answer
    currency: str = ""  # that of the manifests' costs
    audited: pl.DataFrame | None = None  # AuditedRecord
    generation: Generation | None = None

    @property
    def label_names(self) -> dict[str, str]:
        return {label.id: label.name for label in self.taxonomy.labels}


@dataclass(frozen=True)
class Figure:
    """A plot whose title states what it shows; `note` says how to read it."""

    title: str
    drawing: Markup
    note: str


def currency_of(manifests: Sequence[Manifest]) -> str:
    """The currency that the stages paid in, as they noted it; empty where none was."""
    return next((str(found) for made in manifests if (found := made.facts.get("currency"))), "")
