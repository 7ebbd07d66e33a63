"""What `marginalia.evaluate` returns: the evaluation with tables and plots, for the terminal and for notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import polars as pl
from markupsafe import Markup

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, Results
from marginalia.pipeline.in_memory.evaluation_plots import GOAL, PLOTS, GuardPlots, Plot
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.report_data import headlined, recommended_estimator
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE, EstimatorEvaluation, GuardEvaluation, Metric, Threshold
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.terminal import table, wrapped
from marginalia.schemas.text_checks import displayable

Value = TypeVar("Value")
SHARED, WIDE_BOUNDS = " (all)", " *"
COLUMNS = ("label", "positives", "ROC AUC", "threshold", "precision", "recall")


@dataclass(frozen=True, repr=False, eq=False)
class EvaluationResult(Results):
    """The evaluation of guards on gold. It prints as `summary()`.

    `evaluation` is the content of evaluation.json, `thresholds` that of thresholds.json, `calibrations` that of
    calibration.json. `notes` say what `evaluate` filled in."""

    gold: pl.DataFrame  # GoldRecord, without the records that `where` leaves out
    guards: list[GuardScores]
    taxonomy: Taxonomy
    config: EvaluateSection
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The main numbers of each guard, and a table of its labels by the recommended estimator. A guard that did not
        keep its answer format has no table."""
        lines = [*(wrapped(f"note: {note}") for note in self.notes), *map(wrapped, headline(self.evaluation))]
        for guard in self.evaluation.guards:
            best = recommended_estimator(guard)
            if best is not None and headlined(guard):
                lines += ["", table(COLUMNS, _rows(best), indent=0), *map(wrapped, self._legend(guard, best))]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.summary()

    def plot(
        self, name: str, label: str | None = None, *, guard: str | None = None, estimator: str | None = None
    ) -> Plot:
        """A plot that notebooks show and `.save(path)` writes as SVG. Its title is the finding.

        name: `threshold` (precision and recall by threshold, on the test split), `calibration` (before and after
        recalibration) or `roc`. label: default is all labels together; `unsafe` is the verdict (not for calibration).
        guard: default is the first; estimator: default is the recommended one. Raises InputError for an unknown name,
        and when there are no records to draw the plot of."""
        if name not in PLOTS:
            raise InputError(f"no plot '{name}'{did_you_mean(name, PLOTS)}", hint=f"one of {', '.join(PLOTS)}")
        evaluated = _named("guard", guard, {each.guard: each for each in self.evaluation.guards})
        shown = estimator if estimator is not None else evaluated.recommended
        if shown is None:
            raise InputError(f"no estimator of {evaluated.guard} can be shown: {evaluated.recommended_because}")
        best = _named("estimator", shown, {each.estimator: each for each in evaluated.estimators})
        return self._plots[evaluated.guard].draw(name, evaluated, best, label)

    @cached_property
    def _plots(self) -> dict[str, GuardPlots]:
        return {own.guard: GuardPlots(self.gold, own, self.taxonomy, self.config) for own in self.guards}

    def _legend(self, guard: GuardEvaluation, best: EstimatorEvaluation) -> list[str]:
        cells = [cell for row in _rows(best) for cell in row]
        parts = [
            f"guard {guard.guard}, estimator {best.estimator}",
            "thresholds of highest F1, chosen on the calibration split",
            f"precision and recall on the test split, {self.evaluation.confidence:.0%} intervals",
        ]
        if any(cell.endswith(SHARED) for cell in cells):
            parts.append("(all): the threshold of all labels together, because the label has too few positives")
        if any(cell.endswith(WIDE_BOUNDS) for cell in cells):
            parts.append("*: the bounds of the probabilities leave a range that is wide next to the interval")
        return parts

    def _repr_html_(self) -> str:
        """For notebooks."""
        notes = [f"note: {note}" for note in self.notes]
        parts = [Markup("<pre>{}</pre>").format(displayable("\n".join([*notes, *headline(self.evaluation)])))]
        for guard in self.evaluation.guards:
            best = recommended_estimator(guard)
            if best is not None and headlined(guard):
                head = Markup("").join(Markup("<th>{}</th>").format(name) for name in COLUMNS)
                body = Markup("").join(
                    Markup("<tr>{}</tr>").format(
                        Markup("").join(Markup("<td>{}</td>").format(displayable(cell)) for cell in row)
                    )
                    for row in _rows(best)
                )
                parts.append(Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body))
                parts.append(Markup("<p>{}</p>").format(displayable("; ".join(self._legend(guard, best)))))
        return str(Markup("").join(parts))


def _named(kind: str, name: str | None, known: dict[str, Value]) -> Value:
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
        raise InputError(f"no {kind} '{name}'{near}")
    return known[name]


def _rows(best: EstimatorEvaluation) -> list[tuple[str, ...]]:
    """The cells of COLUMNS, a row per label, the verdict last."""
    verdict = best.verdict.get("roc_auc")
    positives = {row.label: str(row.positives) for row in best.labels}
    rank = {row.label: row.metrics["roc_auc"] for row in best.labels} | ({UNSAFE: verdict} if verdict else {})
    rows: list[tuple[str, ...]] = []
    for label, thresholds in best.thresholds.labels.items():
        threshold = next(each for each in thresholds if each.goal == GOAL)
        precision, recall = _judged(threshold)
        auc = _metric(rank[label]) if label in rank else "—"
        value = as_text.threshold(threshold.threshold) + (SHARED if threshold.source == "global" else "")
        rows.append((label, positives.get(label, ""), auc, value, precision, recall))
    return rows


def _judged(threshold: Threshold) -> tuple[str, str]:
    judged = threshold.judged_on
    if judged is None:
        return "—", "—"
    return _metric(judged.precision), _metric(judged.recall)


def _metric(metric: Metric) -> str:
    interval = as_text.interval(metric)
    text = as_text.number(metric.value) + (f" ({interval})" if interval else "")
    return text + (WIDE_BOUNDS if as_text.bounds(metric) else "")
