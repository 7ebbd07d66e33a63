"""What a guard file says about a prompt: the key `prompt`, and that of a second call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from marginalia.schemas.base_model import StrictModel, located_error
from marginalia.schemas.errors import did_you_mean

EXPLAIN = "scoring/guards/README.md explains the keys"
CONVERSATION: Literal["conversation"] = "conversation"  # in `messages`: the record's own messages
VARIABLES = ("categories", "conversation", "last_role")  # of every template but the frame
# what chat templates are given in any case. An argument may be called `categories`, which Llama Guard's template takes:
# in the templates of the guard file this remains the guard's own variable
RESERVED = ("messages", "strftime_now", "raise_exception")
ANSWER_START = "add_generation_prompt"  # an argument that every template is given; true unless the file says otherwise


class PromptMessage(StrictModel):
    """A message that the guard file gives to the tokenizer's chat template."""

    role: str = Field(pattern=r"^[a-z][a-z_]*$", description="system, user, assistant or another one of the template's")
    content: str = Field(description="Jinja, with the variables of `message`")


class PromptSpec(StrictModel):
    """The templates of a guard's prompt. Keys that are not used are left out when it is written: scores of guard files
    without them keep their fingerprints."""

    message: str | None = Field(
        default=None,
        description="Jinja: the guard's whole instruction, as one user message. Variables: categories (code, id, name, "
        "definition, includes, excludes, examples; with calls: per_label only the one that is asked for), "
        "conversation (role, content), last_role, and the names in `arguments`",
    )
    frame: str | None = Field(
        default=None,
        description="Jinja: the text around {{ message }}, including control tokens and the start of the answer; "
        "without it, the tokenizer's chat template is used",
    )
    messages: list[PromptMessage | Literal["conversation"]] | None = Field(
        default=None,
        min_length=1,
        exclude_if=lambda messages: messages is None,
        description="instead of `message`: the messages for the tokenizer's chat template, each {role: …, content: …}; "
        "the word conversation stands for the record's own messages",
    )
    arguments: dict[str, JsonValue] = Field(
        default={},
        exclude_if=lambda arguments: not arguments,
        description="further variables for the tokenizer's chat template, such as {enable_thinking: false}; texts in "
        "them are Jinja, with the variables of `message`",
    )
    prefill: str = Field(
        default="",
        exclude_if=lambda prefill: not prefill,
        description="Jinja: the start of the answer, with control tokens, after everything else in the prompt",
    )
    strip: bool = Field(default=False, description="strip white space around every record's texts")

    @field_validator("messages", mode="before")
    @classmethod
    def _known_messages(cls, messages: Any) -> Any:
        """Refuses other forms with one message each; pydantic would report an error for each form that is possible."""
        for index, message in enumerate(messages if isinstance(messages, list) else []):
            if isinstance(message, dict):
                _check_keys(message, index)
                continue
            if message != CONVERSATION:
                near = did_you_mean(str(message), [CONVERSATION]) or "; expected {role: …, content: …} or conversation"
                raise located_error(f"a message is {str(message)[:80]!r}{near}", index, hint=EXPLAIN)
            if messages.index(CONVERSATION) < index:
                raise located_error("'conversation' is there twice", index, hint="give the conversation once")
        return messages

    @field_validator("arguments", mode="after")
    @classmethod
    def _names(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in arguments:
            if not name.isidentifier() or name.startswith("_"):
                raise located_error(f"the argument {name!r} is not a name", name, hint=EXPLAIN)
            if name in RESERVED:
                raise located_error(f"an argument cannot be called '{name}': it has another meaning", name)
        if not isinstance(arguments.get(ANSWER_START, True), bool):
            raise located_error(f"'{ANSWER_START}' is true or false", ANSWER_START, hint=EXPLAIN)
        return arguments

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.message is None) == (self.messages is None):
            raise located_error("give either 'message' or 'messages'", hint=EXPLAIN)
        if self.frame is not None and self.messages is not None:
            problem = "'frame' goes with 'message'; 'messages' are for the tokenizer's chat template"
            raise located_error(problem, "frame", hint=EXPLAIN)
        return self

    def templates(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Every Jinja template except the frame, with its keys below `prompt`."""
        if self.message is not None:
            yield ("message",), self.message
        for index, message in enumerate(self.messages or []):
            if isinstance(message, PromptMessage):
                yield ("messages", index, "content"), message.content
        yield from _texts_in(self.arguments, ("arguments",))
        if self.prefill:
            yield ("prefill",), self.prefill


def _check_keys(message: dict[Any, Any], index: int) -> None:
    keys = PromptMessage.model_fields
    for key in message:
        if key not in keys:
            near = did_you_mean(str(key), keys) or f"; expected {' and '.join(keys)}"
            raise located_error(f"a message has the unknown key '{key}'{near}", index, str(key), hint=EXPLAIN)
    for key in keys:
        if not isinstance(message.get(key), str):
            raise located_error(f"a message needs the key '{key}', with text", index, hint=EXPLAIN)


def _texts_in(value: JsonValue, at: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts_in(item, (*at, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts_in(item, (*at, index))
