"""The charts of a card: the report's plots as SVG files that stand on their own, light whatever shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from marginalia.pipeline.report.gold_sections import built, trust
from marginalia.pipeline.report.guard_figures import estimators_figure, labels_figure, reliability_figure
from marginalia.pipeline.report.report_data import Figure, ReportData
from marginalia.pipeline.report.svg import standalone

STYLE = Path(__file__).parent / "chart.css"


@dataclass(frozen=True)
class Chart:
    """`path` inside the release; `title` is the finding, for the card's caption and for screen readers."""

    path: str
    title: str
    note: str
    svg: str


def charts(material: ReportData) -> list[Chart]:
    """Gold by label, agreement, and for each guard its estimators, calibration and labels, as far as there are any."""
    figures: list[tuple[str, Figure | None]] = [("labels", built(material).figure)]
    agreement = trust(material)
    figures.append(("agreement", agreement.figure if agreement is not None else None))
    for page in material.evaluation.guards:
        best = next((each for each in page.estimators if each.estimator == page.recommended), None)
        if best is None:
            continue
        figures.append((f"{page.guard}-estimators", estimators_figure(page)))
        figures.append((f"{page.guard}-calibration", reliability_figure(best)))
        labels = labels_figure(best, material.label_names, material.evaluation.confidence)
        figures.append((f"{page.guard}-labels", labels))
    style = STYLE.read_text(encoding="utf-8")
    found = [
        Chart(f"charts/{name}.svg", figure.title, figure.note, standalone(figure.drawing, style, figure.title))
        for name, figure in figures
        if figure is not None
    ]
    if not material.simulated:
        return found
    return [replace(chart, title=f"{chart.title} (simulated annotators)") for chart in found]
