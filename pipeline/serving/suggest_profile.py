"""`marginalia profile suggest`: a profile from a run's evaluation, with what the evaluation shows about each label.

A label may block where the report's first screen says `block` for the aim (pipeline/report/decision.py), at the same
threshold. Where it does not, the label is reviewed if the guard surely ranks it better than chance, and else ignored.
Review starts at the calibrated probability at which a miss costs as much as a false alarm, or higher where more records
than people can review would be sent to them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marginalia.pipeline.compare.compared_run import ComparedRun, load_compared_run
from marginalia.pipeline.core.artifacts import CALIBRATION, THRESHOLDS
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.evaluation.answer_format_gate import withheld_reason
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.decision import PRECISION_GOAL, LabelDecision, chosen_threshold, label_decision
from marginalia.pipeline.report.estimator_findings import chance_finding, chance_metric
from marginalia.pipeline.serving.review_band import ScoreBounds, cost_threshold, review_from, reviewed
from marginalia.schemas.calibration_json import Calibration
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import UNSAFE, Metric
from marginalia.schemas.storage.files import sha256
from marginalia.schemas.taxonomy import taxonomy_path
from marginalia.scoring.config import GuardRun
from marginalia.scoring.guard import load_guard
from marginalia.scoring.measures.calibration import apply
from marginalia.scoring.measures.conclusions import FEW_RECORDS, compare, interval_of
from marginalia.scoring.measures.intervals import share
from marginalia.scoring.moderation_profile import (
    HashedFile,
    LabelRule,
    ModerationRules,
    OffFormatRule,
    Profile,
    ProfileSearch,
    Promise,
    StraddlingRule,
    SuggestedFrom,
)
from marginalia.scoring.score_request import fields_of

MOST_NAMED = 20  # labels in an error message
NOT_ABOVE_CHANCE = "the guard is not shown to rank this label better than chance"
ONLY_BOUNDS = "the guard gives only bounds of its probability"
NOT_SCORED = "the run has no scores of this label"
NEVER_REVIEWED = "no probability of this label is worth a review within the review share"


@dataclass(frozen=True)
class Aims:
    """What the profile is for. `target`: of precision; `review_share`: the largest share of records that people
    review; costs: of one missed label and of one wrong flag, in the same unit."""

    target: float
    review_share: float
    cost_miss: float
    cost_false_alarm: float

    @property
    def goal(self) -> str:
        """As thresholds.json names it."""
        return f"{PRECISION_GOAL}{self.target:g}"


@dataclass(frozen=True)
class SuggestedProfile:
    """A profile, and what its reader must know first."""

    profile: Profile
    warnings: list[str]


def read_aim(text: str) -> float:
    """The target of an aim such as 'precision>=0.9'. Raises InputError for any other text."""
    match = re.fullmatch(r"\s*precision\s*>=\s*(0?\.\d+)\s*", text)
    if match is None or not 0 < float(match[1]) < 1:
        raise InputError(f"--aim {text}: expected a precision between 0 and 1", hint="such as --aim 'precision>=0.9'")
    return float(match[1])


def suggest(folder: Path, guard: str | None, aims: Aims, out: Path) -> SuggestedProfile:
    """The profile for one guard of the evaluated run in `folder`, with paths relative to `out`.

    Raises InputError when the evaluation is missing, out of date, withheld, does not have the aim, or supports neither
    `block` nor `review` for any label."""
    compared = load_compared_run(folder, guard, None)
    run, search = compared.run, compared.run.config.score
    entry = _checked(compared, aims)
    calibration = _calibration(compared)
    decided = {label: _decided(compared, label, aims) for label in compared.estimator.thresholds.labels}
    decided.pop(UNSAFE, None)
    off_format = run.config.evaluate.most_off_format
    labels = _label_rules(compared, decided, calibration, aims, off_format)
    scored = {**labels, **{row.label: _ignored(ONLY_BOUNDS) for row in compared.guard.only_bounds}}
    loaded = load_guard(entry.guard, run.taxonomy, relative_to=run.folder, categories=entry.categories)
    scored |= {label: _ignored(NOT_SCORED) for label in loaded.rows if label != UNSAFE and label not in scored}
    if all(rule.ignore for rule in scored.values()):
        reasons = "; ".join(f"{label}: {rule.reason}" for label, rule in list(scored.items())[:MOST_NAMED])
        raise InputError(
            f"the evaluation supports neither block nor review for any label ({reasons})",
            hint=f"label more records, or use another guard: {run.command('report')} shows what is missing",
        )
    reviewed_share = _reviewed_share(compared, scored, off_format)
    profile = Profile(
        simulated=compared.evaluation.simulated,
        guard=_moved(entry, run, out),
        taxonomy=_taxonomy(run, out),
        estimator=compared.estimator.estimator,
        search=ProfileSearch(**fields_of(ProfileSearch, search)),
        calibration=_hashed(CALIBRATION.path(run), out),
        thresholds=_hashed(THRESHOLDS.path(run), out),
        labels={label: scored[label] for label in run.taxonomy.ids if label in scored},
        rules=_rules(off_format, search.tolerance),
        suggested=SuggestedFrom(
            run=run.name,
            aim=aims.goal,
            cost_miss=aims.cost_miss,
            cost_false_alarm=aims.cost_false_alarm,
            review_share=aims.review_share,
            reviewed=reviewed_share.value,
            reviewed_low=reviewed_share.low,
            reviewed_high=reviewed_share.high,
            records=reviewed_share.n,
        ),
    )
    return SuggestedProfile(profile, _warnings(compared, profile))


def _checked(compared: ComparedRun, aims: Aims) -> GuardRun:
    """The guard's entry in config.yaml. Raises InputError when its evaluation cannot be used for these aims."""
    run, guard, best = compared.run, compared.guard, compared.estimator
    if (stale := compared.stale) is not None:
        raise InputError(f"the evaluation of {run.folder} is out of date: {stale}", hint=run.command("evaluate"))
    if (withheld := withheld_reason(guard.answer_format)) is not None:
        raise InputError(f"the thresholds of {guard.guard} are withheld: {withheld}")
    goals = {row.goal for rows in best.thresholds.labels.values() for row in rows}
    if aims.goal not in goals:
        targets = ", ".join(sorted(goal for goal in goals if goal.startswith(PRECISION_GOAL))) or "none"
        raise InputError(
            f"the evaluation has no thresholds for '{aims.goal}', but for: {targets}",
            hint=f"add {aims.target:g} to evaluate.precision_targets in config.yaml, then: {run.command('evaluate')}",
        )
    if chance_finding(chance_metric(best)[1]).answer == "no":
        raise InputError(f"{guard.guard} ranks labels worse than chance", hint="use another guard")
    entry = next((entry for entry in run.config.score.guards if entry.name == guard.guard), None)
    if entry is None:
        path = run.path("config.yaml")
        raise InputError.at(path, f"has no guard '{guard.guard}' any more", hint="add it under score: guards: again")
    return entry


def _calibration(compared: ComparedRun) -> Calibration:
    wanted = (compared.guard.guard, compared.estimator.estimator)
    for calibration in CALIBRATION.read(compared.run).calibrations:
        if (calibration.guard, calibration.estimator) == wanted:
            return calibration
    path = CALIBRATION.path(compared.run)
    raise InputError.at(path, f"has no maps of {wanted[0]} for {wanted[1]}", hint=compared.run.command("evaluate"))


def _decided(compared: ComparedRun, label: str, aims: Aims) -> LabelDecision:
    thresholds, confidence = compared.estimator.thresholds.labels[label], compared.evaluation.confidence
    return label_decision(label, thresholds, _auc(compared, label), aims.target, confidence=confidence)


def _auc(compared: ComparedRun, label: str) -> Metric | None:
    return next((row.metrics["roc_auc"] for row in compared.estimator.labels if row.label == label), None)


def _label_rules(
    compared: ComparedRun,
    decided: dict[str, LabelDecision],
    calibration: Calibration,
    aims: Aims,
    off_format: float,
) -> dict[str, LabelRule]:
    least = cost_threshold(aims.cost_miss, aims.cost_false_alarm)
    block, reasons = {}, {}
    for label, row in decided.items():
        if row.verdict != "block" or row.threshold is None:
            reasons[label] = row.why
        elif apply(calibration, label, row.threshold) < least:
            reasons[label] = (
                f"{row.why}, but at its threshold {as_text.threshold(row.threshold)} false alarms cost more than misses"
            )
        else:
            block[label] = row.threshold
    may_review = [label for label in decided if label in block or _may_review(compared, label, decided[label])]
    scores = _scores(compared)
    review = review_from(
        scores.rows(compared.table.on(["calibration"])),
        block,
        may_review,
        calibration,
        off_format,
        least=least,
        share=aims.review_share,
    )
    rules = {}
    for label, row in decided.items():
        if label in block:
            promise = _promise(compared, label, aims)
            rules[label] = LabelRule(block=block[label], review=review.get(label), promise=promise)
        elif label in review:
            rules[label] = LabelRule(review=review[label], reason=reasons[label])
        elif label in may_review:
            rules[label] = _ignored(f"{reasons[label]}; {NEVER_REVIEWED}")
        elif row.verdict == "not usable" or row.threshold is None:
            rules[label] = _ignored(reasons[label])
        else:
            rules[label] = _ignored(f"{reasons[label]}; {NOT_ABOVE_CHANCE}")
    return rules


def _may_review(compared: ComparedRun, label: str, row: LabelDecision) -> bool:
    """Whether a label that does not block is worth a review: it has a threshold, and its ROC AUC is surely above
    chance. An AUC without an interval (it is 1 in every resample) is replaced by the precision, which must surely be
    above the share of records with the label."""
    auc, judged = _auc(compared, label), row.judged
    if row.verdict == "not usable" or row.threshold is None or auc is None or auc.n < FEW_RECORDS:
        return False
    above = compare(auc, as_text.CHANCE, "above")
    if above == "not computed" and judged is not None and judged.n:
        above = compare(judged.precision, judged.positives / judged.n, "above")
    return above == "yes"


def _ignored(reason: str) -> LabelRule:
    return LabelRule(ignore=True, reason=reason)


def _promise(compared: ComparedRun, label: str, aims: Aims) -> Promise | None:
    chosen = chosen_threshold(compared.estimator.thresholds.labels[label], aims.target)
    judged = chosen.judged_on if chosen is not None else None
    if chosen is None or judged is None or judged.precision.value is None:
        return None
    low, high = interval_of(judged.precision)
    return Promise(
        aim=aims.goal,
        goal=chosen.goal,
        precision=judged.precision.value,
        low=max(low or 0.0, 0.0),
        high=min(1.0 if high is None else high, 1.0),
        confidence=compared.evaluation.confidence,
        flagged=judged.flagged,
        positives=judged.positives,
        records=judged.n,
    )


def _scores(compared: ComparedRun) -> ScoreBounds:
    table, name = compared.table, compared.estimator.estimator
    lower, upper = table.bounds.get(name, (table.scores[name], table.scores[name]))
    outside = dict(compared.scored_records.select("record_id", "off_language").iter_rows())
    off_language = np.array([outside.get(record_id) for record_id in table.ids], dtype=np.float64)
    return ScoreBounds(table.labels, lower, upper, off_language)


def _reviewed_share(compared: ComparedRun, labels: dict[str, LabelRule], off_format: float) -> Metric:
    scores = _scores(compared).rows(compared.table.on(["test"]))
    block = {label: rule.block for label, rule in labels.items() if rule.block is not None}
    review = {label: rule.review for label, rule in labels.items() if rule.review is not None}
    sent = reviewed(scores, block, review, off_format)
    confidence = compared.evaluation.confidence
    return share(int(sent.sum()), len(sent), confidence=confidence, undefined="no test records")


def _rules(off_format: float, tolerance: float) -> ModerationRules:
    """The default rules, with a second search that is finer than the run's."""
    smaller = min(tolerance / 100, StraddlingRule().tolerance or 0.0)
    finer = StraddlingRule(tolerance=float(f"{smaller:.3g}"))
    return ModerationRules(straddling=finer, off_format=OffFormatRule(share=off_format))


def _warnings(compared: ComparedRun, profile: Profile) -> list[str]:
    warnings, found, suggested = [], compared.guard.answer_format, profile.suggested
    if profile.simulated:
        warnings.append("the labels come from SIMULATED annotators: nothing is shown about real records")
    if found is not None and found.reason is not None:
        warnings.append(f"evaluate.allow_off_format is set, and {found.reason}")
    if suggested is not None and suggested.reviewed is not None and suggested.reviewed > suggested.review_share:
        warnings.append(
            f"on the test split {suggested.reviewed:.1%} of the records are sent to review, more than "
            f"{suggested.review_share:.1%}, which held on the calibration split"
        )
    return warnings


def _hashed(path: Path, out: Path) -> HashedFile:
    return HashedFile(path=_relative(path, out), sha256=sha256(path))


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path.resolve(), out.parent.resolve())).as_posix()


def _taxonomy(run: Run, out: Path) -> str:
    path = taxonomy_path(run.config.taxonomy, relative_to=run.folder)
    return run.config.taxonomy if path != run.folder / run.config.taxonomy else _relative(path, out)


def _moved(entry: GuardRun, run: Run, out: Path) -> GuardRun:
    """The entry with the files that are relative to the run folder named relative to the profile."""
    values = {}
    for key in ("guard", "categories", "tokenizer"):
        value = getattr(entry, key)
        if isinstance(value, str) and value and (run.folder / value).exists():
            values[key] = _relative(run.folder / value, out)
    return entry.model_copy(update=values)
