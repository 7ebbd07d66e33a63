"""pull: reads the answers in Argilla into annotations.jsonl (append-only), annotations.parquet (their latest state)
and, with annotation.severity, severity.parquet."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from marginalia.annotation.client.answer_journal import answers_frame, severity_frame
from marginalia.annotation.client.argilla_access import connect
from marginalia.annotation.client.changed_records import Cursor
from marginalia.annotation.client.pull_answers import pull
from marginalia.annotation.gold.gold_questions import read_gold_questions
from marginalia.pipeline.annotating.push_stage import HOME
from marginalia.pipeline.core.artifacts import (
    ADJUDICATED,
    ANSWER_JOURNAL,
    ANSWERS,
    AUDIT_PUSHED,
    GOLD_QUESTIONS,
    PSEUDONYM_KEY,
    PUSHED,
    SEVERITY,
)
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, read_manifest
from marginalia.schemas.manifest_json import Missing
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import sha256

EXPERT_ROUNDS = (ADJUDICATED, AUDIT_PUSHED)
REJECTIONS_LISTED = 100


def datasets(run: Run) -> list[Pushed]:
    """The datasets that records of this run were pushed to: the annotators', and the experts' once there are any.
    Raises InputError when nothing was pushed yet."""
    return [PUSHED.read(run), *(artifact.read(run) for artifact in EXPERT_ROUNDS if artifact.exists(run))]


def _work(run: Run) -> StageOutcome:
    now = datetime.now(UTC)
    with connect(run.config.annotation, run.path(HOME)) as connection:
        entries, counts, cursor = pull(
            connection,
            datasets(run),
            ANSWER_JOURNAL.path(run),
            PSEUDONYM_KEY.path(run),
            now,
            last=_last_cursor(run),
            gold_questions=read_gold_questions(GOLD_QUESTIONS.path(run)).questions,
        )
    frame = answers_frame(entries)
    ANSWERS.write(run, frame)
    levels = {}
    if run.config.annotation.severity:
        severity = severity_frame(entries)
        SEVERITY.write(run, severity)
        levels = {"levels": severity.height}
    numbers = {name: value for name, value in asdict(counts).items() if isinstance(value, int)}
    inputs = ("records_read", "on_server", "torn_bytes")
    return StageOutcome(
        counts_in={name: numbers[name] for name in inputs},
        counts_out={
            "answers": frame.height,
            **{name: n for name, n in numbers.items() if name not in (*inputs, "unreadable")},
            **levels,
            **({"unreadable": counts.unreadable} if counts.unreadable else {}),
        },
        facts={
            "to_mend": counts.rejections[:REJECTIONS_LISTED],
            "simulated": run.config.simulated,
            **({"cursor": cursor.model_dump(mode="json")} if cursor is not None else {}),
        },
        warnings=[f"not read: {problem}" for problem in counts.problems[:REJECTIONS_LISTED]],
        missing=_unreadable(run, counts.unreadable),
    )


def _unreadable(run: Run, n: int) -> list[Missing]:
    """What is missing when the server gave `n` answers that could not be read."""
    if n == 0:
        return []
    answers = "1 answer" if n == 1 else f"{n:,} answers"
    how = f"have the annotators submit them again in Argilla, then: {run.command('pull')}"
    return [Missing(what=f"{answers} on the server could not be read (see the warnings)", how=how)]


def _last_cursor(run: Run) -> Cursor | None:
    """The cursor of the last pull; None when there was no complete one, or when the journal has changed since then."""
    manifest = read_manifest(run, "pull")
    journal = ANSWER_JOURNAL.path(run)
    if manifest is None or "cursor" not in manifest.facts or not journal.exists():
        return None
    if sha256(journal) != manifest.outputs.get(ANSWER_JOURNAL.name):
        return None
    return Cursor.model_validate(manifest.facts["cursor"])


STAGE = Stage(
    name="pull",
    inputs=lambda run: [
        PUSHED.name,
        *(artifact.name for artifact in (*EXPERT_ROUNDS, GOLD_QUESTIONS) if artifact.exists(run)),
    ],
    outputs=lambda run: [
        ANSWERS.name,
        ANSWER_JOURNAL.name,
        *([SEVERITY.name] if run.config.annotation.severity else []),
    ],
    sections=("annotation",),
    work=_work,
    live=True,
)
