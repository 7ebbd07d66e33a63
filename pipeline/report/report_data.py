"""The data that a report shows. Only gold and the evaluation are required: imported data has no plan or answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from markupsafe import Markup

from marginalia.pipeline.evaluation.guard_tables import GuardTable
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.evaluation_json import EstimatorEvaluation, Evaluation, GuardEvaluation, Primary
from marginalia.schemas.generation_json import Generation
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.scoring.guard_kinds import SOURCE_ESTIMATORS


@dataclass(frozen=True)
class ReportData:
    """The files of a run, read. Comments name the row model of each table."""

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
    currency: str = ""  # of the costs in the manifests
    audited: pl.DataFrame | None = None  # AuditedRecord
    generation: Generation | None = None
    primary: Primary = "macro_roc_auc"  # evaluate.primary
    where: Mapping[str, str] = field(default_factory=dict)  # evaluate.where: attribute → value
    tables: Sequence[GuardTable] = ()  # what each guard was judged on; without them there is no record browser

    @property
    def label_names(self) -> dict[str, str]:
        """Label id → name."""
        return {label.id: label.name for label in self.taxonomy.labels}


@dataclass(frozen=True)
class Figure:
    """A plot. Its title is the finding, `note` says how to read it, `n` on how many cases it is based; `csv` has its
    numbers. `alt` lists the numbers, for readers who do not see it; empty where no page needs it."""

    title: str
    drawing: Markup
    note: str
    n: str = ""
    csv: str = ""
    alt: str = ""


def recommended_estimator(guard: GuardEvaluation) -> EstimatorEvaluation | None:
    """The evaluation of the guard's recommended estimator; None when no estimator is recommended."""
    return next((estimator for estimator in guard.estimators if estimator.estimator == guard.recommended), None)


def source_estimator(guard: GuardEvaluation) -> str:
    """The estimator of a guard whose numbers come from a server or a classification head; empty for others."""
    return next((one.estimator for one in guard.estimators if one.estimator in SOURCE_ESTIMATORS), "")


def headlined(guard: GuardEvaluation) -> bool:
    """Whether the guard's numbers may be headlined: it has a recommended estimator and kept its answer format."""
    withheld = guard.answer_format is not None and guard.answer_format.withheld
    return recommended_estimator(guard) is not None and not withheld


def format_warning(guard: GuardEvaluation, *, closing: str = "; the numbers below describe the rest") -> str:
    """What a reader must know first of a guard that did not keep its answer format; empty for others."""
    found = guard.answer_format
    return "" if found is None or found.reason is None else f"{found.reason}{closing}"


def currency_of(manifests: Sequence[Manifest]) -> str:
    """The currency of the costs, from the first manifest that names one; empty when none does."""
    return next((str(currency) for manifest in manifests if (currency := manifest.facts.get("currency"))), "")
