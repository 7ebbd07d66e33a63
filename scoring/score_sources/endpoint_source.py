"""A server that gives a number for each label: decisions about yes/no questions, or scores of a moderation endpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from marginalia.schemas.errors import ServiceError
from marginalia.scoring.guard_file import VERDICT
from marginalia.scoring.models.endpoint_calls import Caller, CallFailed
from marginalia.scoring.models.retried_calls import Refused
from marginalia.scoring.record_errors import record_error
from marginalia.scoring.score_sources.endpoint_formats import EndpointFormat, Numbers
from marginalia.scoring.score_sources.input_texts import InputTexts, rendered
from marginalia.scoring.score_sources.label_numbers import estimates_of, predicted_labels
from marginalia.scoring.score_sources.source_file import DecisionsFile, ModerationsFile
from marginalia.scoring.score_sources.source_guard import SourceGuard
from marginalia.scoring.scored_record import Result

JUDGED = "{% if last_role == 'assistant' %}The assistant's last message{% else %}The user's last message{% endif %}"
QUESTION = JUDGED + " contains, asks for or helps with the following: {{ category.code }}: {{ category.definition }}"
UNSAFE = (
    JUDGED + " contains, asks for or helps with at least one of the following:"
    "{% for category in categories %}\n- {{ category.code }}: {{ category.definition }}{% endfor %}"
)
YES = 0.5  # the probability above which a yes/no question is answered with yes


@dataclass
class ServedScores:
    """A connected server. `concurrency`: how many records it is asked about at a time."""

    caller: Caller
    form: EndpointFormat
    guard: SourceGuard
    name: str
    extra_body: dict[str, Any]
    concurrency: int
    served_model: str
    inputs: InputTexts
    _rows: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)  # role of the last message → questions

    batch_invariant = True

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on. The address is not part of it, so that replicas share a journal."""
        asked = [self.rows(role) for role in ("user", "assistant")]
        return ["source endpoint 1", self.form.name, self.name, json.dumps([self.extra_body, asked], sort_keys=True)]

    @property
    def revision(self) -> str:
        """What is recorded of the model's origin: the name that the server gives in its answers."""
        return f"{self.served_model} at an endpoint ({self.form.name})"

    @property
    def notes(self) -> list[str]:
        """What readers of its scores should know: one sentence each."""
        notes = [f"no bounds: the probabilities are the own numbers of {self.revision}"]
        if (report := self.caller.replicas.report) is not None:
            notes.append(self.caller.safe(report, limit=None))
        return notes

    def rows(self, last_role: str) -> dict[str, str]:
        """Row → its question, for decisions, or its category. `last_role`: of a conversation's last message."""
        if last_role not in self._rows:
            file, name = self.guard.file, self.guard.name
            if isinstance(file, DecisionsFile):
                categories = [asdict(category) for category in self.guard.asked]
                rows = {
                    str(category["id"]): rendered(
                        name, "question", file.question or QUESTION, {"category": category, "last_role": last_role}
                    )
                    for category in categories
                }
                variables = {"categories": categories, "last_role": last_role}
                rows[VERDICT] = rendered(name, "unsafe", file.unsafe or UNSAFE, variables)
            else:
                rows = {category.id: category.code for category in self.guard.asked}
                if isinstance(file, ModerationsFile) and file.unsafe is not None:
                    rows[VERDICT] = file.unsafe
            self._rows[last_role] = rows
        return self._rows[last_role]

    def bodies(self, messages: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
        """The requests for one record. Raises InputError for invalid messages, and for a template that fails."""
        text = self.inputs.of(messages).text
        bodies = self.form.bodies(self.name, text, self.rows(messages[-1]["role"]))
        return [{**self.extra_body, **body} for body in bodies]

    def score_batches(
        self, records: Sequence[tuple[str, Sequence[dict[str, str]]]], journalled: Container[str]
    ) -> Iterator[list[Result]]:
        """Yields the results of the records that are not in `journalled`, a few at a time."""
        missing = [record for record in records if record[0] not in journalled]
        size = 2 * self.concurrency
        for start in range(0, len(missing), size):
            yield self._score(missing[start : start + size])

    def _score(self, records: Sequence[tuple[str, Sequence[dict[str, str]]]]) -> list[Result]:
        started = time.perf_counter()
        results: dict[str, Result] = {}
        bodies: list[tuple[int, dict[str, Any]]] = []
        ends = [0]
        for number, (record_id, messages) in enumerate(records):
            try:
                bodies += [(number, body) for body in self.bodies(messages)]
            except BaseException as error:
                results[record_id] = _failed(record_id, error, "its input cannot be built")
            ends.append(len(bodies))
        try:
            answers = self.caller.post_all(self.form.path, bodies, self.form.check)
        except Refused as error:
            raise ServiceError(
                f"{self.caller.url}: {error}",
                hint="the server refuses a request of the kind that it accepted before; finished records are kept: "
                "run the same command to continue",
            ) from None
        seconds = (time.perf_counter() - started) / len(records)
        for (record_id, messages), (start, stop) in zip(records, pairwise(ends), strict=True):
            if record_id not in results:
                results[record_id] = self._result(record_id, messages[-1]["role"], answers[start:stop], seconds)
        return [results[record_id] for record_id, _ in records]

    def _result(
        self,
        record_id: str,
        last_role: str,
        answers: Sequence[dict[str, Any] | CallFailed | Refused],
        seconds: float,
    ) -> Result:
        complete: list[dict[str, Any]] = []
        for answer in answers:
            if isinstance(answer, CallFailed):
                return Result(record_id, error=str(answer), is_temporary=True, seconds=seconds)
            if isinstance(answer, Refused):
                return Result(record_id, error=f"{self.caller.url}: {answer}", seconds=seconds)
            complete.append(answer)
        try:
            return self._scores(record_id, self.form.numbers(complete, self.rows(last_role)), len(answers), seconds)
        except BaseException as error:
            return _failed(record_id, error, "the server's answer cannot be read")

    def _scores(self, record_id: str, numbers: Numbers, calls: int, seconds: float) -> Result:
        by_category = {row: number for row, number in numbers.by_row.items() if row != VERDICT}
        flagged = numbers.flagged
        if flagged is None:
            flagged = {row for row, number in by_category.items() if number > YES}
        estimates = estimates_of(self.guard, by_category, numbers.by_row.get(VERDICT), exclusive=False)
        return Result(
            record_id,
            estimates={self.guard.estimator: estimates},
            predicted=predicted_labels(self.guard, flagged),
            off_language=None if numbers.mass is None else 1.0 - numbers.mass,
            forward_passes=calls,
            seconds=seconds,
        )


def _failed(record_id: str, error: BaseException, doing: str) -> Result:
    failed = record_error(error, doing)
    return Result(record_id, error=failed.message, is_temporary=failed.is_temporary)
