"""What only the owner can state (annotators, pay, consent, personal data, contact), and what of it is missing."""

from __future__ import annotations

from pathlib import Path

from marginalia.pipeline.config.release import ReleaseSection
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.release.publish_stage import describe, stage
from marginalia.pipeline.release.release_stage import STAGE
from tests.pipeline.release.labelled_run import make_run

STATED = """release:
  contact: data@example.org
  authors: [The Lab]
  date: 2026-11-28
  datasheet:
    about_annotators: Three clerks of the shop, found by a notice.
    pay: 20 euros per hour
    consent: "They agreed in writing to [publication](http://x.example)."
    personal_data: None; two people read all texts.
"""


def card_of(run: Run, *, force: bool = False) -> str:
    run_stage(STAGE, run, force=force)
    return " ".join((run.path("release") / "README.md").read_text(encoding="utf-8").split())


def dry_run(run: Run) -> str:
    return describe(run_stage(stage(push=False), run).manifest.facts)


def test_the_card_shows_what_the_owner_states_also_after_a_rebuild(tmp_path: Path) -> None:
    run = make_run(tmp_path, config=STATED)
    card = card_of(run)
    assert "- **Annotators:** Three clerks of the shop, found by a notice." in card
    assert "- **Pay:** 20 euros per hour" in card
    assert "- **Consent:** They agreed in writing to \\[publication\\]\\(http\\://x.example\\)." in card
    assert "- **Personal data:** None; two people read all texts." in card
    assert "- **Contact:** <data@example.org>" in card
    assert "not stated" not in card
    assert card_of(run, force=True) == card
    assert "not filled in" not in dry_run(run)


def test_what_is_missing_is_marked_on_the_card_and_listed_before_a_push(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    card = card_of(run)
    listed = dry_run(run)
    for setting, what in (
        ("release.datasheet.about_annotators", "who the annotators were"),
        ("release.datasheet.pay", "what the annotators were paid"),
        ("release.datasheet.consent", "what the annotators agreed to"),
        ("release.datasheet.personal_data", "whether the texts contain personal data, and how that was checked"),
        ("release.contact", "where to report a problem"),
    ):
        assert f"**not stated.** The owner has not stated {what} (set `{setting}` in the run's config)." in card
        assert f"\n  not filled in: {setting} ({what})\n" in listed
    assert "\n  not filled in: release.date (the date of publication)\n" in listed


def test_simulated_annotators_are_not_asked_about(tmp_path: Path) -> None:
    run = make_run(tmp_path, config="simulated: true\n")
    assert "No person annotated this data set" in card_of(run)
    listed = dry_run(run)
    assert "release.datasheet.personal_data" in listed
    assert "datasheet.pay" not in listed
    assert "datasheet.about_annotators" not in listed


def test_a_config_without_statements_keeps_its_hash() -> None:
    """Otherwise every release of an earlier version would be out of date."""
    assert not {"datasheet", "date"} & ReleaseSection().model_dump(mode="json").keys()
