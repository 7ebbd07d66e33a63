"""Material → one self-contained HTML page: no scripts, nothing loaded from anywhere, every text escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from marginalia.pipeline.report import as_text, guard_sections
from marginalia.pipeline.report.annotator_section import people
from marginalia.pipeline.report.gold_sections import built, stage_rows, trust
from marginalia.pipeline.report.guard_comparison import side_by_side
from marginalia.pipeline.report.guard_sections import guard_view
from marginalia.pipeline.report.report_data import ReportData

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # for every file: select_autoescape would pass over .html.j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def build_page(material: ReportData) -> str:
    """The report. The same material gives the same bytes."""
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # our own file, nothing of the run's
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            run=material,
            taxonomy=material.taxonomy,
            evaluation=material.evaluation,
            names=material.label_names,
            built=built(material),
            trust=trust(material),
            people=people(material),
            written=material.generation,
            guards=[guard_view(material, page) for page in material.evaluation.guards],
            side_by_side=side_by_side(material.evaluation),
            stages=stage_rows(material),
            words=as_text,
            metric_names=as_text.NAMES,
            table_metrics=guard_sections.TABLE_METRICS,
            compared_metrics=guard_sections.COMPARED,
            label_metrics=guard_sections.LABEL_METRICS,
            most_confusions=guard_sections.MOST_CONFUSIONS,
            style=style,
        )
    )
