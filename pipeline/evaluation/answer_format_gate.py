"""Whether a guard kept its answer format on the judged records, and what is withheld if it did not.

Probabilities per label describe only answers inside the format, and searches that were finished. Where too much is
outside or too many searches reached their node budget, the numbers are kept in evaluation.json, but are not headlined,
and no thresholds are given."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.guard_tables import SLACK, GuardTable
from marginalia.schemas.calibration_json import Calibration
from marginalia.schemas.evaluation_json import AnswerFormat
from marginalia.schemas.thresholds_json import GuardThresholds

NODE_BUDGET = "node_budget"  # of ScoredRecord.stopped
SETTING = "evaluate.allow_off_format: true"


def answer_format(
    table: GuardTable,
    records: pl.DataFrame,
    config: EvaluateSection,
    *,
    tolerance: float | None,
    is_outside: Callable[[str], bool] | None,
) -> AnswerFormat:
    """How far the guard kept its format on the judged records of `table`. `records`: ScoredRecord; `tolerance`: of the
    search; `is_outside`: whether a text in the column `answer` is outside the format, None where that is not known."""
    judged_ids = [name for name, judged in zip(table.ids, table.on(config.judged_on), strict=True) if judged]
    judged = records.filter(pl.col("record_id").is_in(judged_ids))
    answers = judged["answer"].drop_nulls().to_list()
    mass = _mean(judged["off_language"])
    at_budget = _at_budget(judged, tolerance)
    limit = config.most_off_format
    reasons = []
    greedy_outside = sum(map(is_outside, answers)) if is_outside is not None and answers else None
    if mass is not None and mass > limit:
        reasons.append(_off_format_reason(mass, greedy_outside, len(answers)))
    if at_budget is not None and judged.height and at_budget / judged.height > limit:
        reasons.append(
            f"for {at_budget / judged.height:.1%} of the records the search reached its node budget before it was "
            "finished (raise score.node_budget)"
        )
    reason = "; ".join(reasons) or None
    return AnswerFormat(
        records=judged.height,
        off_format=mass,
        greedy_answers=len(answers) if is_outside is not None else None,
        greedy_outside=greedy_outside,
        at_node_budget=at_budget,
        limit=limit,
        reason=reason,
        withheld=reason is not None and not config.allow_off_format,
    )


def _off_format_reason(mass: float, greedy_outside: int | None, answers: int) -> str:
    on_average = f"on average {mass:.1%} of its probability is on answers outside the format"
    if greedy_outside is None:
        return f"this guard left its answer format: {on_average}"
    share = greedy_outside / answers
    return f"this guard left its answer format in {share:.1%} of the records (greedy answers); {on_average}"


def _at_budget(judged: pl.DataFrame, tolerance: float | None) -> int | None:
    """The records whose search stopped at its budget with more mass unexplored than the tolerance. None where the files
    do not say why searches stopped."""
    if "stopped" not in judged.columns or judged["stopped"].null_count() == judged.height:
        return None
    stopped = judged.filter(pl.col("stopped") == NODE_BUDGET)
    return stopped.filter(pl.col("unexplored") > (tolerance or 0.0) + SLACK).height


def _mean(values: pl.Series) -> float | None:
    mean = values.drop_nulls().mean()
    return float(mean) if isinstance(mean, float) else None


def withheld_reason(found: AnswerFormat | None) -> str | None:
    """Why the guard's thresholds are withheld; None when they are given."""
    if found is None or not found.withheld:
        return None
    return f"{found.reason}; to get thresholds all the same: {SETTING}"


def without_thresholds(thresholds: GuardThresholds, found: AnswerFormat | None) -> GuardThresholds:
    """`thresholds`, each null with the reason when the guard did not keep its format."""
    if (reason := withheld_reason(found)) is None:
        return thresholds
    dumped = thresholds.model_dump()
    for estimator in dumped["estimators"].values():
        for goals in (estimator["overall"], *estimator["labels"].values()):
            for goal in goals.values():
                goal |= {"threshold": None, "reason": reason}
    return GuardThresholds.model_validate({**dumped, "withheld": reason})


def marked(calibration: Calibration, found: AnswerFormat | None) -> Calibration:
    """`calibration`, marked with the reason when the guard did not keep its format."""
    return calibration.model_copy(update={"withheld": withheld_reason(found)})
