"""The requests to endpoints with numbers of their own, and how their answers are read.

`/v1/systemone`: vLLM 0.32 (docs: serving/online_serving/structured_decisions), TypeSafe. `/v1/decisions`: OpenAI and
vLLM 0.33; SGLang has the same route with another format (docs: supported-models/decision_models). `/v1/moderations`:
OpenAI's format, `results[].category_scores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from marginalia.schemas.errors import ModelError, did_you_mean
from marginalia.scoring.models.endpoint_calls import Malformed
from marginalia.scoring.score_sources.label_numbers import probability

QUESTIONS = 64  # most questions of one request: the limit of vLLM's endpoints


@dataclass(frozen=True)
class Numbers:
    """The server's numbers for one record. `by_row`: of the categories and the verdict that were asked about;
    `mass`: the least probability that all options of a question have together, None where the server does not say;
    `flagged`: the categories that the server itself flags, None where it does not say."""

    by_row: dict[str, float]
    mass: float | None = None
    flagged: set[str] | None = None


class EndpointFormat(Protocol):
    """One form of requests."""

    @property
    def name(self) -> str:
        """For messages, and part of the identity of scores."""
        ...

    @property
    def path(self) -> str:
        """The route below the endpoint's address."""
        ...

    def bodies(self, model: str, text: str, rows: Mapping[str, str]) -> list[dict[str, Any]]:
        """The requests about `text`. `rows`: row → its question, or its category."""
        ...

    def check(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer, if it has the form of this format. Raises Malformed, after which the call is made again."""
        ...

    def numbers(self, answers: Sequence[dict[str, Any]], rows: Mapping[str, str]) -> Numbers:
        """The numbers in the answers to `bodies`. Raises ModelError for a missing number or none between 0 and 1."""
        ...


def _parts(rows: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of each request."""
    items = list(rows.items())
    return [dict(items[start : start + QUESTIONS]) for start in range(0, len(items), QUESTIONS)]


def _of_row(answers: Mapping[str, Any], row: str) -> Any:
    if row not in answers:
        raise ModelError(f"the server's answer has no '{row}'")
    return answers[row]


class SystemOne:
    """`/v1/systemone`: yes/no questions by id, with the probability of *yes* among the two."""

    name = "systemone"
    path = "systemone"

    def bodies(self, model: str, text: str, rows: Mapping[str, str]) -> list[dict[str, Any]]:
        """As in EndpointFormat."""
        return [
            {
                "model": model,
                "state": text,
                "questions": {row: {"type": "noul", "instructions": question} for row, question in part.items()},
            }
            for part in _parts(rows)
        ]

    def check(self, answer: dict[str, Any]) -> dict[str, Any]:
        """As in EndpointFormat."""
        return _with_dict(answer, "answers")

    def numbers(self, answers: Sequence[dict[str, Any]], rows: Mapping[str, str]) -> Numbers:
        """As in EndpointFormat. `mass` is the smallest label_mass."""
        found, masses = {}, []
        for part, answer in zip(_parts(rows), answers, strict=True):
            diagnostics = answer.get("diagnostics")
            for row in part:
                one = _of_row(answer["answers"], row)
                found[row] = probability(one.get("noul") if isinstance(one, dict) else one, f"'{row}'")
                masses.append(_mass(diagnostics.get(row) if isinstance(diagnostics, dict) else None))
        return Numbers(found, _smallest(masses))


class OpenAIDecisions:
    """`/v1/decisions` of OpenAI and vLLM: predicates in a list, whose answers come in the same order."""

    name = "decisions"
    path = "decisions"

    def bodies(self, model: str, text: str, rows: Mapping[str, str]) -> list[dict[str, Any]]:
        """As in EndpointFormat."""
        return [
            {
                "model": model,
                "input": text,
                "questions": [
                    {"type": "predicate", "name": row, "instructions": question} for row, question in part.items()
                ],
            }
            for part in _parts(rows)
        ]

    def check(self, answer: dict[str, Any]) -> dict[str, Any]:
        """As in EndpointFormat."""
        answers = answer.get("answers")
        if not isinstance(answers, list) or not all(isinstance(one, dict) for one in answers):
            raise Malformed("no list 'answers' in the answer")
        return answer

    def numbers(self, answers: Sequence[dict[str, Any]], rows: Mapping[str, str]) -> Numbers:
        """As in EndpointFormat. Raises ModelError also for a question that the model declined to answer."""
        found = {}
        for part, answer in zip(_parts(rows), answers, strict=True):
            if len(answer["answers"]) != len(part):
                raise ModelError(f"the server gave {len(answer['answers'])} answers to {len(part)} questions")
            for row, one in zip(part, answer["answers"], strict=True):
                if one.get("name") not in (None, row):
                    raise ModelError(f"the server answered '{one['name']}' in the place of '{row}'")
                if one.get("type") == "refusal":
                    raise ModelError(f"the model declined to answer the question '{row}'")
                found[row] = probability(one.get("probability"), f"'{row}'")
        return Numbers(found)


class SGLangDecisions:
    """`/v1/decisions` of SGLang: questions with ids, answers by id with the probabilities of *yes* and *no*."""

    name = "decisions of SGLang"
    path = "decisions"

    def bodies(self, model: str, text: str, rows: Mapping[str, str]) -> list[dict[str, Any]]:
        """As in EndpointFormat."""
        return [
            {
                "model": model,
                "input": text,
                "questions": [{"id": row, "type": "yes_no", "question": question} for row, question in part.items()],
            }
            for part in _parts(rows)
        ]

    def check(self, answer: dict[str, Any]) -> dict[str, Any]:
        """As in EndpointFormat."""
        return _with_dict(answer, "answers")

    def numbers(self, answers: Sequence[dict[str, Any]], rows: Mapping[str, str]) -> Numbers:
        """As in EndpointFormat. `mass` is the smallest label_mass."""
        found, masses = {}, []
        for part, answer in zip(_parts(rows), answers, strict=True):
            for row in part:
                one = _of_row(answer["answers"], row)
                options = one.get("probabilities") if isinstance(one, dict) else None
                found[row] = probability(options.get("yes") if isinstance(options, dict) else None, f"'{row}'")
                masses.append(_mass(one))
        return Numbers(found, _smallest(masses))


class Moderations:
    """`/v1/moderations`: a score for each category of the server's own."""

    name = "moderations"
    path = "moderations"

    def bodies(self, model: str, text: str, rows: Mapping[str, str]) -> list[dict[str, Any]]:
        """As in EndpointFormat."""
        return [{"model": model, "input": text}]

    def check(self, answer: dict[str, Any]) -> dict[str, Any]:
        """As in EndpointFormat."""
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], dict):
            raise Malformed("not one result in the answer")
        _with_dict(results[0], "category_scores")
        return answer

    def numbers(self, answers: Sequence[dict[str, Any]], rows: Mapping[str, str]) -> Numbers:
        """As in EndpointFormat. `flagged`: from `categories`."""
        result = answers[0]["results"][0]
        scores, flags = result["category_scores"], result.get("categories")
        for category in rows.values():
            if category not in scores:
                near = did_you_mean(category, scores) or f"; it has: {', '.join(map(str, scores))}"
                raise ModelError(f"the server's answer has no category '{category}'{near}")
        found = {row: probability(scores[category], f"'{category}'") for row, category in rows.items()}
        flagged = None
        if isinstance(flags, dict):
            flagged = {row for row, category in rows.items() if flags.get(category) is True}
        return Numbers(found, flagged=flagged)


def _with_dict(answer: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(answer.get(key), dict):
        raise Malformed(f"no '{key}' in the answer")
    return answer


def _mass(of_question: object) -> float | None:
    value = of_question.get("label_mass") if isinstance(of_question, dict) else None
    return None if value is None else probability(value, "label_mass")


def _smallest(masses: Sequence[float | None]) -> float | None:
    """The smallest one, None where one is not known."""
    known = [mass for mass in masses if mass is not None]
    return min(known) if known and len(known) == len(masses) else None
