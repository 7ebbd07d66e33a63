"""Moderator: decides about texts and conversations by a profile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from marginalia.schemas.calibration_json import Calibration
from marginalia.schemas.data_frames import is_frame
from marginalia.schemas.errors import InputError
from marginalia.scoring.calibrated_scores import choose_maps
from marginalia.scoring.moderation_decision import ModerationDecision, decide_scores
from marginalia.scoring.moderation_profile import Profile, ProfileFile, profile_problems, read_profile
from marginalia.scoring.prompt import check_messages
from marginalia.scoring.record_errors import is_of_one_record, record_error
from marginalia.scoring.record_scores import RecordScores
from marginalia.scoring.record_stream import messages_from, scored_in_order
from marginalia.scoring.score_request import GuardModel, ScoreRequest, Settings, fields_of
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer

Messages = Sequence[dict[str, str]]
WINDOW = 64  # records that are scored together: several batches, and soon a first decision


class Moderator:
    """Decides about records: block, review or pass.

        moderator = Moderator.load("profile.yaml")
        moderator.decide("Where is my parcel?").action
        await moderator.adecide("Where is my parcel?")

    It may be used from several threads and tasks; the model works for one batch at a time. `notes`: what readers of the
    decisions should know."""

    def __init__(
        self, scorer: Scorer, profile: Profile, *, calibration: Calibration | None = None, notes: Sequence[str] = ()
    ) -> None:
        self.scorer, self.profile, self.calibration = scorer, profile, calibration
        self.notes = [*notes, *scorer.notes]
        if profile.simulated:
            self.notes.append("the thresholds come from SIMULATED annotators")
        self._model = Lock()  # held while the model works
        self._waiting: deque[tuple[Messages, Future[ModerationDecision]]] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="moderator")  # its thread starts with the first adecide

    @classmethod
    def load(cls, profile: str | PathLike[str]) -> Moderator:
        """Loads the profile, and the guard and model that it names.

        Raises InputError when the profile or a file that it names is wrong or has changed, ModelError and ServiceError
        for a model that cannot be used."""
        file = read_profile(Path(fspath(profile)))
        for problem in profile_problems(file):
            raise problem
        scorer = _scorer(file)
        path, chosen = file.file("calibration"), file.profile
        if path is None:
            return cls(scorer, chosen)
        maps = choose_maps(
            path,
            guard=scorer.guard.name,
            rows=scorer.guard.rows,
            model=chosen.guard.model,
            estimators=[chosen.estimator],
            named=chosen.guard.name,
            coverage=scorer.guard.coverage,
        )
        return cls(scorer, chosen, calibration=maps.maps[chosen.estimator])

    def decide(self, record: str | Messages) -> ModerationDecision:
        """The decision about one text or conversation. A record that cannot be scored, also because the model or its
        server fails, is decided by `rules.fail` or `rules.too_long`.

        Raises InputError for a value that is neither a text nor a conversation."""
        return self._decide([("", _messages(record))])[0]

    async def adecide(self, record: str | Messages) -> ModerationDecision:
        """The same without blocking the event loop. Records that wait while the model works are then scored together;
        one whose task was cancelled meanwhile is not scored."""
        messages = _messages(record)
        future: Future[ModerationDecision] = Future()
        self._waiting.append((messages, future))
        self._worker.submit(self._decide_waiting)
        return await asyncio.wrap_future(future)

    def decide_many(self, records: Iterable[Any]) -> Iterator[ModerationDecision]:
        """Yields the decision about each record, in the order of `records`, which may be a generator of any length: at
        most 64 are in memory.

        A record is what `Scorer.score_many` takes. One that is not a record is decided by `rules.fail`, as is one that
        cannot be scored. Raises InputError at once for one text in place of many."""
        if isinstance(records, str | bytes):
            raise InputError("decide_many takes many records", hint="decide takes one text")
        if is_frame(records):
            raise InputError("decide_many takes an iterable of records", hint="give a column, such as frame['text']")
        return self._decide_stream(records)

    def close(self) -> None:
        """Ends the thread of `adecide` after the decisions that were asked for."""
        self._worker.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _decide_stream(self, records: Iterable[Any]) -> Iterator[ModerationDecision]:
        searches: dict[str, int] = {}

        def score(window: Iterable[tuple[str, Messages]]) -> Iterator[Result]:
            searches.clear()
            scored = self._scored(list(window))
            searches.update({result.record_id: count for result, count in scored})
            return iter([result for result, _ in scored])

        for result in scored_in_order(records, score, WINDOW):
            yield self._decision(result, searches.get(result.record_id, 1))

    def _decide_waiting(self) -> None:
        """Decides about the records that wait, in the worker's thread. Each of them asked for one call; the first call
        takes as many as fit."""
        taken: list[tuple[Messages, Future[ModerationDecision]]] = []
        while self._waiting and len(taken) < WINDOW:
            messages, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                taken.append((messages, future))
        if not taken:
            return
        try:
            decisions = self._decide([(str(number), messages) for number, (messages, _) in enumerate(taken)])
        except BaseException as error:
            for _, future in taken:
                future.set_exception(error)
            return
        for (_, future), decision in zip(taken, decisions, strict=True):
            future.set_result(replace(decision, record_id=""))

    def _decide(self, records: list[tuple[str, Messages]]) -> list[ModerationDecision]:
        return [self._decision(*scored) for scored in self._scored(records)]

    def _scored(self, records: list[tuple[str, Messages]]) -> list[tuple[Result, int]]:
        """The result of each record, in the same order, and after how many searches: two where the bounds of the first
        one leave the decision open."""
        with self._model:
            first = self._results(records, self.scorer.settings)
            straddling = [record for record in records if self._straddles(first[record[0]])]
            second = self._results(straddling, finer) if straddling and (finer := self._finer()) is not None else {}
        results = []
        for record_id, _ in records:
            before, after = first[record_id], second.get(record_id)
            if after is None:
                results.append((before, 1))
                continue
            chosen = before if after.error is not None else after  # a second search that fails changes no decision
            seconds, passes = before.seconds + after.seconds, before.forward_passes + after.forward_passes
            results.append((replace(chosen, seconds=seconds, forward_passes=passes), 2))
        return results

    def _results(self, records: Sequence[tuple[str, Messages]], settings: Settings) -> dict[str, Result]:
        """The results by id. When the model or its server fails for all records, those that were not scored have its
        error."""
        done: dict[str, Result] = {}
        usual, self.scorer.settings = self.scorer.settings, settings
        try:
            for result in self.scorer.score_records(records):
                done[result.record_id] = result
            lost = "the scorer returned no result"
        except BaseException as error:
            if not isinstance(error, Exception) and not is_of_one_record(error):  # Ctrl-C
                raise
            lost = record_error(error, "scoring failed").message if is_of_one_record(error) else str(error)
        finally:
            self.scorer.settings = usual
        return {record_id: done.get(record_id) or Result(record_id, error=lost) for record_id, _ in records}

    def _straddles(self, result: Result) -> bool:
        """Whether a finer search could change the decision: a threshold is between the bounds of a label, or the share
        of the off-format rule between what is known to be outside the format and that with what is unexplored."""
        outside, rule = result.off_language, self.profile.rules.off_format
        if outside is not None and outside < rule.share <= outside + (result.unexplored or 0.0):
            return True
        return any(label.straddles for label in self._decision(result, 1).labels.values())

    def _finer(self) -> Settings | None:
        """The settings of the second search. None when there is none, or when bounds come from sampled passages, which
        a finer search does not narrow."""
        rule = self.profile.rules.straddling
        if rule.tolerance is None or self.scorer.guard.file.reasoning is not None:
            return None
        usual = self.scorer.settings
        budget = max(rule.node_budget, usual.node_budget)
        return usual.model_copy(update={"tolerance": min(rule.tolerance, usual.tolerance), "node_budget": budget})

    def _decision(self, result: Result, searches: int) -> ModerationDecision:
        scores = RecordScores(result, self.scorer.guard.rows, self.profile.estimator)
        decided = decide_scores(scores, self.profile.labels, self.profile.rules, self.calibration)
        return replace(decided, searches=searches)


def _messages(record: str | Messages) -> Messages:
    messages = messages_from(record)
    check_messages(messages)
    return messages


def _scorer(file: ProfileFile) -> Scorer:
    profile = file.profile
    return Scorer.from_request(
        ScoreRequest(
            **fields_of(GuardModel, profile.guard),
            taxonomy=profile.taxonomy,
            settings=Settings(**dict(profile.search), estimators=(profile.estimator,)),
            folder=file.path.parent,
        )
    )
