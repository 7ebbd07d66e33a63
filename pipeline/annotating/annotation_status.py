"""status: how far the annotation is, asked of the server at this moment. Writes nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marginalia.annotation.client.annotation_progress import AnnotationProgress, progress
from marginalia.annotation.client.argilla_access import connect
from marginalia.annotation.gold.gold_questions import read_gold_questions
from marginalia.pipeline.annotating.pull_stage import datasets
from marginalia.pipeline.annotating.push_stage import HOME
from marginalia.pipeline.core.artifacts import GOLD_QUESTIONS, PUSHED
from marginalia.pipeline.core.run import Run
from marginalia.schemas.agreement_json import Estimate
from marginalia.schemas.errors import MarginaliaError

PAIRS_SHOWN = 6
CLEAR = "\x1b[2J\x1b[H"  # the terminal, and to its first line


@dataclass(frozen=True)
class StatusReport:
    """The rounds that were pushed, the annotators' first."""

    rounds: list[AnnotationProgress]

    @property
    def data(self) -> list[dict[str, Any]]:
        """What `--json` prints."""
        return [one.model_dump(mode="json") for one in self.rounds]

    def __str__(self) -> str:
        return "\n\n".join(_text(one) for one in self.rounds)


def report(run: Run) -> StatusReport:
    """Raises InputError when nothing was pushed yet, ServiceError when Argilla does not answer."""
    pushed, simulated = datasets(run), run.config.simulated
    known = read_gold_questions(GOLD_QUESTIONS.path(run)).known
    with connect(run.config.annotation, run.path(HOME)) as connection:
        found = [progress(connection, one, run.taxonomy, simulated=simulated, known=known) for one in pushed]
    return StatusReport(found)


@dataclass(frozen=True)
class AnnotationStatus:
    """What Argilla says, or why it says nothing. Both are null when nothing was pushed yet."""

    report: StatusReport | None
    problem: str | None

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` adds to the stages."""
        return {"annotation": self.report.data if self.report else [], "annotation_problem": self.problem}

    def __str__(self) -> str:
        return f"\n{self.report}" if self.report else f"annotation: {self.problem}" if self.problem else ""


def annotation(run: Run) -> AnnotationStatus:
    """The report where a server answers. The run's own server is not started for it."""
    if not PUSHED.exists(run):
        return AnnotationStatus(None, None)
    if run.config.annotation.url is None:
        from marginalia.annotation.server.server_control import status as running

        if running(run.path(HOME)) is None:
            return AnnotationStatus(None, f"the run's Argilla is down (marginalia argilla up --run {run.folder})")
    try:
        return AnnotationStatus(report(run), None)
    except MarginaliaError as error:
        return AnnotationStatus(None, str(error))


def follow(run: Run, seconds: float) -> None:
    """Shows the table anew every so many seconds, until it is interrupted."""
    while True:
        text = str(annotation(run)).strip()
        print(f"{CLEAR if sys.stdout.isatty() else ''}{text}\n\n{datetime.now():%H:%M:%S}; Ctrl-C ends", flush=True)
        time.sleep(seconds)


def _text(one: AnnotationProgress) -> str:
    simulated = " (simulated annotators)" if one.simulated else ""
    lines = [
        f"{one.dataset} at {one.url}, round {one.round}{simulated}",
        f"  records    {one.done} of {one.records} done, {one.started} started, {one.untouched} untouched",
        f"  answers    {one.answers_needed} still needed, about {_hours(one.hours_left)} of work"
        + (f", {_hours(one.hours_left_each)} for each of those who answer" if one.hours_left_each else ""),
        f"  agreement  alpha (MASI) {_value(one.alpha_masi)}, equal label sets {_value(one.exact)}, "
        f"on {one.alpha_masi.n} records with two answers",
    ]
    if one.rejected:
        lines.append(f"  to mend    {one.rejected} answers tick nothing, or none together with a label")
    if one.annotators:
        width = max(len("annotator"), *(len(person.username) for person in one.annotators))
        lines += [
            "",
            f"  {'annotator':{width}}  submitted  skipped  drafts  s/answer  kappa  gold questions  last answer",
        ]
        for person in one.annotators:
            pace = "–" if person.seconds_per_answer is None else f"{person.seconds_per_answer:.1f}"
            kappa = "–" if person.kappa is None else f"{person.kappa:.2f}"
            gold = "–" if person.gold_exact is None else f"{person.gold_exact:.0%} of {person.gold_questions}"
            last = "–" if person.last_answer is None else f"{person.last_answer:%Y-%m-%d %H:%M} UTC"
            lines.append(
                f"  {person.username:{width}}  {person.submitted:>9}  {person.discarded:>7}  {person.draft:>6}"
                f"  {pace:>8}  {kappa:>5}  {gold:>14}  {last}"
            )
    return "\n".join([*lines, *_apart(one)])


def _apart(one: AnnotationProgress) -> list[str]:
    """Who disagrees with whom: the pairs with the lowest kappa."""
    rated = [pair for pair in one.pairs if pair.kappa is not None]
    if not rated:
        return []
    names = [f"{pair.first} and {pair.second}" for pair in rated[:PAIRS_SHOWN]]
    width = max(len("who is furthest apart"), *map(len, names))
    lines = ["", f"  {'who is furthest apart':{width}}  kappa  equal sets  records"]
    for name, pair in zip(names, rated, strict=False):
        equal = "–" if pair.exact is None else f"{pair.exact:.0%}"
        lines.append(f"  {name:{width}}  {pair.kappa:>5.2f}  {equal:>10}  {pair.records:>7}")
    if len(rated) > PAIRS_SHOWN:
        lines.append(f"  and {len(rated) - PAIRS_SHOWN} more pairs (--json has them all)")
    return lines


def _value(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.2f}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "an unknown time"
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
