"""Runs the searches of many records over one model: continuous batching with a fixed number of batch rows.

A record leaves its batch row to the next one as soon as it is done. All active records share each forward pass, whether
they are at their prompt or at their last prefix, so few passes run for a few slow records alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from marginalia.schemas.errors import MarginaliaError, ModelError
from marginalia.scoring.marginal.answer_search import NextTokens, Node, Search
from marginalia.scoring.marginal.baselines import Baseline
from marginalia.scoring.marginal.model_protocol import Batch, NextMoves, Source
from marginalia.scoring.record_errors import record_error

PASS_TOKENS = 1024  # answer prefixes in one forward pass: bounds the logits in memory
GROUP = 4  # records per group, as a multiple of batch rows: only a group's last passes run with free rows
LENGTH_SLACK = 64  # prompts of one group have at most twice as many unshared tokens as its shortest, plus this


@dataclass
class RecordJob:
    """The work for one record: its search, then its baselines, each made by its function when its turn comes.

    A guard may be asked several times about a record. `call` then names the question, and `then` makes the job for the
    next one from the finished job (None after the last one). It takes the same batch row, and what the two prompts have
    in common at their start is evaluated once. `next_call`: that job, once this one is done without an error.

    imitations: how many control tokens the record's text spells out. forward_passes: how many it
    took part in. seconds: its share of their duration, by tokens. error: why it could not be scored;
    is_temporary: whether another attempt may succeed."""

    record_id: str
    ids: list[int]
    imitations: int
    make_search: Callable[[], Search]
    make_baselines: Mapping[str, Callable[[Search], Baseline]]
    call: str = ""
    then: Callable[[RecordJob], RecordJob | None] | None = None
    next_call: RecordJob | None = field(init=False, default=None)
    search: Search = field(init=False)
    baselines: dict[str, Baseline] = field(default_factory=dict)
    forward_passes: int = 0
    seconds: float = 0.0
    error: str | None = None
    is_temporary: bool = False

    def __post_init__(self) -> None:
        self.search = self.make_search()
        self._current: Search | Baseline = self.search

    def restarted(self) -> RecordJob:
        """A new job for the same record."""
        return replace(self, baselines={}, forward_passes=0, seconds=0.0, error=None, is_temporary=False)

    def find_next(self) -> None:
        """Makes the job for the record's next call, if there is one and this job has no error."""
        if self.error is None and self.then is not None:
            self.next_call = self.then(self)

    def ask(self) -> list[Node]:
        """The prefixes to evaluate next; empty when the record is done. An error ends this record alone."""
        try:
            while self.error is None:
                if nodes := self._current.ask():
                    return nodes
                name = next((name for name in self.make_baselines if name not in self.baselines), None)
                if name is None:
                    break
                self.baselines[name] = self._current = self.make_baselines[name](self.search)
        except BaseException as error:
            self.fail(error)
        return []

    def tell(self, node: Node, answer: NextTokens | ModelError) -> None:
        """Takes the model's next-token probabilities after `node`; an error ends this record alone."""
        if self.error is None:
            try:
                if isinstance(answer, ModelError):
                    raise answer
                self._current.tell(node, answer)
            except BaseException as error:
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Ends this record with `error`. Raises it when it does not concern this record alone."""
        failed = record_error(error, "its search failed")
        self.error, self.is_temporary = failed.message, failed.is_temporary


class RecordBatches:
    """Runs jobs over a source, in batches of at most `records` records whose prompts have at most `tokens` unshared
    tokens in all. When a batch does not fit into memory or a forward pass fails, its size is halved.

    language: that of all calls of the guard.

    known_job: makes a job that the source could run when scoring began. If this job still runs, a failing forward pass
    of one record alone is that record's error; otherwise it concerns all records and is raised."""

    def __init__(
        self,
        source: Source,
        language: NextMoves,
        *,
        records: int,
        tokens: int,
        known_job: Callable[[], RecordJob] | None = None,
    ) -> None:
        self._source = source
        self._language = language
        self._records = max(records, source.min_records)
        self._tokens = tokens
        self._known_job = known_job

    def run(self, jobs: Iterable[RecordJob], skip: Container[str] = ()) -> Iterator[list[RecordJob]]:
        """The jobs as they are done, by length of prompt and then by id, without the record ids in `skip`. The jobs for
        further calls, which `then` makes, follow at once.

        Floating-point results depend slightly on batch composition. Groups therefore depend on nothing but `jobs`, and
        a group that is not wholly in `skip` is run whole, so a resumed run gives the same numbers."""
        waiting = deque(sorted(jobs, key=lambda job: (len(job.ids), job.record_id)))
        while waiting:
            group, batch_rows = self._next_group(waiting)
            if all(job.record_id in skip for job in group):
                continue
            for done in self._run_group(group, batch_rows):
                if new := [job for job in done if job.record_id not in skip]:
                    yield new

    def _next_group(self, waiting: deque[RecordJob]) -> tuple[deque[RecordJob], int]:
        """The next jobs of similar length, and how many batch rows they get."""
        longest = 2 * self._unshared(waiting[0]) + LENGTH_SLACK
        group = deque([waiting.popleft()])
        while waiting and self._unshared(waiting[0]) <= longest and len(group) < GROUP * self._records:
            group.append(waiting.popleft())
        return group, max(1, min(self._records, len(group), self._tokens // self._unshared(group[-1])))

    def _run_group(self, group: deque[RecordJob], batch_rows: int) -> Iterator[list[RecordJob]]:
        """The jobs of a group as they are done; batches that fail are repeated with half the rows."""
        while group:
            active: dict[int, RecordJob] = {}
            failure = yield from self._run_batch(group, batch_rows, active)
            if failure is None:
                return
            if batch_rows == 1:
                job = next(iter(active.values()), None) or group.popleft()
                self._fail_alone(job, failure)
                yield [job]
            else:
                batch_rows //= 2
                group.extendleft(job.restarted() for job in reversed(active.values()))

    def _fail_alone(self, job: RecordJob, failure: Exception) -> None:
        """Ends a job that failed alone in its batch. Raises `failure` when the source cannot run its known job
        either."""
        if _out_of_memory(failure):
            job.error, job.is_temporary = "out of memory, also alone in its batch", True
        elif self._source_works():
            job.fail(failure)
        else:
            raise failure

    def _source_works(self) -> bool:
        if self._known_job is None:
            return False
        job = self._known_job()
        group, active = deque([job]), dict[int, RecordJob]()
        done = [finished for batch in self._run_batch(group, 1, active) for finished in batch]
        return done == [job] and job.error is None

    def _run_batch(
        self, group: deque[RecordJob], batch_rows: int, active: dict[int, RecordJob]
    ) -> Generator[list[RecordJob], None, Exception | None]:
        """Empties `group`. Returns the error when memory ran out or a forward pass failed, with the interrupted jobs in
        `active`, by batch row."""
        try:
            batch = self._source.open(batch_rows, max(len(job.ids) for job in group), self._language)
            while True:
                nodes = {row: job.ask() for row, job in active.items()}
                if done := {row: active.pop(row) for row, asked in nodes.items() if not asked}:
                    for job in done.values():
                        job.find_next()
                    yield list(done.values())
                for row, job in done.items():
                    if (call := job.next_call) is not None:
                        active[row] = call
                        batch.join(row, call.ids, continues=True)
                        nodes[row] = call.ask()
                for row in range(batch_rows):
                    if group and row not in active:
                        job = active[row] = group.popleft()
                        batch.join(row, job.ids)
                        nodes[row] = job.ask()
                if not active:
                    return None
                self._evaluate(batch, active, [(row, node) for row in active for node in nodes[row]])
        except MarginaliaError:
            raise  # of the model or the server, whose errors of one record are answers
        except Exception as error:
            return error

    def _evaluate(self, batch: Batch, active: dict[int, RecordJob], nodes: Sequence[tuple[int, Node]]) -> None:
        """One round of all active jobs, in passes of at most PASS_TOKENS prefixes."""
        for job in active.values():
            job.forward_passes += 1
        for start in range(0, len(nodes), PASS_TOKENS):
            part = nodes[start : start + PASS_TOKENS]
            started = time.perf_counter()
            answers = batch.next_tokens(part)
            seconds = time.perf_counter() - started
            tokens = [self._unshared(active[row]) if node.parent is None else 1 for row, node in part]
            total = sum(tokens)
            for (row, node), answer, count in zip(part, answers, tokens, strict=True):
                active[row].seconds += seconds * count / total
                active[row].tell(node, answer)

    def _unshared(self, job: RecordJob) -> int:
        """How many tokens of its prompt are not part of the shared start; at least 1."""
        return max(len(job.ids) - self._source.shared_tokens, 1)


def _out_of_memory(error: Exception) -> bool:
    """PyTorch raises a class of its own on a GPU, and a RuntimeError with this text on a CPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
