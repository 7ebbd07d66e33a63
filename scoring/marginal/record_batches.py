"""Records through a model: so many at a time, each leaving its place to the next as soon as it is done.

All records that are under way share each forward pass, whether they are at their prompt or at their last prefix, so
no pass runs for a few stragglers alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from marginalia.schemas.errors import ModelError
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import NextTokens, Node, Search
from marginalia.scoring.marginal.baselines import Baseline
from marginalia.scoring.marginal.model_protocol import Batch, Source

PASS_TOKENS = 1024  # answer prefixes in one forward pass: bounds the logits in memory
STRETCH = 4  # times as many records as are under way at a time go without a pause for stragglers
EVEN = 64  # prompts under way whose own tokens differ by no more than this, or by a factor of two, are of one length


@dataclass
class RecordJob:
    """One record on its way. `search` comes first, then the baselines, each made by its function when its turn comes.

    `seconds`: its share of the passes that it took part in, by tokens."""

    record_id: str
    ids: list[int]
    imitations: int
    make_search: Callable[[], Search]
    make_baselines: Mapping[str, Callable[[Search], Baseline]]
    search: Search = field(init=False)
    baselines: dict[str, Baseline] = field(default_factory=dict)
    forward_passes: int = 0
    seconds: float = 0.0
    error: str | None = None
    passing: bool = False  # the error is of this moment, not of the record

    def __post_init__(self) -> None:
        self.search = self.make_search()
        self._asking: Search | Baseline = self.search

    def again(self) -> RecordJob:
        """The same record at its beginning."""
        return RecordJob(self.record_id, self.ids, self.imitations, self.make_search, self.make_baselines)

    def wanted(self) -> list[Node]:
        """The prefixes to evaluate next; empty when the record is done."""
        while self.error is None:
            if nodes := self._asking.wanted():
                return nodes
            name = next((name for name in self.make_baselines if name not in self.baselines), None)
            if name is None:
                break
            self.baselines[name] = self._asking = self.make_baselines[name](self.search)
        return []

    def tell(self, node: Node, answer: NextTokens | ModelError) -> None:
        """What the model says of a prefix; an error is the end of this record alone."""
        if self.error is None:
            try:
                if isinstance(answer, ModelError):
                    raise answer
                self._asking.tell(node, answer)
            except ModelError as error:
                self.error, self.passing = str(error), error.passing


class RecordBatches:
    """Takes jobs through a source. At most `records` at a time, and in prompts at most `tokens` that are not shared."""

    def __init__(self, source: Source, language: TokenLanguage, *, records: int, tokens: int) -> None:
        self._source = source
        self._language = language
        self._records = max(records, source.together)
        self._tokens = tokens

    def run(self, jobs: Iterable[RecordJob], held: Container[str] = ()) -> Iterator[list[RecordJob]]:
        """The jobs as they get done, by length of prompt and then by id, those `held` left out.

        In the last digits numbers depend on the company in a pass. So jobs go in stretches that depend on nothing but
        `jobs`, and one that is not wholly held is run whole: an interrupted run ends as any other."""
        waiting = deque(sorted(jobs, key=lambda job: (len(job.ids), job.record_id)))
        while waiting:
            stretch, places = self._stretch(waiting)
            if all(job.record_id in held for job in stretch):
                continue
            for done in self._scored(stretch, places):
                if new := [job for job in done if job.record_id not in held]:
                    yield new

    def _scored(self, stretch: deque[RecordJob], places: int) -> Iterator[list[RecordJob]]:
        while stretch:
            under_way: dict[int, RecordJob] = {}
            if not (yield from self._through(stretch, places, under_way)):
                if places == 1:
                    (job,) = under_way.values()
                    job.error, job.passing = "out of memory, also alone in its batch", True
                    yield [job]
                else:
                    places //= 2
                    stretch.extendleft(job.again() for job in reversed(under_way.values()))

    def _stretch(self, waiting: deque[RecordJob]) -> tuple[deque[RecordJob], int]:
        """The next jobs of about one length, and how many of them may be under way at a time."""
        longest = 2 * self._own(waiting[0]) + EVEN
        stretch = deque([waiting.popleft()])
        while waiting and self._own(waiting[0]) <= longest and len(stretch) < STRETCH * self._records:
            stretch.append(waiting.popleft())
        return stretch, max(1, min(self._records, len(stretch), self._tokens // self._own(stretch[-1])))

    def _own(self, job: RecordJob) -> int:
        return max(len(job.ids) - self._source.shared, 1)

    def _through(
        self, stretch: deque[RecordJob], places: int, under_way: dict[int, RecordJob]
    ) -> Generator[list[RecordJob], None, bool]:
        """Empties `stretch`; returns False when memory was not enough, with what was lost in `under_way`."""
        try:
            batch = self._source.open(places, max(len(job.ids) for job in stretch), self._language)
            while True:
                wanted = {place: job.wanted() for place, job in under_way.items()}
                if done := [under_way.pop(place) for place, nodes in wanted.items() if not nodes]:
                    yield done
                for place in range(places):
                    if stretch and place not in under_way:
                        job = under_way[place] = stretch.popleft()
                        batch.join(place, job.ids)
                        wanted[place] = job.wanted()
                if not under_way:
                    return True
                self._evaluate(batch, under_way, [(place, node) for place in under_way for node in wanted[place]])
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            return False

    def _evaluate(self, batch: Batch, under_way: dict[int, RecordJob], wanted: Sequence[tuple[int, Node]]) -> None:
        for job in under_way.values():
            job.forward_passes += 1
        for start in range(0, len(wanted), PASS_TOKENS):
            part = wanted[start : start + PASS_TOKENS]
            started = time.perf_counter()
            answers = batch.next_tokens(part)
            seconds = time.perf_counter() - started
            tokens = [self._own(under_way[place]) if node.parent is None else 1 for place, node in part]
            total = sum(tokens)
            for (place, node), answer, count in zip(part, answers, tokens, strict=True):
                under_way[place].seconds += seconds * count / total
                under_way[place].tell(node, answer)


def _out_of_memory(error: Exception) -> bool:
    """PyTorch says it by a class on a GPU and by words on a CPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
