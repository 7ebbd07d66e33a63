"""A loopback server with numbers of its own: /v1/systemone, /v1/decisions and /v1/moderations, with faults on demand.

    with NumberServer("systemone", faults={"500": 0.1}) as server: … server.url, server.requests

Routes, bodies, limits and errors follow vLLM 0.32 and 0.33 (entrypoints/generate/structured_decisions,
entrypoints/openai/decisions), SGLang (entrypoints/openai/serving_decisions.py) and OpenAI's API (2026). A number
depends only on the text and on the question or category."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from tests.logprob_server import BadRequest, LogprobServer

CATEGORIES = ("harassment", "harassment/threatening", "hate", "self-harm", "sexual", "sexual/minors", "violence")
FORMS = ("systemone", "decisions", "sglang", "moderations")
Altered = Callable[[dict[str, Any]], dict[str, Any]]


def number(text: str, asked: str) -> float:
    """The probability for one question or category."""
    return int.from_bytes(hashlib.sha256(f"{asked}|{text}".encode()).digest()[:4], "big") / 2**32


def mass(text: str, asked: str) -> float:
    return 0.98 + 0.02 * number(text, f"mass of {asked}")


class NumberServer(LogprobServer):
    """`form`: one of FORMS. `altered`: changes each answer. `refusal`: what every request gets instead of an answer.
    `longest`: characters of a text that it accepts. `others`: as of LogprobServer."""

    def __init__(
        self,
        form: str,
        *,
        altered: Altered | None = None,
        refusal: BadRequest | None = None,
        longest: int = 10_000,
        **others: Any,
    ) -> None:
        assert form in FORMS
        super().__init__(None, None, **others)
        self.form = form
        self.route = f"/v1/{'decisions' if form == 'sglang' else form}"
        self.altered, self.refusal, self.longest = altered, refusal, longest

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        if body.get("model") not in self.models:
            message = f"The model `{body.get('model')}` does not exist."
            raise BadRequest(404, message, "NotFoundError", "model")
        answer: dict[str, Any] = getattr(self, f"_{self.form}")(body)
        return answer if self.altered is None else self.altered(answer)

    def _systemone(self, body: dict[str, Any]) -> dict[str, Any]:
        text, questions = self._text(body["state"]), body["questions"]
        if body.get("chat_template_kwargs", {}).get("enable_thinking"):
            raise BadRequest(400, "thinking must be off for this model's reads")
        if not questions or len(questions) > 64:
            raise BadRequest(400, "questions: at most 64 for this model")
        answers, diagnostics = {}, {}
        for name, question in questions.items():
            if extra := sorted(question.keys() - {"type", "instructions", "criteria"}):
                raise BadRequest(400, f"question {name!r}: unknown field(s) {extra}")
            assert question["type"] == "noul"
            yes, share = number(text, question["instructions"]), mass(text, question["instructions"])
            answers[name] = {
                "type": "noul",
                "noul": yes,
                "probabilities": {"yes": yes, "no": 1 - yes},
                "confidence": max(yes, 1 - yes) * share,
            }
            diagnostics[name] = {"label_mass": share, "argmax_is_label": True}
        return {
            "id": "decision-1",
            "object": "structured_decision",
            "created": 0,
            "model": body["model"],
            "answers": answers,
            "usage": {"input_tokens": 9, "output_tokens": len(questions)},
            "diagnostics": diagnostics,
        }

    def _decisions(self, body: dict[str, Any]) -> dict[str, Any]:
        _known(body, {"model", "input", "questions", "safety_identifier", *self.strict_but})
        text = self._text(body["input"])
        if not 1 <= len(body["questions"]) <= 64:
            raise BadRequest(400, "questions: at most 64 for this model")
        answers = []
        for question in body["questions"]:
            _known(question, {"type", "name", "instructions"})
            assert question["type"] == "predicate"
            name = question.get("name")
            answers.append({"type": "predicate", "name": name, "probability": number(text, question["instructions"])})
        usage = {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": len(answers),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 9 + len(answers),
        }
        return {"model": body["model"], "answers": answers, "usage": usage}

    def _sglang(self, body: dict[str, Any]) -> dict[str, Any]:
        _known(body, {"model", "input", "questions", "temperature", "chat_template_kwargs", "prompt_format_version"})
        text = self._text(body["input"])
        answers = {}
        for question in body["questions"]:
            _known(question, {"id", "type", "question", "yes", "no"})
            if question["type"] != "yes_no" or not question["question"].strip():
                raise BadRequest(400, "question must not be blank")
            yes = number(text, question["question"])
            answers[question["id"]] = {
                "type": "yes_no",
                "probabilities": {"yes": yes, "no": 1 - yes},
                "label_mass": mass(text, question["question"]),
            }
        usage = {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0}
        head = {"object": "decisions", "model": body["model"], "prompt_format_version": 1}
        return {**head, "answers": answers, "usage": usage}

    def _moderations(self, body: dict[str, Any]) -> dict[str, Any]:
        _known(body, {"model", "input"})
        scores = {category: number(self._text(body["input"]), category) for category in CATEGORIES}
        flags = {category: score > 0.7 for category, score in scores.items()}
        result = {"flagged": any(flags.values()), "categories": flags, "category_scores": scores}
        return {"id": "modr-1", "model": f"{body['model']}-2026-01-01", "results": [result]}

    def _text(self, text: str) -> str:
        assert isinstance(text, str)
        if len(text) > self.longest:
            raise BadRequest(400, f"This model's maximum context length is {self.longest}. You requested more.")
        return text


def _known(value: dict[str, Any], keys: set[str]) -> None:
    if extra := sorted(value.keys() - keys):
        raise BadRequest(400, f"{extra[0]}: Extra inputs are not permitted")
