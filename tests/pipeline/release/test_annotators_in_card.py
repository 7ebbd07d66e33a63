"""What a data set card says about gold questions, suggestions and the audit."""

from __future__ import annotations

from pathlib import Path

from marginalia.annotation.gold.gold_questions import wilson
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.release.release_stage import STAGE
from marginalia.pipeline.report.gold_findings import anchoring_finding
from marginalia.schemas.agreement_json import Agreement, Anchoring, Estimate, GoldQuestionAccuracy
from marginalia.schemas.storage.files import write_frame, write_json
from marginalia.schemas.tables import AuditedRecord
from tests.pipeline.release.labelled_run import make_run


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, n=9)


AUDITED = [("r1", "guard", True), ("r2", "guard", False), ("r3", "control", False)]


def test_the_card_shows_accuracy_anchoring_and_the_audit(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    agreement = Agreement(
        simulated=False,
        taxonomy="support-tickets",
        records=4,
        pairable=1,
        answers=5,
        annotators=2,
        alpha_masi=estimate(0.7),
        alpha_mean=estimate(0.7),
        exact=estimate(0.5),
        jaccard=estimate(0.5),
        per_label=[],
        per_annotator=[],
        pairs=[],
        gold_questions=[
            GoldQuestionAccuracy(annotator=f"A0{at}", skipped=0, exact=wilson(at, 4), precision=None, recall=None)
            for at in (3, 4)
        ],
        anchoring=Anchoring(suggested=estimate(0.9), control=estimate(0.6), difference=estimate(0.3)),
    )
    write_json(run.path("agreement.json"), agreement.model_dump(mode="json"))
    empty = {"label": None, "probability": None, "support": None, "gold_labels": [], "audited_labels": None}
    rows = [
        {"id": record, "why": why, "changed": changed, "weight": 1.0 if why == "guard" else 9.0, **empty}
        for record, why, changed in AUDITED
    ]
    write_frame(run.path("audit.parquet"), AuditedRecord.frame(rows), AuditedRecord)
    run_stage(STAGE, run)
    card = " ".join((run.path("release") / "README.md").read_text(encoding="utf-8").split())
    assert "A03 0.75 (0.30 to 0.95) of 4, A04 1.00 (0.51 to 1.00) of 4." in card
    assert "0.90 (0.80 to 1.00) where it was shown, 0.60 (0.50 to 0.70) where it was not" in card
    assert f"{anchoring_finding(estimate(0.3)).sentence}." in card  # as the report says it
    assert (
        "would change 1 of 2 records that a confident guard disputed and 0 of 1 record of a random sample of the "
        "others. The estimated share of all final gold records whose labels would change is 0.09 (0.09 to 0.82). "
        "The labels of this release are from before the audit" in card
    )
    write_frame(
        run.path("audit.parquet"),
        AuditedRecord.frame([{**row, "judged": ["refund"] if row["id"] == "r2" else None} for row in rows]),
        AuditedRecord,
    )
    run_stage(STAGE, run)
    card = " ".join((run.path("release") / "README.md").read_text(encoding="utf-8").split())
    assert (
        "of a random sample of the others. In 1 record gold judged only some labels; only these were reviewed." in card
    )
