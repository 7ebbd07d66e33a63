"""The annotation part of `marginalia status`, read from the server at that moment. Writes nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from marginalia.annotation.client.annotation_progress import AnnotationProgress, progress
from marginalia.annotation.client.argilla_access import connect
from marginalia.annotation.gold.gold_questions import read_gold_questions
from marginalia.pipeline.annotating.pull_stage import EXPERT_ROUNDS, datasets
from marginalia.pipeline.annotating.push_stage import HOME
from marginalia.pipeline.core.artifacts import ANSWERS, GOLD_QUESTIONS, PUSHED
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.run_overview import MissingAnswers
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.terminal import table, wrapped

PAIRS_SHOWN = 6
HEADERS = ("annotator", "submitted", "skipped", "drafts", "s/answer", "kappa", "gold questions", "last answer")
CLEAR = "\x1b[2J\x1b[H"  # clears the terminal and moves to its first line


@dataclass(frozen=True)
class StatusReport:
    """The progress of every round that was pushed, the annotators' first."""

    rounds: list[AnnotationProgress]

    @property
    def data(self) -> list[dict[str, Any]]:
        """The rounds as `--json` prints them."""
        return [progress.model_dump(mode="json") for progress in self.rounds]

    def __str__(self) -> str:
        return "\n\n".join(_text(progress) for progress in self.rounds)


def report(run: Run) -> StatusReport:
    """The progress on the server. Raises InputError when nothing was pushed yet, ServiceError when Argilla does not
    answer."""
    pushed, simulated = datasets(run), run.config.simulated
    known = read_gold_questions(GOLD_QUESTIONS.path(run)).known
    with connect(run.config.annotation, run.path(HOME)) as connection:
        return StatusReport(
            [progress(connection, dataset, run.taxonomy, simulated=simulated, known=known) for dataset in pushed]
        )


@dataclass(frozen=True)
class AnnotationStatus:
    """The progress, or the reason why Argilla could not be asked. Both are None when nothing was pushed yet. `missing`:
    the answers that people still have to give."""

    report: StatusReport | None
    problem: str | None
    missing: MissingAnswers | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The keys that `--json` adds to the stages."""
        return {"annotation": self.report.data if self.report else [], "annotation_problem": self.problem}

    def __str__(self) -> str:
        return f"\n{self.report}" if self.report else wrapped(f"annotation: {self.problem}") if self.problem else ""


def annotation(run: Run) -> AnnotationStatus:
    """The status, if a server answers. The run's own server is not started for it."""
    if not PUSHED.exists(run):
        return AnnotationStatus(None, None)
    if run.config.annotation.url is None:
        from marginalia.annotation.server.server_control import status as running

        if running(run.path(HOME)) is None:
            return _without_server(run, f"the run's Argilla is not running (marginalia argilla up --run {run.folder})")
    try:
        found = report(run)
    except MarginaliaError as error:
        return _without_server(run, str(error))
    # a record that somebody has skipped may never get all answers that it needs
    open_answers = sum(
        max(0, progress.answers_needed - sum(annotator.discarded for annotator in progress.annotators))
        for progress in found.rounds
    )
    return AnnotationStatus(found, None, MissingAnswers(open_answers))


def _without_server(run: Run, problem: str) -> AnnotationStatus:
    """The status without a server: after a pull, the answers that are missing are counted in its file."""
    try:
        pushed, answers = PUSHED.read(run), ANSWERS.read_if_present(run)
    except MarginaliaError:  # status says what is wrong with the stage
        return AnnotationStatus(None, problem, MissingAnswers(None, problem))
    if answers is None or any(artifact.exists(run) for artifact in EXPERT_ROUNDS):
        return AnnotationStatus(None, problem, MissingAnswers(None, problem))
    given = (
        answers.filter(pl.col("status") != "draft").group_by("record_id").len()["len"].clip(0, pushed.annotators).sum()
    )
    return AnnotationStatus(None, problem, MissingAnswers(max(0, pushed.records * pushed.annotators - int(given))))


def follow(run: Run, seconds: float) -> None:
    """Prints the status every `seconds` seconds until it is interrupted."""
    while True:
        text = str(annotation(run)).strip()
        print(f"{CLEAR if sys.stdout.isatty() else ''}{text}\n\n{datetime.now():%H:%M:%S}; Ctrl-C to stop", flush=True)
        time.sleep(seconds)


def _text(progress: AnnotationProgress) -> str:
    simulated = " (simulated annotators)" if progress.simulated else ""
    records = "record" if progress.alpha_masi.n == 1 else "records"
    each = f", {_hours(progress.hours_left_each)} per active annotator" if progress.hours_left_each else ""
    lines = [
        f"{progress.dataset} at {progress.url}, round {progress.round}{simulated}",
        f"  records: {progress.done} of {progress.records} done, {progress.started} started, "
        f"{progress.untouched} untouched",
        f"  answers: {progress.answers_needed} still needed, about {_hours(progress.hours_left)} of work{each}",
        f"  agreement: alpha (MASI) {_value(progress.alpha_masi)}, equal label sets {_value(progress.exact)}, "
        f"on {progress.alpha_masi.n} {records} with two or more answers",
    ]
    if progress.rejected:
        answers = "answer ticks" if progress.rejected == 1 else "answers tick"
        lines.append(f"  to correct: {progress.rejected} {answers} nothing, or none together with a label")
    if progress.unreadable:
        answers = "answer" if progress.unreadable == 1 else "answers"
        lines.append(f"  unreadable: {progress.unreadable} {answers}; marginalia pull says what is wrong with each")
    return "\n".join([wrapped("\n".join(lines)), *_annotators(progress), *_lowest_agreement(progress)])


def _annotators(progress: AnnotationProgress) -> list[str]:
    """A table of the annotators, with a blank line before it."""
    if not progress.annotators:
        return []
    rows = [
        (
            annotator.username,
            str(annotator.submitted),
            str(annotator.discarded),
            str(annotator.draft),
            "–" if annotator.seconds_per_answer is None else f"{annotator.seconds_per_answer:.1f}",
            "–" if annotator.kappa is None else f"{annotator.kappa:.2f}",
            "–" if annotator.gold_exact is None else f"{annotator.gold_exact:.0%} of {annotator.gold_questions}",
            "–" if annotator.last_answer is None else f"{annotator.last_answer:%Y-%m-%d %H:%M} UTC",
        )
        for annotator in progress.annotators
    ]
    return ["", table(HEADERS, rows)]


def _lowest_agreement(progress: AnnotationProgress) -> list[str]:
    """A table of the pairs of annotators with the lowest kappa, with a blank line before it."""
    rated = [pair for pair in progress.pairs if pair.kappa is not None]
    if not rated:
        return []
    rows = [
        (
            f"{pair.first} and {pair.second}",
            f"{pair.kappa:.2f}",
            "–" if pair.exact is None else f"{pair.exact:.0%}",
            str(pair.records),
        )
        for pair in rated[:PAIRS_SHOWN]
    ]
    lines = ["", table(["lowest agreement", "kappa", "equal sets", "records"], rows)]
    if more := len(rated[PAIRS_SHOWN:]):
        lines.append(f"  and {more} more {'pair' if more == 1 else 'pairs'} (all with --json)")
    return lines


def _value(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.2f}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "an unknown time"
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
