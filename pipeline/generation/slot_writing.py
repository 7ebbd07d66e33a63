"""How slots are filled: every turn of the agenda asked, journalled, and judged in its order.

A prompt shows only texts that were accepted two rounds before it or earlier, and a turn is judged as soon as all turns
before it are there; so which answer came first has no part in the result."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.acceptance.answer_acceptance import AnswerAcceptance, Rejection
from marginalia.pipeline.generation.budget import Budget
from marginalia.pipeline.generation.endpoint.llm_endpoint import AttemptFailed, EndpointDown, Unreadable
from marginalia.pipeline.generation.generation_result import (
    Accepted,
    AcceptedTexts,
    GenerationResult,
    RejectedAttempts,
    Slot,
    Slots,
)
from marginalia.pipeline.generation.response_journal import (
    AnswerLog,
    JournalledAnswer,
    KnownAnswers,
    Reply,
    read_answers,
)
from marginalia.pipeline.generation.slot_schedule import SlotSchedule, Turn
from marginalia.pipeline.generation.unreadable_answers import UnreadableAnswers
from marginalia.pipeline.generation.writer_requests import RequestBuilder, WriterRequest
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.storage.journal import Journal
from marginalia.schemas.storage.temporary_rows import TemporaryRows

_RECENT = 50  # of the texts written for a label, those that a prompt may show
_BREATH = 100  # answers of the journal between two looks at Ctrl-C


class Writer(Protocol):
    """What answers a request: an endpoint that is opened only when there is something to ask.

    `ask` raises AttemptFailed when this one request has no answer; anything else that it raises ends the stage."""

    async def ask(self, payload: dict[str, Any], unreadable: Unreadable) -> Reply: ...


class WritingProgress(Protocol):
    def expect(self, questions: int) -> None:
        """So many questions more."""

    def answered(self, result: GenerationResult) -> None:
        """One of them is done."""


@dataclass(frozen=True)
class AnsweredRequest:
    """What became of a question; `answer` is None for one that was not asked: the budget did not allow it, or, with
    `later`, it had no answer in an earlier call of the stage, in which a later attempt had one."""

    answer: JournalledAnswer | AttemptFailed | None
    question: WriterRequest | None = None
    later: bool = False


class SlotWriting:
    """Fills the slots of one plan. `journal` is the path of responses.jsonl, `endpoint` the name that it notes, `spent`
    what the run has paid for anything but this."""

    def __init__(
        self,
        section: GenerateSection,
        asker: RequestBuilder,
        judge: AnswerAcceptance,
        *,
        journal: Path,
        endpoint: str,
        seed: int,
        spent: float = 0.0,
    ) -> None:
        self._section = section
        self._asker = asker
        self._judge = judge
        self._path = journal
        self._endpoint = endpoint
        self._seed = seed
        self._spent = spent

    async def fill(self, plan: pl.DataFrame, writer: Writer, progress: WritingProgress) -> GenerationResult:
        """Asks `writer` for every slot of `plan`; what the journal holds is not asked for again.

        Raises what `writer` raises beside AttemptFailed; all that was answered by then stays in the journal."""
        slots, spill = Slots(plan), TemporaryRows(self._path.parent)
        result = GenerationResult(slots, AcceptedTexts(slots, spill), RejectedAttempts(spill))
        with Journal(self._path) as journal, closing(UnreadableAnswers(self._path)) as unreadable:
            result.torn_bytes = journal.torn_bytes
            known = read_answers(self._path)
            budget = Budget(self._section, known.values(), unreadable, spent=self._spent)
            log = AnswerLog(journal, self._endpoint)
            await _Filling(self, slots, known, budget, log, result, progress).run(writer)
        result.unreadable = len(unreadable.prompt_bytes)
        result.guessed += budget.guessed_unreadable
        return result

    @property
    def section(self) -> GenerateSection:
        return self._section

    def question(self, slot: Slot, attempt: int, written: Mapping[str, Iterable[str]]) -> WriterRequest:
        """`written` are the texts that may be shown, by group of slots."""
        draw = random.Random(f"{self._seed}:{slot['slot_id']}:{attempt}:written")
        known = dict.fromkeys(text for group in groups(slot) for text in written.get(group, ()))
        shown = draw.sample(list(known), min(self._section.show_written, len(known)))
        return self._asker.question(slot, attempt, shown)

    @property
    def judged_at_once(self) -> int:
        return self._judge.at_once

    def prepare(self, answers: list[tuple[Slot, JournalledAnswer | AttemptFailed | None]]) -> None:
        """What is judged next, all of it."""
        self._judge.prepare([(each, slot["language"]) for slot, each in answers if isinstance(each, JournalledAnswer)])

    def verdict(
        self, slot: Slot, answer: JournalledAnswer | AttemptFailed, question: WriterRequest | None
    ) -> Accepted | Rejection:
        if isinstance(answer, AttemptFailed):
            return Rejection("failed", str(answer))
        shown, prompt = (question.shown, question.prompt) if question is not None else ([], [])
        verdict = self._judge.judge(slot["slot_id"], answer, slot["language"], shown, prompt)
        return verdict if isinstance(verdict, Rejection) else Accepted(slot, verdict, answer.created_at)


class _Filling:
    """One call of `fill`: generate.concurrency workers take turns from the agenda."""

    def __init__(
        self,
        writing: SlotWriting,
        slots: Slots,
        known: KnownAnswers,
        budget: Budget,
        log: AnswerLog,
        result: GenerationResult,
        progress: WritingProgress,
    ) -> None:
        section = writing.section
        self._writing = writing
        self._slots = slots
        self._known = known
        self._budget = budget
        self._log = log
        self._result = result
        self._progress = progress
        self._workers = min(section.concurrency, len(slots))
        self._agenda = SlotSchedule(len(slots), waves=section.waves, on_open=self._round_opens)
        self._unanswered: set[int] = set()  # places of open slots of which an attempt had no answer
        self._not_allowed: set[int] = set()  # places of slots that the budget did not allow to ask
        self._postponed: dict[int, list[int]] = {}  # by place: attempts that are asked when all others are rejected
        self._last_chance: set[int] = set()  # places of slots that are at those
        self._written: dict[str, deque[str]] = {}
        # by round and group, the last of the texts that a later round may show
        self._accepted: dict[int, dict[str, deque[str]]] = {}
        self._waiting: dict[
            int, tuple[Turn, AnsweredRequest]
        ] = {}  # by number: what came before an earlier turn's answer
        self._next = 0
        self._ready: list[tuple[Turn, AnsweredRequest]] = []  # to be judged at once, in the order of turns

    async def run(self, writer: Writer) -> None:
        """Returns when every answer is judged and on disk."""
        try:
            async with self._log.open(), asyncio.TaskGroup() as group:
                group.create_task(self._log.put_on_disk())
                for _ in range(self._workers):
                    group.create_task(self._work(writer))
        except BaseExceptionGroup as errors:
            # several workers may meet the same fault; the user needs it once
            ours = [error for error in errors.exceptions if isinstance(error, MarginaliaError)]
            if len(ours) == len(errors.exceptions):
                raise ours[0] from None
            raise
        result = self._result
        result.unanswered, result.not_allowed = len(self._unanswered), len(self._not_allowed - self._unanswered)
        result.stopped = result.stopped or ("budget" if self._budget.stopped else None)

    async def _work(self, writer: Writer) -> None:
        while (turn := await self._agenda.next()) is not None:
            # from here to the question nothing may be awaited: a round that opens changes what a prompt shows
            if self._budget.stopped and not self._known:
                self._arrived(turn, AnsweredRequest(None))
                continue
            question = self._writing.question(self._slots[turn.place], turn.attempt, self._written)
            answer = self._known.get(question.key)
            if answer is not None:
                self._result.from_journal += 1
                self._arrived(turn, AnsweredRequest(answer, question))
            elif self._answered_later(turn):
                self._arrived(turn, AnsweredRequest(None, later=True))
            elif await self._budget.allows(question):
                await self._ask(turn, question, writer)
            else:
                self._arrived(turn, AnsweredRequest(None))
            if turn.number % _BREATH == 0:
                await asyncio.sleep(0)
        self._log.stop()

    def _answered_later(self, turn: Turn) -> bool:
        """Whether the journal has an answer to a later attempt at the slot: then this one had none when it was asked.
        It must not take the place of a text that was accepted since."""
        slot = self._slots[turn.place]
        last = min(self._known.last_attempt(slot["slot_id"]), self._writing.section.max_attempts)
        if turn.place in self._last_chance:
            return False
        later = range(turn.attempt + 1, last + 1)
        return any(self._writing.question(slot, attempt, {}).key in self._known for attempt in later)

    async def _ask(self, turn: Turn, question: WriterRequest, writer: Writer) -> None:
        try:
            reply = await writer.ask(question.payload, partial(self._budget.unreadable, question))
        except AttemptFailed as failure:
            self._budget.settle(question, None)
            self._result.asked_now += not isinstance(failure, EndpointDown)
            self._arrived(turn, AnsweredRequest(failure, question))
            return
        self._result.asked_now += 1
        answer = self._log.keep(
            question, reply, on_disk=lambda answer: self._arrived(turn, AnsweredRequest(answer, question))
        )
        self._budget.settle(question, answer)

    def _arrived(self, turn: Turn, answered: AnsweredRequest) -> None:
        self._waiting[turn.number] = turn, answered
        while (first := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._ready.append(first)
            if len(self._ready) >= self._writing.judged_at_once or first[0].ends_round:
                self._judge_ready()

    def _judge_ready(self) -> None:
        # always the same turns together, whichever answer came first: an embedding's last digits depend on its batch
        ready, self._ready = self._ready, []
        self._writing.prepare([(self._slots[turn.place], answered.answer) for turn, answered in ready])
        for turn, answered in ready:
            self._judge(turn, answered)

    def _judge(self, turn: Turn, answered: AnsweredRequest) -> None:
        answer, result = answered.answer, self._result
        if answered.later:
            self._postponed.setdefault(turn.place, []).append(turn.attempt)
            self._progress.answered(result)
            self._agenda.judged(turn, next_attempt=turn.attempt + 1)
            return
        if answer is None:
            self._not_allowed.add(turn.place)
            self._agenda.judged(turn, next_attempt=None)
            return
        if isinstance(answer, AttemptFailed):
            self._unanswered.add(turn.place)
            result.last_failure = str(answer)
        if isinstance(answer, EndpointDown):
            result.stopped = "outage"
            self._agenda.judged(turn, next_attempt=None)
            return
        slot = self._slots[turn.place]
        if isinstance(answer, JournalledAnswer):
            result.prompt_tokens += answer.prompt_tokens or 0
            result.completion_tokens += answer.completion_tokens or 0
            result.models[answer.model or "not said"] += 1
            result.guessed += self._budget.guessed(answer)
            result.without_usage += answer.prompt_tokens is None or answer.completion_tokens is None
        verdict = self._writing.verdict(slot, answer, answered.question)
        if isinstance(verdict, Rejection):
            result.rejected.add(turn.place, turn.attempt, verdict.reason, verdict.detail)
        else:
            self._unanswered.discard(turn.place)
            result.accepted.add(turn.place, verdict.text, verdict.created_at)
            of_round = self._accepted.setdefault(turn.round, {})
            for group in groups(slot):
                of_round.setdefault(group, deque(maxlen=_RECENT)).append(verdict.text)
        self._progress.answered(result)
        self._agenda.judged(turn, next_attempt=self._next_attempt(turn) if isinstance(verdict, Rejection) else None)

    def _next_attempt(self, turn: Turn) -> int | None:
        """After a rejection; None when the slot has no attempt left."""
        if turn.place not in self._last_chance and turn.attempt < self._writing.section.max_attempts:
            return turn.attempt + 1
        if not self._postponed.get(turn.place):
            return None
        self._last_chance.add(turn.place)
        return self._postponed[turn.place].pop(0)

    def _round_opens(self, number: int, turns: int) -> None:
        for group, texts in self._accepted.pop(number - 2, {}).items():
            self._written.setdefault(group, deque(maxlen=_RECENT)).extend(texts)
        self._progress.expect(turns)


def groups(slot: Slot) -> list[str]:
    """Under what a text is shown to later prompts: its labels, or what kind of label-free text it is."""
    return slot["labels"] or [f"{slot.get('difficulty')} {slot.get('near_miss_of')}"]
