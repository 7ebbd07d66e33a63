"""The report as one self-contained HTML page: one inline script, nothing loaded, every text escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import partial
from itertools import count

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from marginalia.pipeline.report import as_text, guard_sections
from marginalia.pipeline.report.annotator_section import annotator_section
from marginalia.pipeline.report.decision import guard_decision
from marginalia.pipeline.report.gold_sections import dataset_section, stage_rows, trust_section
from marginalia.pipeline.report.guard_comparison import side_by_side
from marginalia.pipeline.report.guard_sections import guard_view
from marginalia.pipeline.report.page_script import TEMPLATES, content_policy, page_script
from marginalia.pipeline.report.record_browser import LEAST_NEAR, NEAR, record_browser
from marginalia.pipeline.report.report_data import ReportData, recommended_estimator
from marginalia.pipeline.report.threshold_slider import PRINTED_STEPS, RECALL_GOAL, threshold_sliders
from marginalia.schemas.text_checks import displayable

STYLES = ("page.css", "decision.css")


def environment() -> Environment:
    """The Jinja environment of the report and of the compare page."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # select_autoescape would not escape files that end in .html.j2
        finalize=_displayable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["figure_number"] = partial(next, count(1))
    made.filters["csv_link"] = _csv_link
    made.filters["code"] = _code
    return made


def _csv_link(text: str) -> str:
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()


def _code(text: str) -> Markup:
    """The text with what is between backticks, such as the name of a guard, as <code>. No line ends before a "%"."""
    shown = str(escape(displayable(text))).replace(" %", "\u00a0%")
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", shown))  # safe: escaped first


def _displayable(value: object) -> object:
    return displayable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _counts(counts: Sequence[int]) -> str:
    """The count, or the smallest and the largest; empty without any."""
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)})) if counts else ""


def build_page(data: ReportData) -> str:
    """The report. Equal data gives equal bytes."""
    styles = [(TEMPLATES / name).read_text(encoding="utf-8") for name in STYLES]
    style = Markup("".join(styles))  # safe: contains nothing from the run
    script = page_script()
    found = [best for guard in data.evaluation.guards if (best := recommended_estimator(guard)) is not None]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            run=data,
            taxonomy=data.taxonomy,
            evaluation=data.evaluation,
            names=data.label_names,
            dataset=dataset_section(data),
            trust=trust_section(data),
            annotators=annotator_section(data),
            written=data.generation,
            decisions=[guard_decision(data, guard) for guard in data.evaluation.guards],
            guards=[guard_view(data, guard) for guard in data.evaluation.guards],
            side_by_side=side_by_side(data.evaluation, data.primary, data.label_names),
            stages=stage_rows(data),
            as_text=as_text,
            metric_names=as_text.NAMES,
            table_metrics=guard_sections.TABLE_METRICS,
            compared_metrics=guard_sections.DIFFERENCE_COLUMNS,
            label_metrics=guard_sections.LABEL_METRICS,
            most_confusions=guard_sections.MOST_CONFUSIONS,
            sliders=threshold_sliders(data),
            judged_records=_counts([best.n for best in found]) or "0",
            tested_records=_counts([best.tuned["micro_f1"].n for best in found if best.tuned]),
            recall_goal=RECALL_GOAL,
            printed_steps=PRINTED_STEPS,
            near=(NEAR, LEAST_NEAR),
            browser=record_browser(data),
            style=style,
            script=script,
            policy=content_policy(script),
        )
    )
