"""The plots of an evaluation in memory: the report's drawings, as separate SVG files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path

import polars as pl

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.answer_format_gate import withheld_reason
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores
from marginalia.pipeline.evaluation.guard_tables import GuardTable, guard_table
from marginalia.pipeline.release.card_charts import STYLE
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.guard_figures import reliability_figure, roc_figure
from marginalia.pipeline.report.plots import Axis, Series, curves
from marginalia.pipeline.report.report_data import Figure
from marginalia.pipeline.report.svg import standalone
from marginalia.pipeline.report.threshold_plot import threshold_curve, threshold_plot, threshold_sentence
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE, EstimatorEvaluation, GuardEvaluation, Split
from marginalia.schemas.storage.files import write_text
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.scoring.measures.intervals import Array, Flags
from marginalia.scoring.measures.metrics import roc_points

PLOTS = ("threshold", "calibration", "roc")
GOAL = "max_f1"
ALLOW = "evaluate(…, allow_off_format=True) gives them all the same"


@dataclass(frozen=True)
class Plot:
    """An SVG drawing. `title` is its finding. Notebooks show it."""

    title: str
    svg: str

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the SVG file and returns its path. Raises InputError for another suffix or a failing disk."""
        target = Path(path)
        if target.suffix.lower() != ".svg":
            raise InputError(f"{target}: plots are saved as SVG", hint="give a name that ends in .svg")
        write_text(target, self.svg)
        return target

    def __repr__(self) -> str:
        return f"<Plot: {self.title}>"

    def _repr_html_(self) -> str:
        """For notebooks. As an image, because the style of an SVG inside a page would apply to the whole page."""
        data = base64.b64encode(self.svg.encode()).decode()
        title = escape(self.title)
        image = f'<img src="data:image/svg+xml;base64,{data}" alt="{title}">'
        return f"<figure>{image}<figcaption>{title}</figcaption></figure>"


@dataclass(frozen=True)
class GuardPlots:
    """Draws the plots of one guard. `gold`: GoldRecord, the records that were evaluated."""

    gold: pl.DataFrame
    scores: GuardScores
    taxonomy: Taxonomy
    config: EvaluateSection

    def draw(self, name: str, guard: GuardEvaluation, best: EstimatorEvaluation, label: str | None) -> Plot:
        """The plot `name` of PLOTS. Raises InputError when there are too few records, or for an unknown label."""
        known = [*self.table.labels, *([] if name == "calibration" else [UNSAFE])]
        if label is not None and label not in known:
            near = did_you_mean(label, known) or f"; there are {', '.join(known)}"
            raise InputError(f"no {name} plot of a label '{label}'{near}")
        if name == "threshold":
            if (reason := withheld_reason(guard.answer_format)) is not None:
                raise InputError(f"{guard.guard} has no thresholds: {reason.partition('; to get')[0]}", hint=ALLOW)
            return self._threshold(best, label)
        figure = self._calibration(best, label) if name == "calibration" else self._roc(guard, best, label)
        return Plot(figure.title, standalone(figure.drawing, STYLE.read_text("utf-8"), figure.title))

    def _threshold(self, best: EstimatorEvaluation, label: str | None) -> Plot:
        rows = best.thresholds.overall if label is None else best.thresholds.labels.get(label, [])
        chosen = next((row.threshold for row in rows if row.goal == GOAL), None)
        truth, p, judged = self._cells(best, label, ["test"])
        title = f"{as_text.plural(len(self.table.labels), 'label')}" if label is None else self._names[label]
        curve = threshold_curve(truth, p, title=title, chosen=chosen, confidence=self.config.confidence, judged=judged)
        sentence = threshold_sentence(curve)
        return Plot(sentence, standalone(threshold_plot(curve), STYLE.read_text("utf-8"), sentence))

    def _calibration(self, best: EstimatorEvaluation, label: str | None) -> Figure:
        if label is None:
            figure = reliability_figure(best)
        else:
            report = best.calibration
            own = {
                "raw": report.labels_raw.get(label),
                "recalibrated": report.labels_recalibrated.get(label),
                "bias": None,
                "improvement": None,
            }
            figure = reliability_figure(best.model_copy(update={"calibration": report.model_copy(update=own)}))
            figure = figure and replace(figure, title=f"{self._names[label]}: {figure.title}")
        if figure is None:
            raise InputError("there is no calibration to show", hint="gold needs records in the split 'test'")
        return figure

    def _roc(self, guard: GuardEvaluation, best: EstimatorEvaluation, label: str | None) -> Figure:
        if label is None:
            order = sorted(guard.estimators, key=lambda each: each.estimator != best.estimator)
            return roc_figure(guard.model_copy(update={"recommended": best.estimator, "estimators": order}))
        truth, p, _ = self._cells(best, label, self.config.judged_on)
        x, y = roc_points(truth, p)
        auc = best.verdict.get("roc_auc") if label == UNSAFE else None
        auc = next((row.metrics["roc_auc"] for row in best.labels if row.label == label), auc)
        value = "ROC AUC not available" if auc is None else f"ROC AUC {as_text.with_interval(auc)}"
        title = f"{self._names[label]}: {value}"
        axes = Axis(0, 1, "false-positive rate"), Axis(0, 1, "true-positive rate")
        series = [Series(f"{self._names[label]}, {best.estimator}", x.tolist(), y.tolist(), 1)]
        return Figure(title, curves(series, *axes, alt=title, diagonal=True), "")

    def _cells(
        self, best: EstimatorEvaluation, label: str | None, splits: Sequence[Split]
    ) -> tuple[Flags, Array, Flags]:
        """(truth, p, judged) of the records of these splits with a judged value: (records,) for a label, (records,
        labels) for all."""
        table = self.table
        if label is None:
            inside = table.judged_on(splits)
            truth, p, judged = table.truth, table.scores[best.estimator], table.judged
        elif label == UNSAFE:
            if best.estimator not in table.verdicts:
                raise InputError(f"{best.estimator} has no scores of the verdict for all records")
            inside = table.verdict_on(splits)
            truth, p, judged = table.any_label, table.verdicts[best.estimator], table.verdict_judged
        else:
            column = table.labels.index(label)
            truth, p, judged = table.truth[:, column], table.scores[best.estimator][:, column], table.judged[:, column]
            inside = table.on(splits) & judged
        if not inside.any():
            raise InputError(f"no judged record is in the {as_text.splits(splits)}", hint="gold needs records there")
        return truth[inside], p[inside], judged[inside]

    @cached_property
    def table(self) -> GuardTable:
        """Gold and scores as aligned arrays."""
        own = self.scores
        return guard_table(own.guard, self.gold, own.scores, own.records, self.taxonomy.ids)

    @property
    def _names(self) -> dict[str, str]:
        names = {label.id: label.name for label in self.taxonomy.labels}
        return {**names, UNSAFE: f"verdict: {self.taxonomy.verdict}"}
