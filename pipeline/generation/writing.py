"""The rounds in which slots are filled.

Slots start in waves, one a round. Round r asks every open slot of the waves that have started. A prompt shows only
texts that earlier rounds accepted, and a round's answers are judged in slot order, each as soon as all before it are
there; so which answer came first has no part in the result."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from pipeline.generation.answers import Answer, AnswerLog, Reply, read_answers
from pipeline.generation.budget import Budget
from pipeline.generation.config import GenerateSection
from pipeline.generation.endpoint import AttemptFailed
from pipeline.generation.judging import Judge, Rejection
from pipeline.generation.questions import Asker, Question
from schemas.errors import MarginaliaError
from schemas.journal import Journal

_RECENT = 50  # of the texts written for a label, those that a prompt may show
_BREATH = 100  # answers of the journal between two looks at Ctrl-C

Slot = dict[str, Any]


class Writer(Protocol):
    """What answers a request: an endpoint that is opened only when there is something to ask.

    `ask` raises AttemptFailed when this one request has no answer; anything else that it raises ends the stage."""

    async def ask(self, payload: dict[str, Any]) -> Reply: ...


class Progress(Protocol):
    def begin(self, questions: int) -> None:
        """A round of so many questions starts."""

    def answered(self) -> None:
        """One of them is done."""


@dataclass(frozen=True)
class Accepted:
    slot: Slot
    text: str
    created_at: datetime


@dataclass
class Result:
    """`accepted` by slot id, `rejected` as (slot_id, attempt, reason, detail), both in the plan's order. A slot that is
    not accepted is open. Tokens are of all answers that were judged, whether paid for now or read from the journal;
    `stopped` says why the stage ended early, `torn_bytes` what a killed process left half written."""

    planned: int
    accepted: dict[str, Accepted] = field(default_factory=dict)
    rejected: list[tuple[str, int, str, str]] = field(default_factory=list)
    asked_now: int = 0
    from_journal: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    without_usage: int = 0
    torn_bytes: int = 0
    stopped: str | None = None

    @property
    def open(self) -> int:
        return self.planned - len(self.accepted)

    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(reason for _, _, reason, _ in self.rejected).items()))


class Rounds:
    """Fills the slots of one plan. `journal` is the path of responses.jsonl, `endpoint` the name that it notes."""

    def __init__(
        self, section: GenerateSection, asker: Asker, judge: Judge, *, journal: Path, endpoint: str, seed: int
    ) -> None:
        self._section = section
        self._asker = asker
        self._judge = judge
        self._path = journal
        self._endpoint = endpoint
        self._seed = seed
        self._written: dict[str, list[str]] = {}

    async def fill(self, plan: pl.DataFrame, writer: Writer, progress: Progress) -> Result:
        """Asks `writer` for every slot of `plan`; what the journal holds is not asked for again.

        Raises what `writer` raises beside AttemptFailed; all that was answered by then stays in the journal."""
        slots = list(plan.iter_rows(named=True))
        result = Result(planned=len(slots))
        with Journal(self._path) as journal:
            result.torn_bytes = journal.torn_bytes
            known = read_answers(self._path)
            budget = Budget(self._section, known.values())
            log = AnswerLog(journal, self._endpoint)
            async with log.open():
                for number in range(self._section.waves + self._section.max_attempts - 1):
                    asked = list(self._open_slots(slots, number, result))
                    progress.begin(len(asked))
                    accepted: list[Accepted] = []
                    judge = partial(self._judge_answer, result, accepted)
                    await _Round(self, asked, known, budget, judge).run(writer, log, progress, result)
                    for each in accepted:
                        for group in _groups(each.slot):
                            self._written.setdefault(group, []).append(each.text)
                    if budget.stopped:
                        result.stopped = "budget"
                        break
        place = {slot["slot_id"]: number for number, slot in enumerate(slots)}
        result.rejected.sort(key=lambda row: (place[row[0]], row[1]))
        result.accepted = dict(sorted(result.accepted.items(), key=lambda item: place[item[0]]))
        return result

    def _open_slots(self, slots: list[Slot], number: int, result: Result) -> Iterator[tuple[Slot, int]]:
        """(slot, attempt) of everything that round `number` (from 0) asks, in the plan's order."""
        for place, slot in enumerate(slots):
            attempt = number - place * self._section.waves // len(slots) + 1
            if 1 <= attempt <= self._section.max_attempts and slot["slot_id"] not in result.accepted:
                yield slot, attempt

    @property
    def concurrency(self) -> int:
        return self._section.concurrency

    def question(self, slot: Slot, attempt: int) -> Question:
        draw = random.Random(f"{self._seed}:{slot['slot_id']}:{attempt}:written")
        known = dict.fromkeys(text for group in _groups(slot) for text in self._written.get(group, [])[-_RECENT:])
        shown = draw.sample(list(known), min(self._section.show_written, len(known)))
        return self._asker.question(slot, attempt, shown)

    def _judge_answer(
        self, result: Result, accepted: list[Accepted], slot: Slot, attempt: int, answered: Answered
    ) -> None:
        verdict = self._verdict(slot, answered, result)
        if isinstance(verdict, Rejection):
            result.rejected.append((slot["slot_id"], attempt, verdict.reason, verdict.detail))
        else:
            result.accepted[slot["slot_id"]] = verdict
            accepted.append(verdict)

    def _verdict(self, slot: Slot, answered: Answered, result: Result) -> Accepted | Rejection:
        answer = answered.answer
        if isinstance(answer, AttemptFailed):
            return Rejection("failed", str(answer))
        result.prompt_tokens += answer.prompt_tokens or 0
        result.completion_tokens += answer.completion_tokens or 0
        result.without_usage += answer.prompt_tokens is None or answer.completion_tokens is None
        verdict = self._judge.judge(slot["slot_id"], answer, slot["language"], answered.shown)
        return verdict if isinstance(verdict, Rejection) else Accepted(slot, verdict, answer.created_at)


@dataclass(frozen=True)
class Answered:
    answer: Answer | AttemptFailed
    shown: list[str]


class _Round:
    """One round's calls, `generate.concurrency` of them at a time, started in slot order. `judge` is called with slot,
    attempt and answer in slot order; not for questions that the budget did not allow."""

    def __init__(
        self,
        rounds: Rounds,
        asked: list[tuple[Slot, int]],
        known: dict[str, Answer],
        budget: Budget,
        judge: Callable[[Slot, int, Answered], None],
    ) -> None:
        self._rounds = rounds
        self._asked = asked
        self._known = known
        self._budget = budget
        self._judge = judge
        self._left = iter(enumerate(asked))
        self._waiting: dict[int, Answered] = {}  # by place: answers that came before one of an earlier slot
        self._next = 0

    async def run(self, writer: Writer, log: AnswerLog, progress: Progress, result: Result) -> None:
        """Returns when every answer is judged and on disk."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._rounds.concurrency, len(self._asked))):
                    group.create_task(self._work(writer, log, progress, result))
        except BaseExceptionGroup as errors:
            # several workers may meet the same fault; the user needs it once
            ours = [error for error in errors.exceptions if isinstance(error, MarginaliaError)]
            if len(ours) == len(errors.exceptions):
                raise ours[0] from None
            raise
        for place in sorted(self._waiting):  # the budget left out some before these
            self._judge(*self._asked[place], self._waiting[place])

    async def _work(self, writer: Writer, log: AnswerLog, progress: Progress, result: Result) -> None:
        on_disk: asyncio.Future[None] | None = None
        for place, (slot, attempt) in self._left:
            question = self._rounds.question(slot, attempt)
            answer: Answer | AttemptFailed | None = self._known.get(question.key)
            if answer is not None:
                result.from_journal += 1
                if place % _BREATH == 0:
                    await asyncio.sleep(0)
            elif not self._budget.allows(question):
                break
            else:
                before = on_disk
                answer, on_disk = await self._ask(question, writer, log)
                result.asked_now += 1
                if before is not None:  # at most one answer a worker that is not on disk yet
                    await asyncio.shield(before)
            self._arrived(place, Answered(answer, question.shown))
            progress.answered()
        if on_disk is not None:
            await asyncio.shield(on_disk)

    def _arrived(self, place: int, answered: Answered) -> None:
        self._waiting[place] = answered
        while (first := self._waiting.pop(self._next, None)) is not None:
            self._judge(*self._asked[self._next], first)
            self._next += 1

    async def _ask(
        self, question: Question, writer: Writer, log: AnswerLog
    ) -> tuple[Answer | AttemptFailed, asyncio.Future[None] | None]:
        try:
            reply = await writer.ask(question.payload)
        except AttemptFailed as failure:
            self._budget.settle(question, None)
            return failure, None
        answer, on_disk = log.keep(question, reply)
        self._budget.settle(question, answer)
        return answer, on_disk


def _groups(slot: Slot) -> list[str]:
    """Under what a text is shown to later prompts: its labels, or what kind of label-free text it is."""
    return slot["labels"] or [f"{slot.get('difficulty')} {slot.get('near_miss_of')}"]
