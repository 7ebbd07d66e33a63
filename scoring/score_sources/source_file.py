"""What the guard files of other kinds than `generative` contain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from jinja2 import TemplateSyntaxError
from pydantic import Field, StrictInt, StrictStr, model_validator

from marginalia.schemas.base_model import ID_PATTERN, StrictModel, located_error
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.yaml_files import line_in, load_yaml
from marginalia.scoring.guard_file import Confirmed
from marginalia.scoring.guard_kinds import CLASSIFIER, DECISIONS, EXPLAIN, SERVER
from marginalia.scoring.rendering_process import guard_environment

CHAT_TEMPLATE = "chat_template"  # value of ClassifierFile.input


class SourceFile(StrictModel):
    """The keys that all these guard files have."""

    kind: str
    guard: str | None = Field(default=None, pattern=ID_PATTERN, description="default: the file's name without .yaml")
    title: str = Field(default="", exclude=True)
    source: str = Field(default="", exclude=True, description="where the label names are documented")
    licence: str = Field(default="", exclude=True)
    judges: list[Literal["user", "assistant"]] = Field(default=[], exclude=True)
    confirmed: Confirmed | None = Field(default=None, exclude=True)
    taxonomy: str | None = Field(default=None, description="the taxonomy of `labels`, used when none is given")

    @property
    def estimator(self) -> str:
        """The name of its only estimator."""
        return SERVER

    @property
    def names(self) -> dict[str, str | int] | None:
        """Taxonomy id → the name in the source; None for all labels of any taxonomy."""
        return None

    @property
    def are_exclusive(self) -> bool:
        """Whether the file says that exactly one of the classes applies, so that probabilities can be added."""
        return False


class DecisionsFile(SourceFile):
    """A guard that is asked one yes/no question per label, by an endpoint for decisions."""

    kind: Literal["systemone", "decisions"]
    labels: dict[str, str] | None = Field(
        default=None, description="taxonomy id → the label's name in the question; default: all labels, by their names"
    )
    question: str | None = Field(
        default=None,
        description="Jinja: the question on one label. Variables: category (code, id, name, definition, …)"
        " and last_role",
    )
    unsafe: str | None = Field(
        default=None, description="Jinja: the question on the row 'unsafe'. Variables: categories and last_role"
    )
    input: str | None = Field(
        default=None, description="Jinja: what is judged. Variables: conversation (role, content) and last_role"
    )
    endpoint_model: str | None = Field(default=None, description="the model's name at the endpoint, unless given there")

    @property
    def names(self) -> dict[str, str | int] | None:
        """As in SourceFile."""
        return None if self.labels is None else dict(self.labels)


class ModerationsFile(SourceFile):
    """A guard that is an endpoint for moderation with a score for each category, in OpenAI's format."""

    kind: Literal["moderations"]
    labels: dict[str, str] = Field(min_length=1, description="taxonomy id → the category in category_scores")
    unsafe: str | None = Field(default=None, description="the category of the row 'unsafe'; default: bounds from all")
    input: str | None = Field(
        default=None, description="Jinja: what is judged; default: the last message. Variables: as for decisions"
    )
    endpoint_model: str | None = Field(default=None, description="the model's name at the endpoint, unless given there")

    @property
    def names(self) -> dict[str, str | int] | None:
        """As in SourceFile."""
        return dict(self.labels)


class ClassifierFile(SourceFile):
    """A guard that is a local model with a head for sequence or token classification."""

    kind: Literal["classifier"]
    labels: dict[str, StrictStr | StrictInt] = Field(
        min_length=1, description="taxonomy id → the class: its name in id2label of config.json, or its index"
    )
    activation: Literal["sigmoid", "softmax"] | None = Field(
        default=None, description="default: as transformers' pipelines choose it, from problem_type of config.json"
    )
    safe: StrictStr | StrictInt | None = Field(
        default=None, description="the class for harmless texts; the row 'unsafe' is then 1 - its probability"
    )
    unsafe: StrictStr | StrictInt | None = Field(default=None, description="the class of the row 'unsafe'")
    tokens: Literal["max", "last"] = Field(
        default="max", description="token classification: the largest probability of all tokens, or the last token's"
    )
    input: str | None = Field(
        default=None,
        description="Jinja: the text to classify; default: the last message. chat_template: the whole "
        "conversation in the tokenizer's chat template",
    )

    @property
    def estimator(self) -> str:
        """As in SourceFile."""
        return CLASSIFIER

    @property
    def names(self) -> dict[str, str | int] | None:
        """As in SourceFile."""
        return dict(self.labels)

    @property
    def are_exclusive(self) -> bool:
        """As in SourceFile."""
        return self.activation == "softmax"

    @model_validator(mode="after")
    def _one_verdict(self) -> Self:
        if self.safe is not None and self.unsafe is not None:
            raise located_error("give either 'safe' or 'unsafe', the class of the verdict", "unsafe", hint=EXPLAIN)
        return self


def load_source_file(path: Path, kind: str) -> SourceFile:
    """The guard file at `path`, of this kind. Raises InputError with the line of what is wrong."""
    model: type[SourceFile] = ModerationsFile
    if kind == CLASSIFIER:
        model = ClassifierFile
    elif kind in DECISIONS:
        model = DecisionsFile
    file = load_yaml(path, model, explain=EXPLAIN)
    _check_distinct(path, file)
    _check_templates(path, file)
    return file


def _check_distinct(path: Path, file: SourceFile) -> None:
    """Raises InputError for two labels with one name: they would always have the same probability."""
    seen: dict[str | int, str] = {}
    for label, name in (file.names or {}).items():
        if name in seen:
            problem = f"'{label}' has the same name as '{seen[name]}': {name}"
            hint = "give each label a name of its own"
            raise InputError.at(path, problem, line=line_in(path, "labels", label), hint=hint)
        seen[name] = label


def _check_templates(path: Path, file: SourceFile) -> None:
    """Raises InputError for a template that does not parse. Templates are not run here."""
    keys = {DecisionsFile: ("question", "unsafe", "input"), ModerationsFile: ("input",), ClassifierFile: ("input",)}
    environment = guard_environment()
    for key in keys[type(file)]:
        try:
            environment.parse(getattr(file, key) or "")
        except (TemplateSyntaxError, RecursionError) as error:
            reason = error.message if isinstance(error, TemplateSyntaxError) else "it is nested too deeply"
            problem = f"{key}: the template does not parse: {reason}"
            raise InputError.at(path, problem, line=line_in(path, key), hint=EXPLAIN) from error
