"""A mapping: a YAML file that says what the columns and label values of a data set mean. The shipped ones are in
mappings/."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.sources.file_format import FileFormat
from marginalia.schemas.storage.yaml_files import find_yaml, line_in, load_yaml
from marginalia.schemas.taxonomy import Taxonomy

SHIPPED = Path(__file__).parent / "mappings"
HUB = "hub:"
EXPLAIN = "the shipped records.yaml shows the keys"


class MessageColumn(StrictModel):
    """One message of a record, read from one column."""

    role: Literal["system", "user", "assistant"]
    column: str
    optional: bool = Field(default=False, description="leave the message out where the column is null or empty")


class LabelColumn(StrictModel):
    """Where the labels are and what they mean: in one column, or in one column of 0 and 1 per label."""

    column: str | None = Field(default=None, description="the column with a record's labels")
    columns: dict[str, str | list[str] | None] = Field(
        default={},
        description="instead of column: columns of 0 and 1 (or false and true) → the label that 1 stands for, as in "
        "values",
    )
    form: Literal["list", "text", "flags"] = Field(
        default="list",
        description="list: a list of values; text: one string, split at `separator`; flags: value → true or false",
    )
    separator: str | None = Field(
        default=None, min_length=1, description="for the form text; null: one value per record"
    )
    values: dict[str, str | list[str] | None] = Field(
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
        description="what null and an empty text mean. unlabelled: nobody has labelled the record; none: no category "
        "applies",
    )
    kind: Literal["gold", "intended"] = Field(
        default="gold", description="gold: people settled them; intended: what a writer was asked for"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.column is None) == (not self.columns):
            raise ValueError("give either column or columns")
        if self.columns and (further := self.model_fields_set & {"form", "separator", "values"}):
            raise ValueError(f"{min(further)} needs column; this mapping has columns")
        if self.separator is not None and self.form != "text":
            raise ValueError(f"separator needs form: text; the form is {self.form}")
        both = [value for value in self.ignore if value in self.meanings]
        if both:
            raise ValueError(f"'{both[0]}' is in both {'columns' if self.columns else 'values'} and ignore")
        return self

    @property
    def meanings(self) -> dict[str, str | list[str] | None]:
        """Label value, or column, → the taxonomy's id (or several); None: it says that no category applies."""
        return self.columns or self.values

    @property
    def label_columns(self) -> list[str]:
        """The label columns that a row must have."""
        return [self.column] if self.column is not None else [*self.columns, *self.ignore]

    @property
    def name(self) -> str:
        """The source of the labels in error messages."""
        return f"'{self.column}'" if self.column is not None else "the row"


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
    id: str | None = Field(default=None, description="column of the ids; null: made from the text by SHA-256")
    text: str | None = Field(default=None, description="column of the text, read as one user message")
    messages: str | list[MessageColumn] | None = Field(
        default=None, description="column with a list of {role, content}, or one column per message"
    )
    labels: LabelColumn | None = Field(default=None, description="null: the records have no labels yet")
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
        if self.messages == []:
            raise ValueError("messages lists no column")
        return self

    @property
    def repository(self) -> str | None:
        """owner/name when the source is a data set on the Hub, else None."""
        return self.sources[0].removeprefix(HUB) if self.sources and self.sources[0].startswith(HUB) else None

    @property
    def sources(self) -> list[str]:
        """The source as a list; empty if there is none."""
        return [self.source] if isinstance(self.source, str) else self.source or []

    def columns(self) -> list[str]:
        """Every column that a row must have."""
        if self.text:
            texts = [self.text]
        elif isinstance(self.messages, str):
            texts = [self.messages]
        else:
            texts = [message.column for message in self.messages or []]
        return [
            *([self.id] if self.id else []),
            *(column for column in texts if column),
            *(self.labels.label_columns if self.labels else []),
            *self.attributes,
            *self.skip,
        ]


def load_mapping(path: Path, taxonomy: Taxonomy) -> Mapping:
    """The mapping in `path`. Raises InputError when it is not valid, or names a label id that is not in the
    taxonomy."""
    mapping = load_yaml(path, Mapping, explain=EXPLAIN)
    key = "columns" if mapping.labels and mapping.labels.columns else "values"
    for value, ids in (mapping.labels.meanings if mapping.labels else {}).items():
        for label in [ids] if isinstance(ids, str) else ids or []:
            if label not in taxonomy.ids:
                where = f"{path}: line {line_in(path, 'labels', key, value)}: labels.{key}.{value}"
                taxonomy.require(
                    label, where, hint=f"the values on the right must be ids of the taxonomy {taxonomy.id}"
                )
    return mapping


def mapping_path(reference: str) -> Path:
    """The file of a shipped mapping (`paper-llama-guard-3`), or `reference` itself when it is the path of a YAML
    file."""
    return find_yaml("mapping", reference, SHIPPED)
