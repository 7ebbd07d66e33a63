"""The charts of a data set card: the report's plots as separate SVG files, always in light colours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from marginalia.pipeline.report.gold_sections import dataset_section, trust_section
from marginalia.pipeline.report.guard_figures import estimators_figure, labels_figure, reliability_figure
from marginalia.pipeline.report.report_data import Figure, ReportData, headlined, recommended_estimator
from marginalia.pipeline.report.svg import standalone

STYLE = Path(__file__).parent / "chart.css"


@dataclass(frozen=True)
class Chart:
    """An SVG file. `path` is inside the release; `title` is the finding, for the caption; `alt` lists the numbers that
    the chart shows, for readers who do not see it."""

    path: str
    title: str
    alt: str
    note: str
    svg: str


def charts(data: ReportData) -> list[Chart]:
    """Gold by label, agreement and, for each guard, its estimators, calibration and labels, where the run has them."""
    agreement = trust_section(data)
    figures: list[tuple[str, Figure | None]] = [
        ("labels", dataset_section(data).figure),
        ("agreement", agreement.figure if agreement is not None else None),
    ]
    for guard in data.evaluation.guards:
        best = recommended_estimator(guard)
        if best is None or not headlined(guard):
            continue
        partly = guard.not_judged is not None and guard.not_judged.cells > 0
        of_guard = {
            "estimators": estimators_figure(guard),
            "calibration": reliability_figure(best),
            "labels": labels_figure(best, data.label_names, data.evaluation.confidence, partly=partly),
        }
        guard_name = f"{guard.guard}: " if len(data.evaluation.guards) > 1 else ""
        figures += [
            (f"{guard.guard}-{name}", replace(figure, title=guard_name + figure.title, alt=guard_name + figure.alt))
            for name, figure in of_guard.items()
            if figure is not None
        ]
    style = STYLE.read_text(encoding="utf-8")
    charts_of_run = [
        Chart(
            f"charts/{name}.svg",
            figure.title,
            figure.alt,
            figure.note,
            standalone(figure.drawing, style, figure.title),
        )
        for name, figure in figures
        if figure is not None
    ]
    if not data.simulated:
        return charts_of_run
    return [
        replace(
            chart,
            title=f"{chart.title} (simulated annotators)",
            alt=f"{chart.alt.removesuffix('.')}; simulated annotators.",
        )
        for chart in charts_of_run
    ]
