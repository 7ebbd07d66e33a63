"""A mapping: a YAML file that says what the columns and label values of a data set mean. The shipped ones are in
mappings/."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from marginalia.schemas.base_model import StrictModel, located_error
from marginalia.schemas.errors import InputError
from marginalia.schemas.sources.file_format import FileFormat
from marginalia.schemas.storage.files import read_text
from marginalia.schemas.storage.yaml_files import find_yaml, line_in, load_yaml
from marginalia.schemas.taxonomy import Taxonomy

SHIPPED = Path(__file__).parent / "mappings"
HUB = "hub:"
EXPLAIN = "marginalia import --show-mapping records shows the keys"


NO_COLUMN = "leave out labels.column and labels.columns"
JUDGED_COLUMN = "judged"  # of a release and of gold.parquet
EDIT = "EDIT"  # the value of a key that import --suggest leaves to the user
_TO_EDIT = re.compile(r"\s*(?:- )?(?P<key>.+?):\s+EDIT\s*(?:#.*)?")


class MessageColumn(StrictModel):
    """One message of a record, read from one column."""

    role: Literal["system", "user", "assistant"]
    column: str = Field(description="path of the text")
    optional: bool = Field(default=False, description="leave the message out where the column is null or empty")


class JudgedColumn(StrictModel):
    """The column that lists the judged labels of each row, as `judged` of gold.parquet does."""

    column: str = Field(description="path of a list of the taxonomy's ids; null: all labels were judged")
    optional: bool = Field(default=False, description="rows may lack the column: then all labels were judged")


Meanings = dict[str, str | list[str] | None]


class LabelColumn(StrictModel):
    """Where the labels are and what they mean: in one column, or in one column per label."""

    column: str | None = Field(default=None, description="path of a record's labels")
    columns: Meanings = Field(
        default={},
        description="instead of column: paths of 0 and 1 (or other words for false and true) → the label that 1 stands "
        "for, as in values",
    )
    form: Literal["list", "text", "flags"] = Field(
        default="list",
        description="list: a list of values; text: one string, split at `separator`; flags: value → true or false",
    )
    separator: str | None = Field(
        default=None, min_length=1, description="for the form text; null: one value per record"
    )
    values: Meanings = Field(
        default={},
        description="label value → the taxonomy's id (or several); null: says that no category applies. Left out: the "
        "values are the taxonomy's ids",
    )
    ignore: list[str] = Field(
        default=[],
        description="values (or columns) that this taxonomy has no label for; a record with nothing else is left out, "
        "never safe",
    )
    blank: Literal["unlabelled", "none"] = Field(
        default="unlabelled",
        description="what null and an empty text mean. unlabelled: nobody judged it; none: it does not apply",
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="for columns and flags with other numbers than 0 and 1: the label applies from this number on",
    )
    true: list[str] = Field(default=[], description="further words for true in columns and flags")
    false: list[str] = Field(default=[], description="further words for false in columns and flags")
    classes: list[str] = Field(
        default=[],
        description="names of the values 0, 1, 2 … of column; read from a Parquet file that `datasets` has written",
    )
    judged: Literal["all"] | list[str] | JudgedColumn | None = Field(
        default=None,
        description="labels that were judged in every labelled record, except where their own cells are blank. Left "
        "out: those that values or columns name, or all without them. Others are neither positive nor negative. "
        "{column: judged}: each row lists its own",
    )
    kind: Literal["gold", "intended"] = Field(
        default="gold", description="gold: people settled them; intended: what a writer was asked for"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_words(cls, data: Any) -> Any:
        """YAML reads the keys `true` and `false`, and words such as yes, as true and false."""
        if not isinstance(data, dict):
            return data
        data = {str(key).lower() if isinstance(key, bool) else key: value for key, value in data.items()}
        for key in ("true", "false"):
            if isinstance(data.get(key), list):
                words = (str(word).lower() if isinstance(word, bool) else word for word in data[key])
                data[key] = [str(word) if isinstance(word, int | float) else word for word in words]
        if isinstance(data.get("values"), dict):  # the keys 0, 1 … of class numbers need no quotes
            data["values"] = {str(key) if type(key) is int else key: ids for key, ids in data["values"].items()}
        return data

    @field_validator("judged", mode="before")
    @classmethod
    def _check_judged(cls, value: Any) -> Any:
        """One message for the forms, instead of pydantic's for each."""
        is_list = isinstance(value, list) and all(isinstance(label, str) for label in value)
        if value is None or value == "all" or is_list:
            return value
        if isinstance(value, JudgedColumn):
            return value
        if isinstance(value, dict) and value.keys() <= JudgedColumn.model_fields.keys():
            column, optional = value.get("column"), value.get("optional", False)
            if isinstance(column, str) and isinstance(optional, bool):
                return JudgedColumn(column=column, optional=optional)
        raise ValueError(f"expected all, a list of label ids, or {{column: …}}, saw {str(value)[:40]}")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.column is not None and self.columns:
            raise ValueError("give either column or columns")
        if self.columns and (further := self.model_fields_set & {"form", "separator", "values", "classes"}):
            raise ValueError(f"{min(further)} needs column; this mapping has columns")
        if self.separator is not None and self.form != "text":
            raise ValueError(f"separator needs form: text; the form is {self.form}")
        if not self.columns and self.form != "flags":
            if further := self.model_fields_set & {"threshold", "true", "false"}:
                raise ValueError(f"{min(further)} needs columns or form: flags; the form is {self.form}")
        elif self.classes:
            raise ValueError("classes needs form: list or text; the form is flags")
        both = [value for value in self.ignore if value in self.meanings]
        if both:
            raise ValueError(f"'{both[0]}' is in both {'columns' if self.columns else 'values'} and ignore")
        words = {word.strip().lower() for word in self.true} & {word.strip().lower() for word in self.false}
        if words:
            raise ValueError(f"'{min(words)}' is in both true and false")
        if isinstance(self.judged, list) and (outside := [x for x in self.mapped if x not in self.judged]):
            raise ValueError(f"judged leaves out '{outside[0]}', which {self.meanings_key} names")
        return self

    @property
    def meanings(self) -> Meanings:
        """Label value, or column, → the taxonomy's id (or several); None: it says that no category applies."""
        return self.columns or self.values

    @property
    def meanings_key(self) -> str:
        """The key of the mapping that gives the meanings."""
        return "columns" if self.columns else "values"

    @property
    def mapped(self) -> list[str]:
        """The ids that the meanings name."""
        return [label for name in self.meanings for label in self.ids_of(name)]

    def ids_of(self, name: str) -> list[str]:
        """The ids that a value or column of the meanings stands for."""
        ids = self.meanings[name]
        return [ids] if isinstance(ids, str) else list(ids or [])

    def judged_in(self, taxonomy_ids: Sequence[str]) -> list[str]:
        """The labels that a labelled record without blank cells says something about, in the order of the taxonomy.
        With a column of judged labels: those where it is null."""
        if self.judged == "all" or isinstance(self.judged, JudgedColumn) or (self.judged is None and not self.meanings):
            return list(taxonomy_ids)
        judged = {*(self.mapped if self.judged is None else self.judged)}
        return [label for label in taxonomy_ids if label in judged]

    def paths(self) -> list[tuple[str, str]]:
        """(key of the mapping, path) of each cell that is read."""
        judged = [("labels.judged", self.judged.column)] if isinstance(self.judged, JudgedColumn) else []
        if self.column is not None:
            return [("labels.column", self.column), *judged]
        return [
            *(("labels.columns", name) for name in self.columns),
            *(("labels.ignore", name) for name in self.ignore),
            *judged,
        ]

    @property
    def needless_paths(self) -> list[str]:
        """The paths that no row need have."""
        return [self.judged.column] if isinstance(self.judged, JudgedColumn) and self.judged.optional else []

    @property
    def name(self) -> str:
        """The source of the labels in error messages."""
        return f"'{self.column}'" if self.column is not None else "the row"


class Annotators(StrictModel):
    """Where several people's answers to a record are. Their answers become annotations.parquet, and `reconcile` makes
    gold of them."""

    columns: list[str] = Field(
        default=[],
        description="one column per person, with that person's labels: the person is the column's name, and takes the "
        "place of labels.column",
    )
    column: str | None = Field(
        default=None,
        description="path of the person. Without items: each row is one person's answer, and rows with the same id (or "
        "the same text, without ids) are one record",
    )
    items: str | None = Field(
        default=None,
        description="path of the answers in a record's row, such as answers[*]; annotators.column and the paths under "
        "labels are then relative to one answer",
    )
    files: bool = Field(default=False, description="each file of the source has the answers of one person: its name")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.files + (self.column is not None) + bool(self.columns) != 1:
            raise ValueError("give either column (with or without items), columns, or files: true")
        if self.items is not None and self.column is None:
            raise ValueError("items needs column")
        return self


class HubSource(StrictModel):
    """Which part of a data set on the Hub to read; used when the source is `hub:…`."""

    config: str | None = Field(default=None, description="the data set's configuration")
    split: str = Field(default="train", description="the split to read")
    revision: str | None = Field(default=None, description="commit; the one that was read is written here and kept")


class Mapping(StrictModel):
    """A mapping file. In a run it is `import.yaml`, with the source in front."""

    source: str | list[str] | None = Field(
        default=None,
        description="file (relative to this one), pattern such as parts/*.csv, list of these, or hub:owner/name; "
        "marginalia import writes it",
    )
    files: FileFormat = Field(default=FileFormat(), description="how the files are written; left out: detected")
    title: str = Field(default="records", description="what the data set is, for the card")
    id: str | None = Field(default=None, description="path of the ids; null: made from the text by SHA-256")
    text: str | None = Field(default=None, description="path of the text, read as one user message")
    join: str | None = Field(
        default=None,
        description="for a text that is a list, such as the words of a post: what is put between its items. Left out: "
        "such a text is refused",
    )
    messages: str | list[MessageColumn] | None = Field(
        default=None, description="path of a conversation, or one path per message"
    )
    messages_form: Literal["openai", "sharegpt", "anthropic"] | None = Field(
        default=None,
        description="form of the conversation. openai: {role, content}; sharegpt: {from, value}; anthropic: {role, "
        "content}, with the system prompt next to the list, in `system`. Left out: recognised by its keys",
    )
    labels: LabelColumn | None = Field(default=None, description="null: the records have no labels yet")
    annotators: Annotators | None = Field(default=None, description="null: labels are the result, not single answers")
    attributes: list[str] = Field(default=[], description="further columns to keep as attributes")
    strip: bool = Field(default=False, description="remove white space at both ends of every text (counted)")
    skip: dict[str, list[str]] = Field(default={}, description="column → values whose rows are left out (counted)")
    unusable: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="rows without text or with a NUL, a lone surrogate, a reordering character or over a million "
        "characters: refuse the file, or leave them out (counted)",
    )
    duplicates: Literal["refuse", "first"] = Field(
        default="refuse",
        description="rows with the same id: refuse the file; or keep the first (counted, and counted again when the "
        "labels differ)",
    )
    hub: HubSource = Field(default=HubSource(), description="which part of a data set on the Hub")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        if self.join is not None and self.text is None:
            raise ValueError("join needs text")
        if self.messages == []:
            raise ValueError("messages lists no column")
        if self.messages_form is not None and not isinstance(self.messages, str):
            raise ValueError("messages_form needs messages with the path of a conversation")
        if self.annotators is not None and self.labels is None:
            raise ValueError("annotators needs labels")
        if self.labels is not None:
            has_column = self.labels.column is not None or bool(self.labels.columns)
            if self.annotators is not None and self.annotators.columns:
                if has_column:
                    raise located_error("annotators.columns names the columns of the labels", "labels", hint=NO_COLUMN)
            elif not has_column:
                raise located_error("give either column or columns", "labels")
        if self.annotators is not None and self.labels is not None and self.labels.kind == "intended":
            raise ValueError("annotators needs labels.kind: gold; intended labels are not answers of people")
        return self

    @property
    def repository(self) -> str | None:
        """owner/name when the source is a data set on the Hub, else None."""
        return self.sources[0].removeprefix(HUB) if self.sources and self.sources[0].startswith(HUB) else None

    @property
    def sources(self) -> list[str]:
        """The source as a list; empty if there is none."""
        return [self.source] if isinstance(self.source, str) else self.source or []

    def paths(self) -> list[tuple[str, str]]:
        """(key of the mapping, path) of each cell of a row that is read. The paths inside annotators.items are not
        among them."""
        if isinstance(self.messages, list):
            texts = [("messages", message.column) for message in self.messages]
        else:
            texts = [("text", self.text)] if self.text is not None else [("messages", self.messages or "")]
        return [
            *([("id", self.id)] if self.id is not None else []),
            *texts,
            *(self.answer_paths() if self.annotators is None or self.annotators.items is None else []),
            *([("annotators.items", self.annotators.items)] if self.annotators and self.annotators.items else []),
            *(("attributes", column) for column in self.attributes),
            *(("skip", column) for column in self.skip),
        ]

    @property
    def optional_paths(self) -> set[str]:
        """The paths that some rows may lack: of labels, attributes and optional messages."""
        messages = self.messages if isinstance(self.messages, list) else []
        optional = {
            *(path for _, path in (self.labels.paths() if self.labels else [])),
            *self.attributes,
            *(message.column for message in messages if message.optional),
        }
        needed = {self.id, self.text, *(message.column for message in messages if not message.optional), *self.skip}
        return optional - needed

    @property
    def needless_paths(self) -> list[str]:
        """Those of `optional_paths` that no row need have."""
        return self.labels.needless_paths if self.labels else []

    def answer_paths(self) -> list[tuple[str, str]]:
        """(key of the mapping, path) of the labels and of the person who gave them: in a row, or in one of
        annotators.items."""
        labels = self.labels.paths() if self.labels else []
        if self.annotators is None:
            return labels
        person = [("annotators.column", self.annotators.column)] if self.annotators.column else []
        return [*labels, *person, *(("annotators.columns", column) for column in self.annotators.columns)]


def unanswered(text: str) -> Iterator[tuple[int, str]]:
    """(line, key) of each key in the text of a mapping whose value is still EDIT."""
    for number, line in enumerate(text.split("\n"), start=1):
        found = _TO_EDIT.fullmatch(line)
        if found and not line.lstrip().startswith("#"):
            yield number, found["key"].strip("'\"")


def load_mapping(path: Path, taxonomy: Taxonomy) -> Mapping:
    """The mapping in `path`. Raises InputError when it is not valid, or names a label id that is not in the
    taxonomy."""
    for line, key in unanswered(read_text(path)):
        problem = f"'{key}' still needs your answer"
        raise InputError.at(
            path, problem, line=line, hint=f"replace {EDIT}; the comment in this line says what is asked"
        )
    mapping = load_yaml(path, Mapping, explain=EXPLAIN)
    if mapping.labels is None:
        return mapping
    key = mapping.labels.meanings_key
    named: list[tuple[tuple[str, str | int], str]]
    named = [((key, value), label) for value in mapping.labels.meanings for label in mapping.labels.ids_of(value)]
    if isinstance(mapping.labels.judged, list):
        named += [(("judged", at), label) for at, label in enumerate(mapping.labels.judged)]
    for location, label in named:
        if label not in taxonomy.ids:
            setting = ".".join(map(str, ("labels", *location)))
            where = f"{path}: line {line_in(path, 'labels', *location)}: {setting}"
            of = "the values on the right" if location[0] == key else "these"
            hint = f"{of} must be ids of the taxonomy {taxonomy.id}"
            if path.parent == SHIPPED:
                hint += f"; marginalia import --show-mapping {path.stem} says which taxonomy it is for"
            taxonomy.require(label, where, hint=hint)
    return mapping


def mapping_path(reference: str) -> Path:
    """The file of a shipped mapping (`paper-llama-guard-3`), or `reference` itself when it is the path of a YAML
    file."""
    return find_yaml("mapping", reference, SHIPPED)
