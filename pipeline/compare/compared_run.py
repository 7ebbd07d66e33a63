"""One of the two runs that are compared: its evaluation, its gold and one guard's scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from marginalia.pipeline.compare.comparison_model import ComparedRunSummary
from marginalia.pipeline.core.artifacts import EVALUATION, GOLD, PROMPTS, SCORED_RECORDS, SCORES
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import manifest_path, staleness
from marginalia.pipeline.evaluation.evaluate_guards import attribute_rows, chosen_gold
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.evaluation.guard_tables import GuardTable, guard_table
from marginalia.pipeline.evaluation.paired_differences import Judged
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import EstimatorEvaluation, Evaluation, GuardEvaluation
from marginalia.schemas.storage.files import content_hash


@dataclass(frozen=True)
class ComparedRun:
    run: Run
    evaluation: Evaluation
    page: GuardEvaluation
    estimator: EstimatorEvaluation

    @property
    def model(self) -> str | None:
        return next((guard.model for guard in self.run.config.score.guards if guard.name == self.page.guard), None)

    @cached_property
    def gold(self) -> pl.DataFrame:
        return GOLD.read(self.run)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Final record → hash of its text and labels."""
        final = self.gold.filter(pl.col("status") == "final").select("id", "messages", "labels")
        return {record: content_hash([messages, sorted(labels)]) for record, messages, labels in final.iter_rows()}

    @cached_property
    def table(self) -> GuardTable:
        """The guard's scores as evaluate saw them."""
        run, name = self.run, self.page.guard
        where = run.config.evaluate.where
        gold = self.gold
        if where:
            gold = chosen_gold(gold, attribute_rows(PROMPTS.read(run)), where)
        scores, records = SCORES.of(name).read(run), SCORED_RECORDS.of(name).read(run)
        return guard_table(name, gold, scores, records, run.taxonomy.ids)

    @cached_property
    def judged(self) -> Judged:
        return Judged.of(self.table, self.estimator)

    def summary(self) -> ComparedRunSummary:
        return ComparedRunSummary(
            run=self.run.name,
            simulated=self.evaluation.simulated,
            taxonomy=self.evaluation.taxonomy,
            guard=self.page.guard,
            model=self.model,
            estimator=self.estimator.estimator,
            records=self.page.records,
            gold_sha256=content_hash(self.fingerprints),
        )

    @property
    def stale(self) -> str | None:
        """Why the evaluation is not of the run as it is now; None when it is, or when nothing tells."""
        return staleness(EVALUATE, self.run) if manifest_path(self.run, "evaluate").exists() else None


def load_compared_run(folder: Path, guard: str | None, estimator: str | None) -> ComparedRun:
    """The run in `folder`; guard and estimator default to its first and its recommended one. Raises InputError when
    there is no evaluation, or no such guard or estimator in it."""
    run = open_run(folder)
    path, evaluation = EVALUATION.path(run), EVALUATION.read(run)
    pages = {page.guard: page for page in evaluation.guards}
    if not pages:
        raise InputError.at(path, "judges no guard", hint=run.command("score"))
    if guard is not None and guard not in pages:
        near = did_you_mean(guard, pages) or f"; it has: {', '.join(pages)}"
        raise InputError.at(path, f"has no guard '{guard}'{near}")
    page = pages[guard] if guard is not None else evaluation.guards[0]
    found = {each.estimator: each for each in page.estimators}
    name = estimator or page.recommended
    if name is None:
        raise InputError.at(
            path, f"recommends no estimator of {page.guard}: {page.recommended_because}", hint="score more records"
        )
    if name not in found:
        near = did_you_mean(name, found) or f"; it has: {', '.join(found)}"
        raise InputError.at(path, f"has no estimator '{name}' of {page.guard}{near}")
    return ComparedRun(run, evaluation, page, found[name])
