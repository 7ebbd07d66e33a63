"""The requests to the LLM that writes: one per attempt at a slot, with the key of its answer in the journal."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.pipeline.generation.answer_parsing import TEXT_KEY
from marginalia.pipeline.generation.languages import language_name
from marginalia.pipeline.generation.writer_templates import Templates
from marginalia.schemas.storage.files import content_hash
from marginalia.schemas.taxonomy import Taxonomy

Example = dict[str, str]

_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "text",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {TEXT_KEY: {"type": "string"}},
            "required": [TEXT_KEY],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True)
class WriterRequest:
    """One request. `payload` is the body that is sent; `shown` are examples and definitions that it may contain.

    `key` is the hash of slot, attempt and request without the texts of earlier rounds that the prompt shows. These only
    serve diversity, so an answer that is paid for stays usable when a changed filter has changed them."""

    slot_id: str
    attempt: int
    key: str
    payload: dict[str, Any] = field(repr=False)
    shown: list[str] = field(repr=False)

    @property
    def prompt(self) -> list[str]:
        """The texts of its messages."""
        return [message["content"] for message in self.payload["messages"]]


class RequestBuilder:
    """Makes requests from slots (rows of plan.parquet)."""

    def __init__(self, section: GenerateSection, taxonomy: Taxonomy, templates: Templates, seed: int) -> None:
        self._section = section
        self._taxonomy = taxonomy
        self._templates = templates
        self._seed = seed
        # the variables that all prompts share are made once: a plan may have a hundred thousand prompts
        self._labels = {label.id: label for label in taxonomy.labels}
        self._dumped = {label.id: label.model_dump() for label in taxonomy.labels}
        self._writable = taxonomy.writable
        self._shared = {
            "taxonomy": {
                "title": taxonomy.title,
                "subject": taxonomy.subject,
                "language": language_name(taxonomy.language),
                "content_notice": taxonomy.content_notice,
            },
            "no_label": {"name": taxonomy.none.name, "definition": taxonomy.none.definition},
            "structured": section.structured_output,
        }

    def question(self, slot: dict[str, Any], attempt: int, written: list[str]) -> WriterRequest:
        """The request for an attempt (from 1) at a slot. `written`: earlier texts for the same labels, to be shown."""
        examples = self._examples(slot, attempt)
        variables = self._variables(slot, attempt, examples)
        payload = self._payload(slot, attempt, variables)
        key = content_hash({"slot": slot["slot_id"], "attempt": attempt, "request": payload})
        if written and self._templates.mention("written"):
            payload = {**payload, "messages": self._templates.messages({**variables, "written": written})}
        return WriterRequest(slot["slot_id"], attempt, key, payload, self._shown(slot, examples))

    def _examples(self, slot: dict[str, Any], attempt: int) -> list[Example]:
        """generate.few_shot examples of each label as {label, name, text}, drawn anew for each attempt.

        For a slot without labels: examples of the label that it should resemble, or of some labels, which show what the
        text must not be."""
        draw = random.Random(f"{self._seed}:{slot['slot_id']}:{attempt}:examples")
        near, writable, few = slot.get("near_miss_of"), self._writable, self._section.few_shot
        labels = slot["labels"] or ([near] if near else draw.sample(writable, min(few, len(writable))))
        chosen: list[Example] = []
        for label in map(self._labels.__getitem__, labels):
            texts = draw.sample(label.examples, min(few if slot["labels"] or near else 1, len(label.examples)))
            chosen += [{"label": label.id, "name": label.name, "text": text} for text in texts]
        return chosen

    def _shown(self, slot: dict[str, Any], examples: list[Example]) -> list[str]:
        definitions = [self._labels[label].definition for label in slot["labels"]]
        return [*(example["text"] for example in examples), *definitions, self._taxonomy.none.definition]

    def _payload(self, slot: dict[str, Any], attempt: int, variables: dict[str, Any]) -> dict[str, Any]:
        section = self._section
        payload: dict[str, Any] = {
            "model": section.endpoint.model,
            "messages": self._templates.messages(variables),
            section.token_limit_key: section.max_tokens,
        }
        if section.temperature is not None:
            payload |= {"temperature": section.temperature, "top_p": section.top_p}
        if section.send_seed:
            payload["seed"] = self._request_seed(slot["slot_id"], attempt)
        if section.structured_output:
            payload["response_format"] = _SCHEMA
        return {**payload, **section.endpoint.extra_body}

    def _request_seed(self, slot_id: str, attempt: int) -> int:
        digest = hashlib.sha256(f"{self._seed}:{slot_id}:{attempt}".encode()).digest()
        return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF

    def _variables(self, slot: dict[str, Any], attempt: int, examples: list[Example]) -> dict[str, Any]:
        """The variables of a template. Labels withheld from generation are not in them, not even by name."""
        near = slot.get("near_miss_of")
        return {
            **self._shared,
            "labels": [self._dumped[label] for label in slot["labels"]],
            "near_miss_of": self._dumped[near] if near else None,
            "others": [self._labels[label].name for label in self._writable if label not in slot["labels"]],
            "attributes": {name: value for name, value in slot.items() if name not in ("slot_id", "labels") and value},
            "language": language_name(slot.get("language") or self._taxonomy.language),
            "examples": examples,
            "written": [],
            "attempt": attempt,
        }
