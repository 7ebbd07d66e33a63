"""The report page, parsed as HTML: of good, poor, imported and hostile runs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.pipeline.evaluation.guard_tables import guard_table
from marginalia.pipeline.report import as_text
from marginalia.pipeline.report.gold_sections import dataset_section
from marginalia.pipeline.report.page_script import content_policy, page_script
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.manifest_json import Manifest
from tests.pipeline.synthetic_run import NOW, Frames, Synthetic, make_agreement, make_frames

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></title></textarea><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include 'page.css' %}",
    '" onmouseover="alert(1)" x="',
    "]]></svg><svg onload=alert(1)>",
    "<!-- <a href='//evil.example'>",
]
CSV_LINK = re.compile("data:text/csv;charset=utf-8;base64,[A-Za-z0-9+/=]*")
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """All elements, attributes and texts of a page. Fails when tags are not nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    @property
    def shape(self) -> set[tuple[str, str]]:
        """The kinds of elements, with the names of their attributes."""
        return {(tag, name) for tag, attributes in self.elements for name in ["", *attributes]}


def report_data(
    synthetic: Synthetic, frames: Frames | None = None, *, complete: bool = True, simulated: bool = True
) -> ReportData:
    frames = frames or make_frames(synthetic)
    results = evaluate(
        frames.gold,
        [GuardScores(synthetic.guard, frames.scores, frames.records)],
        frames.prompts if complete else None,
        frames.taxonomy,
        EvaluateSection(resamples=200),
        seed=3,
        simulated=simulated,
    )
    manifest = Manifest(
        stage="score",
        inputs={},
        outputs={"scores/g.parquet": "f" * 64},
        config_sha256="e" * 64,
        counts_in={"records": synthetic.n},
        counts_out={"scored": synthetic.n - 1},
        seconds=71.5,
        models={"smollm2": "revision-1"},
        versions={"python": "3.11"},
        finished_at=NOW,
    )
    return ReportData(
        name="demo",
        seed=3,
        simulated=simulated,
        taxonomy=frames.taxonomy,
        evaluation=results.evaluation,
        gold=frames.gold,
        agreement=make_agreement(frames.taxonomy, synthetic.n, simulated=simulated) if complete else None,
        manifests=[manifest] if complete else [],
        plan=frames.plan if complete else None,
        prompts=frames.prompts if complete else None,
        rejected=frames.rejected if complete else None,
        annotations=frames.annotations if complete else None,
        tables=[
            guard_table(synthetic.guard, frames.gold, frames.scores, frames.records, frames.taxonomy.ids),
        ],
    )


@pytest.fixture(scope="module")
def poor() -> ReportData:
    return report_data(Synthetic(n=48, skill=0.0))


@pytest.fixture(scope="module")
def poor_page(poor: ReportData) -> Page:
    return Page(build_page(poor))


@pytest.fixture(scope="module")
def good_page() -> Page:
    return Page(build_page(report_data(Synthetic(n=260, skill=0.9), complete=False, simulated=False)))


def test_the_page_is_complete_and_loads_nothing(poor_page: Page) -> None:
    assert poor_page.open == []
    tags = {tag for tag, _ in poor_page.elements}
    assert tags.isdisjoint({"link", "iframe", "object", "embed", "img", "base", "form"})
    policies = [
        attributes["content"]
        for tag, attributes in poor_page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [content_policy(page_script())]
    scripts = [attributes.get("type") for tag, attributes in poor_page.elements if tag == "script"]
    assert scripts.count(None) == 1 and set(scripts) <= {None, "application/json"}
    links = [attributes["href"] or "" for _, attributes in poor_page.elements if "href" in attributes]
    ids = {attributes["id"] for _, attributes in poor_page.elements if "id" in attributes}
    assert links
    assert all(CSV_LINK.fullmatch(link) or (link.startswith("#") and link[1:] in ids) for link in links)


def test_equal_data_gives_equal_bytes(poor: ReportData) -> None:
    assert build_page(poor) == build_page(poor)


def test_warnings_name_simulated_annotators_and_chance_level(poor_page: Page) -> None:
    assert "SIMULATED ANNOTATORS." in poor_page.text
    assert "smollm2 is perhaps no better than chance." in poor_page.text
    assert "Do not use it for moderation." in poor_page.text


def test_what_the_scores_depend_on_is_shown(poor: ReportData) -> None:
    (manifest,) = poor.manifests
    with_notes = manifest.model_copy(update={"facts": {"smollm2": {"notes": ["bfloat16: differs by <0.01> nats"]}}})
    page = Page(build_page(replace(poor, manifests=[with_notes])))
    assert "Scoring: bfloat16: differs by <0.01> nats." in page.text


def test_a_good_guard_of_real_people_has_no_warnings(good_page: Page) -> None:
    assert "simulated" not in good_page.text.lower()
    assert "chance." not in good_page.text.replace("better than chance.", "")
    assert "All 12 labels are recognised better than chance" in good_page.text


def test_few_records_are_said_at_the_top(good_page: Page) -> None:
    text = Page(build_page(report_data(Synthetic(n=14, skill=0.9), complete=False, simulated=False))).text
    at = text.index(" records. Every number of")
    assert at < text.index("records with final labels")
    assert "Every number of" not in good_page.text


def test_at_least_three_plots_each_with_a_title_and_its_numbers(poor_page: Page, good_page: Page) -> None:
    for page in (poor_page, good_page):
        plots = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("role") == "img"]
        titles = {attributes["aria-label"] for attributes in plots}
        assert len(titles) >= 5
        assert all(title in page.text for title in titles if title)
        assert {"plot wide", "plot narrow"} == {attributes["class"] for attributes in plots}


def test_an_imported_run_without_history_has_a_report(good_page: Page) -> None:
    assert good_page.open == []
    assert "This run has no stage manifests" in good_page.text
    assert "How far to trust the labels" not in good_page.text


def test_imported_answers_are_called_imported(poor: ReportData) -> None:
    (manifest,) = poor.manifests
    imported = manifest.model_copy(update={"stage": "import", "outputs": {"annotations.parquet": "a" * 64}})
    pulled = imported.model_copy(update={"stage": "pull", "finished_at": manifest.finished_at + timedelta(days=1)})
    for manifests, expected in (([imported], True), ([pulled, imported], False), ([], False)):
        steps = dataset_section(replace(poor, manifests=manifests)).steps
        (description,) = [step.description for step in steps if step.name == "Annotated"]
        assert description.endswith(", imported with the records") == expected


def test_counts_of_the_page_are_those_of_the_files(poor: ReportData, poor_page: Page) -> None:
    assert "Planned 52 records to write" in poor_page.text
    assert "Gold 45 records with final labels" in poor_page.text
    assert "Left out of the gold: 3 records with status needs adjudication" in poor_page.text
    assert "Judged 44 records on which smollm2 was judged; 1 more is left out" in poor_page.text
    assert "Left out: 1 record (scoring failed)" in poor_page.text
    auc = poor.evaluation.guards[0].estimators[0].metrics["macro_roc_auc"]
    assert f"{auc.value:.2f} ({auc.low or -1:.2f} to {auc.high or -1:.2f})" in poor_page.text


def test_worst_records_are_behind_a_content_notice(poor_page: Page) -> None:
    summaries = [text for text in poor_page.texts if "(content notice)" in text]
    assert [text.split()[0] for text in summaries] == ["Texts", "Browse"]


def hostile_report_data() -> ReportData:
    synthetic = Synthetic(n=48, texts=HOSTILE)
    frames = make_frames(synthetic)
    hostile_text = HOSTILE[1]

    def append_hostile_text(frame: pl.DataFrame, column: str) -> pl.DataFrame:
        return frame.with_columns(pl.format("{}" + hostile_text, pl.col(column)).alias(column))

    gold = append_hostile_text(frames.gold, "id")
    scores, records = append_hostile_text(frames.scores, "record_id"), append_hostile_text(frames.records, "record_id")
    prompts = append_hostile_text(frames.prompts, "id").with_columns(
        pl.col("attributes").list.eval(
            pl.struct(
                pl.format("{}" + HOSTILE[0], pl.element().struct.field("name")).alias("name"),
                pl.format("{}" + HOSTILE[4], pl.element().struct.field("value")).alias("value"),
            )
        )
    )
    labels = [
        label.model_copy(update={"name": f"{label.id} {HOSTILE[number % len(HOSTILE)]}"})
        for number, label in enumerate(frames.taxonomy.labels)
    ]
    taxonomy = frames.taxonomy.model_copy(
        update={"labels": labels, "title": HOSTILE[1], "verdict": HOSTILE[0], "content_notice": HOSTILE[5]}
    )
    hostile_frames = Frames(taxonomy, gold, scores, records, prompts, frames.plan, frames.rejected, frames.annotations)
    data = report_data(Synthetic(n=48, texts=HOSTILE, guard="g" + HOSTILE[5]), hostile_frames)
    manifest = data.manifests[0].model_copy(
        update={"stage": HOSTILE[0], "models": {HOSTILE[1]: HOSTILE[4]}, "counts_out": {HOSTILE[0]: 1}}
    )
    return ReportData(**{**vars(data), "name": HOSTILE[4], "manifests": [manifest]})


def test_hostile_records_add_no_element_and_no_attribute(poor_page: Page) -> None:
    page = Page(build_page(hostile_report_data()))
    assert page.open == []
    assert page.shape <= poor_page.shape
    for attribute in ("href", "src", "class", "style"):
        values = [attributes[attribute] or "" for _, attributes in page.elements if attribute in attributes]
        assert not any("alert" in value or "evil" in value for value in values)
    for text in HOSTILE:
        assert re.sub(r"\s+", " ", text) in page.text  # shown, as text


@pytest.fixture(scope="module")
def middling() -> ReportData:
    return report_data(Synthetic(n=160, skill=0.5))


def test_the_page_has_every_section(middling: ReportData) -> None:
    page = Page(build_page(middling))
    text = " ".join(page.texts)
    for expected in (
        "Coverage of the plan",
        "written texts were rejected",
        "Label by label",
        "How much of the error is the annotators' own disagreement",
        "measured against single annotators",
        "Which estimator to use",
        "Which thresholds to use",
        "By attribute",
        "Missed one label, gave another",
        "(content notice)",
        "Cost and time",
    ):
        assert expected in text, expected


def test_each_label_has_a_reliability_diagram(middling: ReportData) -> None:
    page = Page(build_page(middling))
    names = list(middling.label_names.values())
    titles = [text for text in page.texts if re.fullmatch(r"\d+ positives?, ECE .+", text.strip())]
    assert len(titles) == 2 * len(names)  # the wide drawing and the narrow one
    bands = [attributes for tag, attributes in page.elements if tag == "polygon" and "band" in attributes["class"]]
    assert len(bands) >= 2 * len(names)


def test_two_guards_are_shown_side_by_side(middling: ReportData) -> None:
    synthetic = Synthetic(n=160, skill=0.5)
    frames, worse_frames = make_frames(synthetic), make_frames(Synthetic(n=160, skill=0.1))
    results = evaluate(
        frames.gold,
        [
            GuardScores("large", frames.scores, frames.records),
            GuardScores("small", worse_frames.scores, worse_frames.records),
        ],
        None,
        frames.taxonomy,
        EvaluateSection(resamples=200),
        seed=3,
        simulated=True,
    )
    page = Page(build_page(replace(middling, evaluation=results.evaluation)))
    assert "small is clearly worse than large at ranking labels" in page.text
    summary = [text for text in page.texts if text.startswith(("large: ", "small: "))]
    assert len(summary) == 6  # three findings for each guard at the top of the page
    assert "Guards side by side" not in Page(build_page(middling)).text


def test_the_page_says_why_another_metric_than_the_primary_is_tested(middling: ReportData) -> None:
    (guard,) = middling.evaluation.guards
    rows = [row.model_copy(update={"tested": row.metric == "micro_roc_auc"}) for row in guard.differences]
    other = guard.model_copy(update={"differences": rows})
    evaluation = middling.evaluation.model_copy(update={"guards": [other]})
    assert "In this table: only macro ROC AUC is tested (set by evaluate.primary in config.yaml)." in " ".join(
        Page(build_page(middling)).text.split()
    )
    page = Page(build_page(replace(middling, evaluation=evaluation)))
    assert "only micro ROC AUC is tested, because macro ROC AUC has no interval here (set by" in page.text


def test_untested_findings_in_an_evaluation_of_an_older_version_are_not_shown(middling: ReportData) -> None:
    """In older versions every row had a finding, and none had a range."""
    new_fields = {"tested", "range_low", "range_high", "bounds", "against_frequency", "bias", "improvement"}
    new_fields |= {"judged", "not_judged"}

    def older(value: Any) -> Any:
        if isinstance(value, list):
            return [older(item) for item in value]
        if not isinstance(value, dict):
            return value
        kept = {key: older(item) for key, item in value.items() if key not in new_fields}
        return kept | {"finding": "worse"} if kept.get("finding") == "descriptive" else kept

    evaluation = Evaluation.model_validate(older(middling.evaluation.model_dump(mode="json")))
    page = Page(build_page(replace(middling, evaluation=evaluation)))
    assert "clearly worse" not in page.text
    assert "the difference could not be tested" in page.text


def test_results_from_simulated_annotators_are_marked_in_their_headings(middling: ReportData) -> None:
    def text(data: ReportData) -> str:
        return " ".join(Page(build_page(data)).text.split())

    assert middling.agreement is not None
    agreement = middling.agreement.model_copy(update={"simulated": True})
    simulated = text(replace(middling, simulated=True, agreement=agreement))
    by_people = middling.agreement.model_copy(update={"simulated": False})
    people = text(replace(middling, simulated=False, agreement=by_people))
    headings = ("How far to trust the labels (simulated annotators)", "own disagreement (simulated annotators)")
    for marked in (*headings, "Simulated annotators: measured against single annotators"):
        assert marked in simulated and marked not in people
    assert simulated.count("Simulated annotators: ") >= 3
    assert "which no guard can remove" in people and "which no guard can remove" not in simulated


def test_the_same_share_has_the_same_text_in_every_table(middling: ReportData) -> None:
    (guard,) = middling.evaluation.guards
    best = next(row for row in guard.estimators if row.estimator == guard.recommended)
    page = " ".join(Page(build_page(middling)).text.replace("\u00a0", " ").split())
    for label in middling.taxonomy.ids:
        judged = best.thresholds.labels[label][0].judged_on
        assert judged is not None
        value, _, ends = as_text.share(judged.recall).partition(" (")
        shown = f"{value} {ends[:-1].removesuffix(' %')} %"
        assert page.count(shown) >= 2, (label, shown)


def test_titles_of_small_diagrams_are_not_cut(middling: ReportData) -> None:
    for drawing in re.findall(r"<svg.*?</svg>", build_page(middling)):
        if "plot" in drawing and "ECE" in drawing:
            assert "…" not in drawing
