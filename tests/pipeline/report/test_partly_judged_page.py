"""Report and terminal of runs in which some labels were not judged in some records: every number with its own n."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest

from marginalia.pipeline.evaluation.guard_tables import count_gold
from marginalia.pipeline.release.card_charts import charts
from marginalia.pipeline.report.gold_sections import DatasetSection, dataset_section
from marginalia.pipeline.report.report_data import ReportData
from marginalia.pipeline.report.report_page import build_page
from marginalia.pipeline.report.terminal_summary import headline
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.tables import GoldRecord
from marginalia.schemas.taxonomy import load_taxonomy
from tests.pipeline.partly_judged import PARTLY, SYNTHETIC, masked_frames
from tests.pipeline.report.test_page import Page, report_data
from tests.pipeline.synthetic_run import Synthetic, make_frames

TAXONOMY = load_taxonomy("support-tickets")
NAMES = {label.id: label.name for label in TAXONOMY.labels}


def section_of(gold: pl.DataFrame) -> DatasetSection:
    counts = count_gold(gold, TAXONOMY.ids)
    evaluation = Evaluation(
        simulated=False, taxonomy=TAXONOMY.id, confidence=0.95, resamples=100, seed=0, gold=counts, guards=[]
    )
    return dataset_section(ReportData("r", 0, False, TAXONOMY, evaluation, gold))


def test_counts_of_five_records_by_hand() -> None:
    """r2 was judged on 3 of 12 labels, r4 on 1 of 12: 20 of 60 cells were not judged. r4 may have a label."""
    section = section_of(GoldRecord.frame(PARTLY))
    counts = {row.name: (row.records, row.judged) for row in section.labels}
    assert (counts["Late delivery"], counts["Refund"], counts["Invoice or document"], counts["Return"]) == (
        (2, 4),
        (1, 4),
        (0, 5),
        (0, 3),
    )
    assert section.not_judged.sentence == (
        "2 records are partly judged: 20 of 60 record × label values (33 %) were not judged and are left out"
    )
    assert section.unknown_verdicts.sentence == (
        "1 record has no label, but not all labels were judged, so it is not known whether any applies"
    )
    (step,) = section.steps
    assert (
        step.description == "records with final labels, 2 of them with no label, 1 without one but only partly judged"
    )
    assert ">2 of 4<" in section.figure.drawing
    assert section.figure.note.endswith(
        "Numbers: records with the label, of those in which it was judged; only these count."
    )


def test_a_label_that_was_never_judged_is_not_one_without_records() -> None:
    judged = [label for label in TAXONOMY.ids if label != "invoice"]
    rows = [{**PARTLY[0], "id": label, "labels": [label], "judged": judged} for label in judged]
    title = section_of(GoldRecord.frame(rows)).figure.title
    assert title == (
        "Every judged label has gold records: from 1 (Complaint about service) to 1 (Late delivery); 1 label was never "
        "judged: Invoice or document"
    )


@pytest.fixture(scope="module")
def masked() -> ReportData:
    return report_data(SYNTHETIC, masked_frames())


@pytest.fixture(scope="module")
def page(masked: ReportData) -> Page:
    return Page(build_page(masked))


def scored_records(data: ReportData) -> list[dict[str, object]]:
    """The final records that the guard scored: one failed."""
    failed = make_frames(SYNTHETIC).records.filter(pl.col("error").is_not_null())["record_id"]
    final = data.gold.filter((pl.col("status") == "final") & ~pl.col("id").is_in(failed.implode()))
    return final.to_dicts()


def judged(row: dict[str, object], label: str) -> bool:
    return row["judged"] is None or label in row["judged"]  # type: ignore[operator]


def test_the_table_by_label_has_the_judged_records_of_each_label(masked: ReportData, page: Page) -> None:
    rows = scored_records(masked)
    table = page.text.partition("for each label, threshold")[2]
    for label in TAXONOMY.ids:
        n = sum(judged(row, label) for row in rows)
        positives = sum(label in row["labels"] for row in rows)  # type: ignore[operator]
        assert f"{NAMES[label]} {positives} of {n} " in table
    counts = {sum(judged(row, label) for row in rows) for label in TAXONOMY.ids}
    assert len(counts) == 3 and len(rows) in counts


def test_a_label_was_asked_for_only_where_it_was_judged(masked: ReportData) -> None:
    assert masked.prompts is not None
    asked = dict(masked.prompts.select("id", "intended_labels").iter_rows())
    final = masked.gold.filter(pl.col("status") == "final").to_dicts()
    shown = {row.name: row.intended for row in dataset_section(masked).labels}
    for label in TAXONOMY.ids:
        assert shown[NAMES[label]] == sum(label in asked[row["id"]] and judged(row, label) for row in final)


def test_no_record_counts_as_safe_unless_all_its_labels_were_judged(masked: ReportData, page: Page) -> None:
    final = masked.gold.filter(pl.col("status") == "final").to_dicts()
    without = [row for row in final if not row["labels"]]
    safe = [row for row in without if row["judged"] is None]
    assert 0 < len(safe) < len(without)
    unknown = len(without) - len(safe)
    assert f"{len(safe)} of them with no label, {unknown} without one but only partly judged" in page.text
    assert f"{len(safe)} records have no label at all, and all labels were judged in them." in page.text
    assert f"{unknown} records have no label, but not all labels were judged" in page.text
    scored = [row for row in scored_records(masked) if not row["labels"] and row["judged"] is None]
    assert (
        f"The false-positive rate is the share of the {len(scored)} records judged on all labels and without any label"
        in page.text
    )


def test_without_safe_records_the_page_says_that_the_verdict_has_only_a_recall(masked: ReportData, page: Page) -> None:
    missing = "Precision, F1, average precision and accuracy are therefore too high here: records without a label are"
    assert missing in page.text
    gold = masked.gold.with_columns(judged=pl.lit(TAXONOMY.ids[:5]).cast(pl.List(pl.String)))
    gold = gold.with_columns(labels=pl.col("labels").list.set_intersection(TAXONOMY.ids[:5]))
    few = Page(build_page(report_data(SYNTHETIC, replace(masked_frames(), gold=gold))))
    assert "so precision, F1, average precision and accuracy are not computed." in few.text
    verdict = few.text.partition("The verdict: at least one label")[2].partition("Threshold 0.5")[0]
    assert " ".join(verdict.split()).endswith("accuracy — — — — 100 % 95–100 % — —")  # only the recall
    never = [label.name for label in TAXONOMY.labels[5:]]
    assert f"Not in macro averages: {', '.join(never)} (not judged in any record of these splits" in few.text
    assert few.text.count("(not checked: this label was not judged in the calibration split)") == len(never)


def test_the_page_says_how_much_was_left_out(masked: ReportData, page: Page) -> None:
    rows = scored_records(masked)
    missing = sum(not judged(row, label) for row in rows for label in TAXONOMY.ids)
    partly = sum(row["judged"] is not None for row in rows)
    share = f"{100 * missing / (12 * len(rows)):.0f}"
    expected = (
        f"{partly} records are partly judged: {missing:,} of {12 * len(rows):,} record × label values "
        f"({share} %) were not judged and are left out."
    )
    assert expected in page.text
    lines = headline(masked.evaluation)
    assert f"  {expected[:-1]}" in lines
    assert [line for line in lines if "so it is not known whether any applies" in line]


def test_calibration_and_thresholds_count_judged_values(masked: ReportData, page: Page) -> None:
    in_test = [row for row in scored_records(masked) if row["split"] == "test"]
    cells = sum(judged(row, label) for row in in_test for label in TAXONOMY.ids)
    assert f"{cells:,} judged record × label values" in page.text
    n = sum(judged(row, "invoice") for row in in_test)
    positives = sum("invoice" in row["labels"] for row in in_test)  # type: ignore[operator]
    assert re.search(rf"{positives} positives? of {n}, ECE", page.text)
    thresholds = page.text.partition("Highest F1")[2].partition("Guarantees")[0]
    assert re.search(rf"Invoice or document [^A-Z]* {positives} of {n} ", thresholds)


def test_a_bad_record_names_its_labels_without_judgement(masked: ReportData, page: Page) -> None:
    (guard,) = masked.evaluation.guards
    partly = [record for record in guard.worst if record.not_judged]
    assert partly
    for record in partly:
        row = next(row for row in scored_records(masked) if row["id"] == record.record_id)
        missing = [NAMES[label] for label in TAXONOMY.ids if not judged(row, label)]
        assert f"not judged: {', '.join(missing)}" in page.text


def test_the_charts_of_the_card_say_how_often_a_label_was_judged(masked: ReportData) -> None:
    shown = {chart.path: chart for chart in charts(masked)}
    first = sum(row["status"] == "final" for row in masked.gold.to_dicts())
    assert f" of {first}<" in shown["charts/labels.svg"].svg
    assert "Only records in which the label was judged count." in shown["charts/smollm2-labels.svg"].note


def test_agreement_says_how_many_answers_judge_only_some_labels(masked: ReportData) -> None:
    assert masked.agreement is not None
    per_label = [row.model_copy(update={"answers": 77}) for row in masked.agreement.per_label]
    agreement = masked.agreement.model_copy(update={"partial_answers": 5, "per_label": per_label})
    text = Page(build_page(replace(masked, agreement=agreement))).text
    assert "5 answers judge only some of the labels; agreement is measured on the labels that both answers" in text
    assert "Answers that judge it" in text and "10 % 77 160" in text


def test_without_masks_nothing_of_this_is_shown() -> None:
    text = Page(build_page(report_data(Synthetic(n=48)))).text
    for word in (
        "judged on only some labels",
        "partly judged",
        "Positive, of judged",
        "not judged:",
        "Numbers: records",
    ):
        assert word not in text
