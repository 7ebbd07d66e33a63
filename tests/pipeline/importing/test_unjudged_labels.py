"""A label that nobody judged is never a negative: from a file with blank cells to the evaluation and to agreement."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.core.artifacts import AGREEMENT, GOLD
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores, evaluate
from marginalia.pipeline.importing.import_stage import STAGE, prepare
from marginalia.schemas.evaluation_json import UNSAFE, Evaluation
from marginalia.schemas.tables import LabelScore, ScoredRecord

JUDGED = ("late_delivery", "refund", "invoice")  # three of the taxonomy's twelve labels have a column
RECORDS = 120


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "masks"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("taxonomy: support-tickets\n", encoding="utf-8")
    return open_run(folder)


def imported(run: Run, rows: list[dict[str, str]], mapping: str) -> None:
    source, settings = run.folder.parent / "data.csv", run.folder.parent / "mapping.yaml"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    settings.write_text(mapping, encoding="utf-8")
    prepare(run, str(source), str(settings))
    run_stage(STAGE, run)


def random_rows(seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [
        {"id": f"r{at}", "text": f"text {at}", **{label: rng.choice(("1", "0", "0", "")) for label in JUDGED}}
        for at in range(RECORDS)
    ]


def evaluated(run: Run, rows: list[dict[str, str]], unjudged: float) -> Evaluation:
    """The evaluation of a random guard that gives this probability to every label that was not judged."""
    rng = random.Random(5)
    cells = {row["id"]: row for row in rows}
    gold, labels = GOLD.read(run), run.taxonomy.ids
    scores = []
    for record in gold["id"]:
        for label in [*labels, UNSAFE]:
            drawn = round(rng.random(), 3)
            probability = drawn if label == UNSAFE or cells[record].get(label) else unjudged
            number = {"probability": probability, "lower": probability, "upper": probability}
            scores.append({"record_id": record, "estimator": "marginal", "label": label, **number})
    entry = {"answer": None, "predicted": None, "off_language": None, "unexplored": None}
    spent = {"nodes": 1, "forward_passes": 1, "seconds": 0.0, "error": None}
    records = ScoredRecord.frame([{"record_id": record, **entry, **spent} for record in gold["id"]])
    guard = GuardScores("guard", LabelScore.frame(scores), records)
    return evaluate(
        gold, [guard], None, run.taxonomy, EvaluateSection(resamples=100), seed=1, simulated=False
    ).evaluation


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_a_guard_says_of_unjudged_labels_changes_no_number(run: Run, seed: int) -> None:
    rows = random_rows(seed)
    columns = ", ".join(f"{label}: {label}" for label in JUDGED)
    imported(run, rows, f"id: id\ntext: text\nlabels: {{columns: {{{columns}}}}}\n")
    sure, unsure = (evaluated(run, rows, unjudged) for unjudged in (0.999, 0.001))
    # the review curve sends the records of which the guard is least sure to people: of all its labels, as in use
    without_review = {"guards": {"__all__": {"estimators": {"__all__": {"review"}}}}}
    assert sure.model_dump_json(exclude=without_review) == unsure.model_dump_json(exclude=without_review)
    for label in run.taxonomy.ids:
        filled = [row[label] for row in rows if row.get(label)] if label in JUDGED else []
        assert sure.gold.judged is not None
        assert (sure.gold.judged[label], sure.gold.positives[label]) == (len(filled), filled.count("1"))
    # with labels that no column judges, "none of the judged labels applies" never means safe
    assert sure.gold.safe == 0
    assert sure.gold.final == sum(any(row[label] for label in JUDGED) for row in rows)


def test_agreement_and_gold_leave_out_what_a_person_did_not_judge(run: Run) -> None:
    """By hand. Bob did not judge refund in r2, so refund has three pairs, which agree: alpha 1 instead of 0.53. In r3
    nobody judged late_delivery."""
    cells = {
        "r1": (("1", "0"), ("1", "0")),
        "r2": (("0", "1"), ("0", "")),
        "r3": (("", "0"), ("", "0")),
        "r4": (("0", "1"), ("0", "1")),
        "r5": (("1", "0"), ("0", "0")),
    }
    rows = [
        {"id": record, "text": f"text {record}", "who": who, "late": late, "money": money}
        for record, answers in cells.items()
        for who, (late, money) in zip(("ann", "bob"), answers, strict=True)
    ]
    mapping = "id: id\ntext: text\nlabels: {columns: {late: late_delivery, money: refund}}\nannotators: {column: who}\n"
    imported(run, rows, mapping)
    run_stage(load_stage("reconcile"), run)
    per_label = {item.label: item for item in AGREEMENT.read(run).per_label}
    assert per_label["refund"].alpha.value == pytest.approx(1.0)
    # late_delivery: r1 1 1, r2 0 0, r4 0 0, r5 1 0; of 8 values 3 are 1, and one of four pairs disagrees
    assert per_label["late_delivery"].alpha.value == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert per_label["invoice"].alpha.value is None
    gold = {row["id"]: row for row in GOLD.read(run).iter_rows(named=True)}
    assert gold["r1"]["labels"] == ["late_delivery"]
    assert {*gold["r1"]["judged"]} == {"late_delivery", "refund"}
    assert (gold["r3"]["labels"], gold["r3"]["judged"]) == ([], ["refund"])
    assert gold["r5"]["status"] == "needs_adjudication"
