"""Material → one self-contained HTML page: no scripts, nothing loaded from anywhere, every text escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import guard_sections, words
from pipeline.report.gold_sections import built, stage_rows, trust
from pipeline.report.guard_sections import guard_view
from pipeline.report.guards import side_by_side
from pipeline.report.material import Material
from pipeline.report.people_section import people

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # for every file: select_autoescape would pass over .html.j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def build_page(material: Material) -> str:
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
            words=words,
            metric_names=words.NAMES,
            table_metrics=guard_sections.TABLE_METRICS,
            compared_metrics=guard_sections.COMPARED,
            label_metrics=guard_sections.LABEL_METRICS,
            most_confusions=guard_sections.MOST_CONFUSIONS,
            style=style,
        )
    )
