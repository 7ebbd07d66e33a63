"""How slots are filled: every turn of the schedule is asked, journalled, and judged in the order of the turns.

A prompt shows only texts that were accepted two rounds earlier or before, and a turn is judged only after all turns
before it; so the result does not depend on which answer came first."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.acceptance.answer_acceptance import AnswerAcceptance, Rejection
from marginalia.pipeline.generation.budget import Budget
from marginalia.pipeline.generation.endpoint.llm_endpoint import AttemptFailed, EndpointDown
from marginalia.pipeline.generation.generation_result import (
    Accepted,
    AcceptedTexts,
    GenerationResult,
    RejectedAttempts,
    Slot,
    Slots,
)
from marginalia.pipeline.generation.journalled_calls import Writer, journalled_call, worker_group
from marginalia.pipeline.generation.response_journal import AnswerLog, JournalledAnswer, KnownAnswers, read_answers
from marginalia.pipeline.generation.slot_schedule import SlotSchedule, Turn
from marginalia.pipeline.generation.unreadable_answers import UnreadableAnswers
from marginalia.pipeline.generation.writer_requests import RequestBuilder, WriterRequest
from marginalia.schemas.storage.journal import Journal
from marginalia.schemas.storage.temporary_rows import TemporaryRows

_RECENT = 50  # the latest texts of a group that a prompt may show
_TURNS_PER_YIELD = 100  # turns answered from the journal before the event loop gets to run, for Ctrl-C


class WritingProgress(Protocol):
    """Receives the progress of `SlotWriting.fill`."""

    def expect(self, questions: int) -> None:
        """A round of `questions` further turns has opened."""

    def answered(self, result: GenerationResult) -> None:
        """One turn is judged; `result` includes it."""


@dataclass(frozen=True)
class AnsweredRequest:
    """The outcome of a question. `answer` is None for one that was not asked: the budget did not allow it, or
    (`postponed`) an earlier call of the stage got no answer to it, but one to a later attempt at the same slot."""

    answer: JournalledAnswer | AttemptFailed | None
    question: WriterRequest | None = None
    postponed: bool = False


class SlotWriting:
    """Fills the slots of a plan. `journal` is the path of responses.jsonl, `endpoint` the name that is noted in it,
    `spent` what the run has paid for other calls."""

    def __init__(
        self,
        section: GenerateSection,
        request_builder: RequestBuilder,
        acceptance: AnswerAcceptance,
        *,
        journal: Path,
        endpoint: str,
        seed: int,
        spent: float = 0.0,
    ) -> None:
        self._section = section
        self._request_builder = request_builder
        self._acceptance = acceptance
        self._path = journal
        self._endpoint = endpoint
        self._seed = seed
        self._spent = spent

    async def fill(self, plan: pl.DataFrame, writer: Writer, progress: WritingProgress) -> GenerationResult:
        """Asks `writer` for every slot of `plan`, except where the journal has the answer.

        Raises what `writer` raises apart from AttemptFailed; answers received before that are in the journal."""
        slots, temporary_rows = Slots(plan), TemporaryRows(self._path.parent)
        result = GenerationResult(slots, AcceptedTexts(slots, temporary_rows), RejectedAttempts(temporary_rows))
        with Journal(self._path) as journal, closing(UnreadableAnswers(self._path)) as unreadable:
            result.torn_bytes = journal.torn_bytes
            known = read_answers(self._path)
            budget = Budget(self._section, known.values(), unreadable, spent=self._spent)
            log = AnswerLog(journal, self._endpoint)
            await _FillCall(self, slots, known, budget, log, result, progress).run(writer)
        result.unreadable = len(unreadable.prompt_bytes)
        result.guessed += budget.guessed_unreadable
        return result

    @property
    def section(self) -> GenerateSection:
        """The config section `generate`."""
        return self._section

    def question(self, slot: Slot, attempt: int, written: Mapping[str, Iterable[str]]) -> WriterRequest:
        """The request for an attempt at a slot. `written` has the texts that may be shown, by group (see `groups`)."""
        draw = random.Random(f"{self._seed}:{slot['slot_id']}:{attempt}:written")
        candidates = dict.fromkeys(text for group in groups(slot) for text in written.get(group, ()))
        shown = draw.sample(list(candidates), min(self._section.show_written, len(candidates)))
        return self._request_builder.question(slot, attempt, shown)

    @property
    def judging_batch(self) -> int:
        """How many answers are judged together."""
        return self._acceptance.batch_size

    def prepare(self, answers: list[tuple[Slot, JournalledAnswer | AttemptFailed | None]]) -> None:
        """Embeds the texts of the answers that are judged next, all of which must be given."""
        self._acceptance.prepare(
            [(answer, slot["language"]) for slot, answer in answers if isinstance(answer, JournalledAnswer)]
        )

    def verdict(
        self, slot: Slot, answer: JournalledAnswer | AttemptFailed, question: WriterRequest | None
    ) -> Accepted | Rejection:
        """Judges an answer; a failed attempt is a rejection with reason `failed`."""
        if isinstance(answer, AttemptFailed):
            return Rejection("failed", str(answer))
        shown, prompt = (question.shown, question.prompt) if question is not None else ([], [])
        text = self._acceptance.judge(slot["slot_id"], answer, slot["language"], shown, prompt)
        return text if isinstance(text, Rejection) else Accepted(slot, text, answer.created_at)


class _FillCall:
    """One call of `SlotWriting.fill`: generate.concurrency workers take turns from the schedule."""

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
        self._schedule = SlotSchedule(len(slots), waves=section.waves, on_open=self._round_opens)
        # sets and keys of slot indices
        self._unanswered: set[int] = set()  # open slots with an attempt that got no answer
        self._not_allowed: set[int] = set()  # slots for which the budget was used up
        self._postponed: dict[int, list[int]] = {}  # attempts to ask when all others are rejected
        self._at_postponed: set[int] = set()  # slots that are at their postponed attempts
        # by group: the latest texts that prompts may show, and by round those that a later round may show
        self._shown_texts: dict[str, deque[str]] = {}
        self._texts_of_round: dict[int, dict[str, deque[str]]] = {}
        # by turn number: answered before the answer of an earlier turn has come
        self._arrived_early: dict[int, tuple[Turn, AnsweredRequest]] = {}
        self._next_number = 0
        self._ready: list[tuple[Turn, AnsweredRequest]] = []  # to be judged together, in the order of turns

    async def run(self, writer: Writer) -> None:
        """Returns when every answer is judged and on disk."""
        async with self._log.open(), worker_group() as group:
            group.create_task(self._log.put_on_disk())
            for _ in range(self._workers):
                group.create_task(self._work(writer))
        result = self._result
        result.unanswered, result.not_allowed = len(self._unanswered), len(self._not_allowed - self._unanswered)
        result.stopped = result.stopped or ("budget" if self._budget.stopped else None)

    async def _work(self, writer: Writer) -> None:
        while (turn := await self._schedule.next()) is not None:
            # no await between here and the question: a round that opens meanwhile would change what the prompt shows
            if self._budget.stopped and not self._known:
                self._arrived(turn, AnsweredRequest(None))
                continue
            question = self._writing.question(self._slots[turn.slot_index], turn.attempt, self._shown_texts)
            answer = self._known.get(question.key)
            if answer is not None:
                self._result.from_journal += 1
                self._arrived(turn, AnsweredRequest(answer, question))
            elif self._answered_later(turn):
                self._arrived(turn, AnsweredRequest(None, postponed=True))
            elif await self._budget.allows(question):
                await self._ask(turn, question, writer)
            else:
                self._arrived(turn, AnsweredRequest(None))
            if turn.number % _TURNS_PER_YIELD == 0:
                await asyncio.sleep(0)
        self._log.stop()

    def _answered_later(self, turn: Turn) -> bool:
        """Whether the journal has an answer to a later attempt at the slot: then this attempt got none when it was
        asked, and asking it again now must not replace a text that was accepted since."""
        slot = self._slots[turn.slot_index]
        last = min(self._known.last_attempt(slot["slot_id"]), self._writing.section.max_attempts)
        if turn.slot_index in self._at_postponed:
            return False
        later = range(turn.attempt + 1, last + 1)
        return any(self._writing.question(slot, attempt, {}).key in self._known for attempt in later)

    async def _ask(self, turn: Turn, question: WriterRequest, writer: Writer) -> None:
        outcome = await journalled_call(
            writer,
            question,
            budget=self._budget,
            log=self._log,
            on_disk=lambda answer: self._arrived(turn, AnsweredRequest(answer, question)),
        )
        self._result.asked_now += not isinstance(outcome, EndpointDown)
        if isinstance(outcome, AttemptFailed):
            self._arrived(turn, AnsweredRequest(outcome, question))

    def _arrived(self, turn: Turn, answered: AnsweredRequest) -> None:
        self._arrived_early[turn.number] = turn, answered
        while (following := self._arrived_early.pop(self._next_number, None)) is not None:
            self._next_number += 1
            self._ready.append(following)
            if len(self._ready) >= self._writing.judging_batch or following[0].ends_round:
                self._judge_ready()

    def _judge_ready(self) -> None:
        # the same turns are judged together, whichever answer came first: an embedding's last digits depend on its
        # batch
        ready, self._ready = self._ready, []
        self._writing.prepare([(self._slots[turn.slot_index], answered.answer) for turn, answered in ready])
        for turn, answered in ready:
            self._judge(turn, answered)

    def _judge(self, turn: Turn, answered: AnsweredRequest) -> None:
        answer, result = answered.answer, self._result
        if answered.postponed:
            self._postponed.setdefault(turn.slot_index, []).append(turn.attempt)
            self._progress.answered(result)
            self._schedule.judged(turn, next_attempt=turn.attempt + 1)
            return
        if answer is None:
            self._not_allowed.add(turn.slot_index)
            self._schedule.judged(turn, next_attempt=None)
            return
        if isinstance(answer, AttemptFailed):
            self._unanswered.add(turn.slot_index)
            result.last_failure = str(answer)
        if isinstance(answer, EndpointDown):
            result.stopped = "outage"
            self._schedule.judged(turn, next_attempt=None)
            return
        if isinstance(answer, JournalledAnswer):
            result.count(answer, self._budget)
            result.models[answer.model or "not said"] += 1
            result.without_usage += answer.prompt_tokens is None or answer.completion_tokens is None
        slot = self._slots[turn.slot_index]
        verdict = self._writing.verdict(slot, answer, answered.question)
        if isinstance(verdict, Rejection):
            result.rejected.add(turn.slot_index, turn.attempt, verdict.reason, verdict.detail)
        else:
            self._unanswered.discard(turn.slot_index)
            result.accepted.add(turn.slot_index, verdict.text, verdict.created_at)
            texts = self._texts_of_round.setdefault(turn.round, {})
            for group in groups(slot):
                texts.setdefault(group, deque(maxlen=_RECENT)).append(verdict.text)
        self._progress.answered(result)
        self._schedule.judged(turn, next_attempt=self._next_attempt(turn) if isinstance(verdict, Rejection) else None)

    def _next_attempt(self, turn: Turn) -> int | None:
        """The attempt after a rejected one; None when the slot has no attempt left."""
        if turn.slot_index not in self._at_postponed and turn.attempt < self._writing.section.max_attempts:
            return turn.attempt + 1
        if not self._postponed.get(turn.slot_index):
            return None
        self._at_postponed.add(turn.slot_index)
        return self._postponed[turn.slot_index].pop(0)

    def _round_opens(self, number: int, turns: int) -> None:
        for group, texts in self._texts_of_round.pop(number - 2, {}).items():
            self._shown_texts.setdefault(group, deque(maxlen=_RECENT)).extend(texts)
        self._progress.expect(turns)


def groups(slot: Slot) -> list[str]:
    """The groups of slots whose prompts may show a text of this slot: one per label, or one for its type of text
    without labels."""
    return slot["labels"] or [f"{slot.get('difficulty')} {slot.get('near_miss_of')}"]
