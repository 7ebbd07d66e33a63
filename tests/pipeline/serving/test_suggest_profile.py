"""Profiles suggested from evaluations with planted labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.compare.compared_run import load_compared_run
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.report.decision import label_decision
from marginalia.pipeline.serving.profile_text import profile_text
from marginalia.pipeline.serving.suggest_profile import Aims, _promise, read_aim, suggest
from marginalia.schemas.calibration_json import Calibration
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import ScoredRecord
from marginalia.scoring.measures.calibration import apply
from marginalia.scoring.moderation_decision import SEVERITY, action_at
from marginalia.scoring.moderation_profile import Profile, profile_problems, read_profile
from tests.pipeline.compare.two_guards import NOT_COVERED, ONLY_BOUNDS, PARTLY_JUDGED, write_two_guards
from tests.pipeline.evaluation.test_stages import make_run

AIMS = Aims(0.9, 0.3, 10.0, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_guards(tmp_path_factory.mktemp("runs") / "planted", n=900)


@pytest.fixture(scope="module")
def small(folder: Path) -> Profile:
    return suggest(folder, "small", AIMS, folder.parent / "profile.yaml").profile


def asked(folder: Path, out: Path, *options: str) -> Result:
    command = ["profile", "suggest", "--run", str(folder), "--out", str(out), *options]
    return CliRunner().invoke(app, command)


def table_rows(folder: Path, guard: str, split: str) -> list[dict[str, tuple[float, float]]]:
    """Label → (lower, upper) of each usable record of the split, from the files."""
    gold = pl.read_parquet(folder / "gold.parquet").filter(pl.col("split") == split, pl.col("status") == "final")
    scores = pl.read_parquet(folder / f"scores/{guard}.parquet")
    by_record: dict[str, dict[str, tuple[float, float]]] = {}
    for record, label, lower, upper in scores.select("record_id", "label", "lower", "upper").iter_rows():
        by_record.setdefault(record, {})[label] = (lower, upper)
    return [by_record[record] for record in gold["id"]]


def share_reviewed(folder: Path, guard: str, split: str, profile: Profile) -> float:
    """By plain loops: the share of records that the profile sends to review."""
    actions = []
    for bounds in table_rows(folder, guard, split):
        called = [
            {action_at(bounds[label][0], rule), action_at(bounds[label][1], rule)}
            for label, rule in profile.labels.items()
            if not rule.ignore
        ]
        each = ["review" if len(two) > 1 else next(iter(two)) for two in called]
        actions.append(max(each, key=lambda action: SEVERITY[action]))
    return actions.count("review") / len(actions)


def test_a_label_blocks_exactly_where_the_report_says_so(folder: Path, small: Profile) -> None:
    compared = load_compared_run(folder, "small", None)
    aucs = {row.label: row.metrics["roc_auc"] for row in compared.estimator.labels}
    blocking = set()
    for label, thresholds in compared.estimator.thresholds.labels.items():
        decision = label_decision(label, thresholds, aucs.get(label), 0.9)
        if decision.verdict == "block":
            assert small.labels[label].block == decision.threshold
            blocking.add(label)
    assert "damaged_or_faulty" in blocking
    assert {label for label, rule in small.labels.items() if rule.block is not None} == blocking


def test_each_promise_is_what_the_test_split_shows(folder: Path, small: Profile) -> None:
    gold = pl.read_parquet(folder / "gold.parquet").filter(pl.col("split") == "test")
    scores = pl.read_parquet(folder / "scores/small.parquet").filter(pl.col("label") == "damaged_or_faulty")
    values = dict(scores.select("record_id", "probability").iter_rows())
    rule = small.labels["damaged_or_faulty"]
    promise = rule.promise
    assert promise is not None and rule.block is not None
    flagged = [own for record, own in gold.select("id", "labels").iter_rows() if values[record] >= rule.block]
    right = sum("damaged_or_faulty" in own for own in flagged)
    assert (promise.flagged, promise.records) == (len(flagged), gold.height)
    assert promise.precision == pytest.approx(right / len(flagged))
    assert 0.9 <= promise.low <= promise.precision <= promise.high
    assert promise.positives == sum("damaged_or_faulty" in own for own in gold["labels"])


def test_other_labels_are_reviewed_or_ignored_with_the_reason(folder: Path, small: Profile) -> None:
    weak = small.labels["late_delivery"]
    assert weak.block is None and weak.review is not None and "90 %" in (weak.reason or "")
    chance = small.labels["return"]
    assert chance.ignore and "chance" in (chance.reason or "")
    assert small.labels[NOT_COVERED].reason == "the run has no scores of this label"
    bounds = small.labels[ONLY_BOUNDS]
    assert bounds.ignore and bounds.reason == "the guard gives only bounds of its probability"


def test_a_guard_that_ranks_without_an_error_is_reviewed_though_its_auc_has_no_interval(folder: Path) -> None:
    compared = load_compared_run(folder, "large", None)
    aucs = {row.label: row.metrics["roc_auc"] for row in compared.estimator.labels}
    assert (aucs["late_delivery"].value, aucs["late_delivery"].low) == (1.0, None)
    rule = suggest(folder, "large", AIMS, folder.parent / "p.yaml").profile.labels["late_delivery"]
    assert rule.block is None and rule.review is not None and rule.reason == "precision may reach 90 %"


def test_a_partly_judged_label_rests_on_its_own_records(folder: Path) -> None:
    promise = _promise(load_compared_run(folder, "small", None), PARTLY_JUDGED, AIMS)
    gold = pl.read_parquet(folder / "gold.parquet").filter(pl.col("split") == "test")
    judged = gold.filter(pl.col("judged").is_null())
    assert promise is not None and promise.records == judged.height < gold.height
    assert promise.positives == sum(PARTLY_JUDGED in own for own in judged["labels"])


@pytest.mark.parametrize("limit", [0.0, 0.02, 0.1, 0.3])
def test_no_more_records_are_reviewed_than_people_can_read(folder: Path, limit: float) -> None:
    profile = suggest(folder, "small", Aims(0.9, limit, 10.0, 1.0), folder.parent / "p.yaml").profile
    assert share_reviewed(folder, "small", "calibration", profile) <= limit
    assert profile.suggested is not None
    assert profile.suggested.reviewed == pytest.approx(share_reviewed(folder, "small", "test", profile))
    assert profile.suggested.records == len(table_rows(folder, "small", "test"))


def test_with_room_review_starts_where_a_miss_costs_as_much_as_a_false_alarm(folder: Path) -> None:
    profile = suggest(folder, "small", Aims(0.9, 1.0, 10.0, 1.0), folder.parent / "p.yaml").profile
    calibration = json.loads((folder / "calibration.json").read_text())["calibrations"]
    maps = next(Calibration.model_validate(one) for one in calibration if one["guard"] == "small")
    starts = {label: rule.review for label, rule in profile.labels.items() if rule.review is not None}
    assert "late_delivery" in starts
    for label, at in starts.items():
        assert apply(maps, label, at) >= 1 / 11
        assert at == 0 or apply(maps, label, at - 1e-6) < 1 / 11


def test_a_false_alarm_that_costs_too_much_does_not_block(folder: Path) -> None:
    profile = suggest(folder, "small", Aims(0.9, 0.3, 1.0, 1e9), folder.parent / "p.yaml").profile
    assert not [rule for rule in profile.labels.values() if rule.block is not None]
    rule = profile.labels["damaged_or_faulty"]
    assert "precision reaches 90 %" in (rule.reason or "") and "false alarms cost more than misses" in (
        rule.reason or ""
    )


def test_the_written_file_is_the_profile(folder: Path) -> None:
    out = folder.parent / "written.yaml"
    suggested = suggest(folder, "small", AIMS, out)
    text = profile_text(suggested.profile, ["first\nsecond"])
    out.write_text(text)
    read = read_profile(out)
    assert read.profile == suggested.profile
    assert "# WARNING: first" in text and "\nsecond" not in text
    promise = suggested.profile.labels["damaged_or_faulty"].promise
    assert promise is not None
    assert f"  # block: precision {promise.precision:.3f} ({promise.low:.3f} to" in text
    assert f"from {promise.flagged} flagged of {promise.records} test records" in text
    assert list(profile_problems(read)) == []


def test_the_commands(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "profile.yaml"
    out.parent.mkdir()
    done = asked(folder, out, "--guard", "small", "--review-share", "0.2", "--cost-miss", "10")
    assert done.exit_code == 0 and f"written: {out}" in done.stderr
    assert "damaged_or_faulty" in done.stdout and "precision" in done.stdout
    again = asked(folder, out)
    assert again.exit_code == 2 and "the file exists" in again.stderr
    checked = CliRunner().invoke(app, ["profile", "check", str(out)])
    assert checked.exit_code == 0 and checked.stdout.endswith(f"{out}: no problems found\n")
    copied = tmp_path / "run"
    shutil.copytree(folder, copied)
    text = out.read_text()
    path = next(line.split("path: ")[1] for line in text.splitlines() if "thresholds.json" in line)
    out.write_text(text.replace(path, str(copied / "thresholds.json")))
    (copied / "thresholds.json").write_text("{}")
    refused = CliRunner().invoke(app, ["profile", "check", str(out), "--json"])
    assert refused.exit_code == 2
    (problem,) = json.loads(refused.stdout)["problems"]
    assert "thresholds.json has changed since the profile was written" in problem


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--aim", "recall>=0.9"], "--aim recall>=0.9: expected a precision between 0 and 1"),
        (["--aim", "precision>=1.0"], "expected a precision between 0 and 1"),
        (["--aim", "precision>=0.95"], "add 0.95 to evaluate.precision_targets in config.yaml, then: marginalia"),
        (["--guard", "larger"], "has no guard 'larger'; did you mean 'large'?"),
        (["--cost-miss", "0"], "--cost-miss 0: expected a number above 0"),
        (["--out", "profile.json"], "expected a file name that ends in .yaml"),
    ],
)
def test_what_is_refused(folder: Path, tmp_path: Path, options: list[str], message: str) -> None:
    out = tmp_path / "profile.yaml"
    refused = asked(folder, out, *options)
    assert refused.exit_code == 2 and message in refused.stderr
    assert not out.exists()


def changed_run(folder: Path, target: Path, edit: Any) -> Path:
    shutil.copytree(folder, target)
    edit(target)
    return target


def test_a_stale_evaluation_is_refused(folder: Path, tmp_path: Path) -> None:
    def edit(run: Path) -> None:
        config = run / "config.yaml"
        config.write_text(config.read_text() + "  min_positives: 12\n")

    refused = asked(changed_run(folder, tmp_path / "run", edit), tmp_path / "p.yaml")
    assert refused.exit_code == 2 and "is out of date" in refused.stderr and "marginalia evaluate" in refused.stderr


def test_a_withheld_evaluation_is_refused_and_allowed_with_a_warning(folder: Path, tmp_path: Path) -> None:
    def edit(run: Path) -> None:
        for guard in ("small", "large"):
            path = run / f"scores/{guard}.records.parquet"
            write_frame(path, pl.read_parquet(path).with_columns(off_language=pl.lit(0.3)), ScoredRecord)
        run_stage(EVALUATE, open_run(run))

    run = changed_run(folder, tmp_path / "run", edit)
    refused = asked(run, tmp_path / "p.yaml", "--guard", "small")
    assert refused.exit_code == 2 and "the thresholds of small are withheld" in refused.stderr
    assert "evaluate.allow_off_format: true" in refused.stderr
    config = run / "config.yaml"
    config.write_text(config.read_text() + "  allow_off_format: true\n  most_off_format: 0.25\n")
    run_stage(EVALUATE, open_run(run))
    suggested = suggest(run, "small", AIMS, tmp_path / "p.yaml")
    assert any("allow_off_format is set, and this guard left its answer format" in one for one in suggested.warnings)
    assert suggested.profile.rules.off_format.share == 0.25
    assert suggested.profile.suggested is not None
    assert suggested.profile.suggested.reviewed == pytest.approx(
        1 - sum(blocked(row, suggested.profile) for row in table_rows(run, "small", "test")) /
        len(table_rows(run, "small", "test"))
    )  # fmt: skip


def blocked(bounds: dict[str, tuple[float, float]], profile: Profile) -> bool:
    return any(rule.block is not None and bounds[label][0] >= rule.block for label, rule in profile.labels.items())


def test_an_evaluation_that_supports_nothing_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, whole=False)
    run_stage(EVALUATE, run)
    refused = asked(run.folder, tmp_path / "p.yaml")
    assert refused.exit_code == 2
    assert (
        "supports neither block nor review for any label" in refused.stderr and "label more records" in refused.stderr
    )


def test_simulated_labels_are_marked(folder: Path, tmp_path: Path) -> None:
    def edit(run: Path) -> None:
        config = run / "config.yaml"
        config.write_text("simulated: true\n" + config.read_text())
        run_stage(EVALUATE, open_run(run))

    suggested = suggest(changed_run(folder, tmp_path / "run", edit), "small", AIMS, tmp_path / "p.yaml")
    assert suggested.profile.simulated and any("SIMULATED" in warning for warning in suggested.warnings)


def test_aims() -> None:
    assert [read_aim("precision>=0.9"), read_aim(" precision >= .95 ")] == [0.9, 0.95]
