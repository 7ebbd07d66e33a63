"""Renders a guard's templates and the tokenizer's chat template for one form of conversation, with marks in the place
of the record's texts: scoring/prompt.py inserts these afterwards, so that they are never read as a template.

A chat template may remove white space or line breaks around a text, or write it as JSON. What it does with the texts
of `prompt.messages` is seen from the marks themselves: they are surrounded by white space and contain characters that
such changes alter. The same is then done to each record's texts. Other changes are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import JsonValue

from marginalia.schemas.errors import InputError, MarginaliaError, ModelError
from marginalia.scoring.guard import Guard
from marginalia.scoring.prompt_spec import ANSWER_START, CONVERSATION, PromptMessage
from marginalia.scoring.prompt_templates import names_in_chat_template
from marginalia.scoring.rendering import RENDERER, RenderingError

# private-use characters, in the place of message n's text; the letters say what to do with it: l, r: remove white space
# on the left, on the right; L, R: only line breaks; j: write it as in a JSON string
MARK = re.compile("\ue000(\\d+)([lrLRj]*)\ue001")
_TEXT = "Hello."  # of a message, to compare prompts
_WITH_POLICY = 400  # characters from which on a chat template is taken to contain a policy
_SPACE = "\u2003"  # white space that no template writes itself
_PROBE = 'aB "<&\\\n'  # characters that filters such as upper, escape and tojson change
_DATED = "the tokenizer's chat template writes the current date into the prompt, so scores can change from day to day"
_PROBED = re.compile(f"({_SPACE}?)\ue000(\\d+):([^\ue000\ue001]*)\ue001({_SPACE}?)")


class PromptRenderer:
    """The templates of one guard for one tokenizer. `notes`: where the two do not fit together."""

    def __init__(self, guard: Guard, tokenizer: Any) -> None:
        self._guard = guard
        self._prompt = guard.file.prompt
        self._tokenizer = tokenizer
        self._has_chat_template = bool(getattr(tokenizer, "chat_template", None))
        self.notes: list[str] = []
        self._frame = self._prompt.frame if self._frame_fits() else None
        if missing := self._missing_tokens(self._prompt.prefill):
            problem = f"the tokenizer has no {missing[0]}, which prompt.prefill of {guard.name} contains"
            self.notes.append(f"{problem}: it is given as plain text")
        if self._frame is None:
            self._check_chat_template()

    def render(self, roles: Sequence[str]) -> str:
        """The prompt of a conversation with these roles, with marks (MARK) in the place of its texts.

        Raises InputError for a template of the guard that fails, ModelError for the tokenizer's chat template."""
        if self._prompt.messages is None:
            return self._with_texts(roles, [f"\ue000{index}\ue001" for index in range(len(roles))])
        marks = [f"{_SPACE}\ue000{index}:{_PROBE}\ue001{_SPACE}" for index in range(len(roles))]
        between_lines = [f"\n{mark}\n" for mark in marks]
        return self._with_plain_marks(self._with_texts(roles, marks), self._with_texts(roles, between_lines))

    def _with_texts(self, roles: Sequence[str], texts: Sequence[str]) -> str:
        conversation = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        categories = [asdict(category) for category in self._guard.categories]
        variables: dict[str, Any] = {"categories": categories, "conversation": conversation, "last_role": roles[-1]}
        if self._guard.verdict is not None:
            variables["verdict"] = self._guard.verdict
        arguments = {name: self._argument(value, variables) for name, value in self._prompt.arguments.items()}
        variables = {**arguments, **variables}
        prompt = self._without_prefill(variables, arguments)
        return prompt + self._own(self._prompt.prefill, variables)

    def own_and_tokenizers(self) -> tuple[str, str] | None:
        """(the guard file's prompt, that of the tokenizer's chat template) for one message of a user, as text.

        None unless the file writes a prompt out that a chat template may also write: with `frame`, for a tokenizer
        whose chat template contains a policy of its own. That is seen from how much text it puts around a message."""
        if self._frame is None or not self._has_chat_template or self._guard.verdict is not None:
            return None
        try:
            theirs = self._chat_in_either_form([{"role": "user", "content": _TEXT}], {}, _TEXT)
        except ModelError:
            return None
        if len(theirs) < _WITH_POLICY:
            return None
        return MARK.sub(_TEXT, self.render(["user"])), theirs

    def _without_prefill(self, variables: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
        if self._prompt.message is not None:
            message = self._own(self._prompt.message, variables)
            if self._frame is not None:
                return self._own(self._frame, {**arguments, "message": message})
            if not self._has_chat_template:
                return (self._tokenizer.bos_token or "") + message + "\n"
            return self._chat([{"role": "user", "content": message}], arguments)
        messages: list[dict[str, Any]] = []
        for message_spec in self._prompt.messages or []:
            if isinstance(message_spec, PromptMessage):
                messages.append({"role": message_spec.role, "content": self._own(message_spec.content, variables)})
            else:
                messages += variables[CONVERSATION]
        return self._chat_in_either_form(messages, arguments, f"\ue000{len(variables[CONVERSATION]) - 1}:")

    def _own(self, template: str, variables: Mapping[str, Any]) -> str:
        """A rendered template of the guard file."""
        try:
            return RENDERER.render(template, variables) if template else ""
        except RenderingError as error:
            raise InputError(f"guard {self._guard.name}: its prompt template fails: {error}") from error

    def _argument(self, value: JsonValue, variables: Mapping[str, Any]) -> JsonValue:
        if isinstance(value, str):
            return self._own(value, variables)
        if isinstance(value, dict):
            return {name: self._argument(item, variables) for name, item in value.items()}
        if isinstance(value, list):
            return [self._argument(item, variables) for item in value]
        return value

    def _chat_in_either_form(self, messages: list[dict[str, Any]], arguments: Mapping[str, Any], last: str) -> str:
        """The rendered chat template. Templates of models that also see images may expect every content as a list of
        parts: this form is used when the other one fails or leaves out the `last` mark."""
        failure: MarginaliaError | None = None
        rendered: list[str] = []
        in_parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]
        for form in (messages, in_parts):
            try:
                rendered.append(self._chat(form, arguments))
            except ModelError as error:
                failure = failure or error
                continue
            if last in rendered[-1]:
                return rendered[-1]
        if rendered:
            return rendered[0]
        assert failure is not None
        raise failure

    def _chat(self, messages: list[dict[str, Any]], arguments: Mapping[str, Any]) -> str:
        """The rendered chat template of the tokenizer, with the variables that transformers gives to it."""
        special_tokens = self._tokenizer.special_tokens_map
        token_texts = {name: token if isinstance(token, list) else str(token) for name, token in special_tokens.items()}
        given = {"tools": None, "documents": None, ANSWER_START: True, **token_texts, **arguments}
        try:
            template = self._tokenizer.get_chat_template()
            text, dated = RENDERER.render_chat(template, {**given, "messages": messages})
        except (RenderingError, ValueError) as error:  # ValueError: several templates, none of them the default
            problem, hint = f"the tokenizer's chat template fails: {error}", None
            if self._prompt.messages is not None:
                roles = ", ".join(message["role"] for message in messages)
                problem = f"the tokenizer's chat template fails for messages of the roles {roles}: {error}"
                hint = "prompt.messages of the guard file says which messages come before and after the conversation"
            raise ModelError(problem, hint=hint) from error
        if dated and self._prompt.messages is not None and _DATED not in self.notes:
            self.notes.append(_DATED)
        return text

    def _with_plain_marks(self, text: str, between_lines: str) -> str:
        """The text with what happened to each mark as letters in it, see MARK. `between_lines`: the prompt of texts
        that begin and end with a line break."""
        further = list(_PROBED.finditer(between_lines))
        parts, end = list[str](), 0
        for number, mark in enumerate(_PROBED.finditer(text)):
            left, index, probe, right = mark.groups()
            as_json = probe == json.dumps(_PROBE, ensure_ascii=False)[1:-1]
            if number >= len(further) or (probe != _PROBE and not as_json):
                raise InputError(
                    f"guard {self._guard.name}: the tokenizer's chat template changes the texts of messages",
                    hint="use prompt.message with prompt.frame, which say themselves what is around the texts",
                )
            other = further[number]
            lines_before = _lines_before(text, mark.start()) == _lines_before(between_lines, other.start())
            lines_after = _lines_after(text, mark.end()) == _lines_after(between_lines, other.end())
            letters = "l" if not left else "L" if lines_before and not as_json else ""
            letters += "r" if not right else "R" if lines_after and not as_json else ""
            parts += [text[end : mark.start()], f"\ue000{index}{letters}{'j' if as_json else ''}\ue001"]
            end = mark.end()
        return "".join([*parts, text[end:]])

    def _frame_fits(self) -> bool:
        if self._prompt.frame is None:
            return False
        if missing := self._missing_tokens(self._prompt.frame):
            self.notes.append(
                f"the tokenizer has no {missing[0]}, which the prompt of {self._guard.name} contains; "
                "the tokenizer's own chat template is used instead"
            )
        return not missing

    def _missing_tokens(self, template: str) -> list[str]:
        """Texts that look like control tokens and are none of this tokenizer."""
        contents = {token.content for token in self._tokenizer.added_tokens_decoder.values()}
        return [token for token in re.findall(r"<\|[^|>\s]+\|>", template) if token not in contents]

    def _check_chat_template(self) -> None:
        if not self._has_chat_template:
            if self._prompt.messages is not None:
                problem = f"the tokenizer has no chat template, and the guard {self._guard.name} needs one"
                raise ModelError(problem, hint="use prompt.message with prompt.frame in place of prompt.messages")
            self.notes.append("the tokenizer has no chat template: the policy is given as plain text")
            return
        # a template may write the start of the answer in any case, so it need not use that argument
        if not (names := self._prompt.arguments.keys() - {ANSWER_START}):
            return
        try:
            used = names_in_chat_template(self._tokenizer.get_chat_template())
        except ValueError:  # several templates, none of them the default
            return
        own = [source for _, source in self._prompt.templates()]
        for name in sorted(names):
            if used is not None and name not in used and not any(re.search(rf"\b{name}\b", text) for text in own):
                self.notes.append(f"the tokenizer's chat template does not use the argument '{name}'")


def _lines_before(text: str, position: int) -> int:
    """How many line breaks are directly before the position."""
    return position - len(text[:position].rstrip("\n"))


def _lines_after(text: str, position: int) -> int:
    return len(text) - position - len(text[position:].lstrip("\n"))
