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
from marginalia.pipeline.evaluation.paired_differences import JudgedEstimator
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import EstimatorEvaluation, Evaluation, GuardEvaluation
from marginalia.schemas.storage.files import content_hash


@dataclass(frozen=True)
class GoldOfRecord:
    """Text and labels of a final gold record."""

    text: str  # a hash
    labels: frozenset[str]
    judged: frozenset[str] | None  # None: all labels
    fingerprint: str

    def agrees_with(self, other: GoldOfRecord) -> bool:
        """Whether the text is the same, and also the labels among those that were judged in both."""
        differing = self.labels ^ other.labels
        judged_in_both = [judged for judged in (self.judged, other.judged) if judged is not None]
        return self.text == other.text and not differing.intersection(*judged_in_both)


@dataclass(frozen=True)
class ComparedRun:
    """A run with its evaluation, and the guard and estimator of it that are compared."""

    run: Run
    evaluation: Evaluation
    guard: GuardEvaluation
    estimator: EstimatorEvaluation

    @property
    def model(self) -> str | None:
        """The guard's model as config.yaml names it; None when the guard was removed from there."""
        return next((entry.model for entry in self.run.config.score.guards if entry.name == self.guard.guard), None)

    @cached_property
    def gold(self) -> pl.DataFrame:
        """gold.parquet (GoldRecord)."""
        return GOLD.read(self.run)

    @cached_property
    def records(self) -> dict[str, GoldOfRecord]:
        """Id of each final record → its text and labels."""
        final = self.gold.filter(pl.col("status") == "final").select("id", "messages", "labels", "judged")
        return {
            record: GoldOfRecord(
                content_hash(messages),
                frozenset(labels),
                None if judged is None else frozenset(judged),
                content_hash([messages, sorted(labels), *([] if judged is None else [sorted(judged)])]),
            )
            for record, messages, labels, judged in final.iter_rows()
        }

    @property
    def fingerprints(self) -> dict[str, str]:
        """Id of each final record → hash of its text, its labels and which labels were judged."""
        return {record: gold.fingerprint for record, gold in self.records.items()}

    @cached_property
    def table(self) -> GuardTable:
        """The guard's scores aligned with gold, as the stage evaluate used them."""
        run, name = self.run, self.guard.guard
        where = run.config.evaluate.where
        gold = self.gold
        if where:
            gold = chosen_gold(gold, attribute_rows(PROMPTS.read(run)), where)
        return guard_table(name, gold, SCORES.of(name).read(run), self.scored_records, run.taxonomy.ids)

    @cached_property
    def scored_records(self) -> pl.DataFrame:
        """scores/GUARD.records.parquet (ScoredRecord)."""
        return SCORED_RECORDS.of(self.guard.guard).read(self.run)

    @cached_property
    def judged(self) -> JudgedEstimator:
        """The compared estimator with its scores."""
        return JudgedEstimator.of(self.table, self.estimator)

    def summary(self) -> ComparedRunSummary:
        """What identifies the run, its guard and its estimator in the comparison."""
        return ComparedRunSummary(
            run=self.run.name,
            simulated=self.evaluation.simulated,
            taxonomy=self.evaluation.taxonomy,
            guard=self.guard.guard,
            model=self.model,
            estimator=self.estimator.estimator,
            records=self.guard.records,
            gold_sha256=content_hash(self.fingerprints),
            seconds=self._per_record("seconds"),
            forward_passes=self._per_record("forward_passes"),
        )

    def _per_record(self, column: str) -> float | None:
        """The mean over the records that were scored; None without any, or where the guard recorded only zeros."""
        mean = self.scored_records.filter(pl.col("error").is_null())[column].mean()
        return float(mean) if isinstance(mean, int | float) and mean > 0 else None

    @property
    def stale(self) -> str | None:
        """Why the evaluation is out of date. None when it is up to date, or when there is no manifest to tell."""
        return staleness(EVALUATE, self.run) if manifest_path(self.run, "evaluate").exists() else None


def load_compared_run(folder: Path, guard: str | None, estimator: str | None) -> ComparedRun:
    """Opens the run in `folder`. `guard` defaults to its first guard, `estimator` to the recommended one.

    Raises InputError when the run has no evaluation, or the evaluation no such guard or estimator."""
    run = open_run(folder)
    path, evaluation = EVALUATION.path(run), EVALUATION.read(run)
    guards = {evaluated.guard: evaluated for evaluated in evaluation.guards}
    if not guards:
        raise InputError.at(path, "no guard was evaluated", hint=run.command("score"))
    if guard is not None and guard not in guards:
        suggestion = did_you_mean(guard, guards) or f"; it has: {', '.join(guards)}"
        raise InputError.at(path, f"has no guard '{guard}'{suggestion}")
    guard_evaluation = guards[guard] if guard is not None else evaluation.guards[0]
    estimators = {evaluated.estimator: evaluated for evaluated in guard_evaluation.estimators}
    name = estimator or guard_evaluation.recommended
    if name is None:
        because = guard_evaluation.recommended_because
        raise InputError.at(
            path, f"recommends no estimator of {guard_evaluation.guard}: {because}", hint="score more records"
        )
    if name not in estimators:
        suggestion = did_you_mean(name, estimators) or f"; it has: {', '.join(estimators)}"
        raise InputError.at(path, f"has no estimator '{name}' of {guard_evaluation.guard}{suggestion}")
    return ComparedRun(run, evaluation, guard_evaluation, estimators[name])
