"""A policy taxonomy: the labels that annotators tick and guards are evaluated on."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from marginalia.schemas.base_model import ID_PATTERN, StrictModel, located_error
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.text_checks import one_line

SHIPPED = Path(__file__).parent / "taxonomies"
MOST_LABELS = 1_000  # evaluate needs about 2 GB of memory and some minutes for these, growing with their number
RESERVED = ("unsafe", "safe", "none")  # rows and answers with a meaning of their own, never ids of labels
EXPLAIN = "the shipped support-tickets.yaml shows every key"


class Label(StrictModel):
    """One category of the policy."""

    id: str = Field(pattern=ID_PATTERN, description="stable id, used in every file")
    name: str = Field(min_length=1, description="what annotators see")
    definition: str = Field(min_length=1)
    includes: list[str] = Field(default=[], description="what the definition also covers")
    excludes: list[str] = Field(default=[], description="similar cases that belong to another label")
    examples: list[str] = Field(
        default=[], description="texts with this label; shown to the writing model and to annotators"
    )
    generation: Literal["allowed", "withheld"] = Field(
        default="allowed", description="withheld: no model is asked to write texts with this label"
    )
    parent: str | None = Field(default=None, description="id of the broader label under which it is listed")


class NoneOption(StrictModel):
    """The explicit answer that no category applies (Argilla refuses an empty required answer)."""

    name: str = "None of these"
    definition: str = "No category applies."


class Taxonomy(StrictModel):
    """A taxonomy file. `labels` keep their order everywhere."""

    id: str = Field(pattern=ID_PATTERN)
    version: str
    title: str
    language: str = Field(default="en", description="ISO 639-1 code of the texts")
    subject: str = Field(description="what the texts are, in the plural: 'messages to the support of an online shop'")
    verdict: str = Field(
        default="unsafe", description="one word for 'at least one category applies', used in texts for people"
    )
    content_notice: str | None = Field(default=None, description="shown to annotators and readers before any text")
    none: NoneOption = NoneOption()
    labels: list[Label] = Field(min_length=1)
    forbidden_pairs: list[tuple[str, str]] = Field(
        default=[], description="pairs of ids that no text may have together"
    )

    @property
    def ids(self) -> list[str]:
        """Ids of all labels, in the order of the file."""
        return [label.id for label in self.labels]

    @property
    def listed(self) -> list[tuple[Label, int]]:
        """Labels as people see them, each followed by those that it is the parent of, with their depth (0: without a
        parent). Otherwise in the order of the file."""
        children: dict[str | None, list[Label]] = {}
        for label in self.labels:
            children.setdefault(label.parent, []).append(label)

        found, waiting = [], [(label, 0) for label in reversed(children.get(None, []))]
        while waiting:
            label, depth = waiting.pop()
            found.append((label, depth))
            waiting += [(child, depth + 1) for child in reversed(children.get(label.id, []))]
        return found

    @property
    def groups(self) -> dict[str, list[Label]]:
        """The name of each label that is a parent and has none → itself and all labels below it, as `listed`. Labels
        without relatives are in none."""
        groups: dict[str, list[Label]] = {}
        for label, depth in self.listed:
            if depth == 0:
                group = groups.setdefault(label.name, [])
            group.append(label)
        return {name: group for name, group in groups.items() if len(group) > 1}

    def label(self, label_id: str) -> Label:
        """The label with this id, which must exist."""
        return next(label for label in self.labels if label.id == label_id)

    def require(self, label_id: str, where: str, *, hint: str | None = None) -> str:
        """Returns `label_id` if the taxonomy has it; else raises InputError with the nearest id, located at `where`."""
        if label_id not in self.ids:
            near = did_you_mean(label_id, self.ids) or f"; the taxonomy {self.id} has {', '.join(self.ids)}"
            hint = "an empty list of labels means that no category applies" if label_id in RESERVED else hint
            raise InputError(f"{where}: unknown label '{label_id}'{near}", hint=hint)
        return label_id

    @property
    def writable(self) -> list[str]:
        """Ids of the labels for which a model may write texts."""
        return [label.id for label in self.labels if label.generation == "allowed"]

    def allowed_pairs(self) -> list[tuple[str, str]]:
        """Unordered pairs of writable labels that a text may have together, in taxonomy order."""
        forbidden = {frozenset(pair) for pair in self.forbidden_pairs}
        return [pair for pair in combinations(self.writable, 2) if frozenset(pair) not in forbidden]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.labels) > MOST_LABELS:
            problem = f"{len(self.labels):,} labels; at most {MOST_LABELS:,} are possible"
            hint = "divide the policy into several taxonomies, with a run for each"
            raise located_error(problem, "labels", hint=hint)
        seen: set[str] = set()
        for number, label in enumerate(self.labels):
            if label.id in seen:
                hint = "label ids must be unique"
                raise located_error(f"duplicate label id '{label.id}'", "labels", number, "id", hint=hint)
            if label.id in RESERVED:
                hint = f"reserved: {', '.join(RESERVED)}"
                raise located_error(f"label id '{label.id}' is reserved; rename it", "labels", number, "id", hint=hint)
            seen.add(label.id)
        names = {one_line(self.none.name).casefold()}
        for number, label in enumerate(self.labels):
            if (name := one_line(label.name).casefold()) in names:
                hint = "annotators see names, so the names of the labels and of none must differ"
                raise located_error(f"two answers are named '{name}'", "labels", number, "name", hint=hint)
            names.add(name)
        self._check_references(seen)
        return self

    def _check_references(self, known: set[str]) -> None:
        parents = {label.id: label.parent for label in self.labels}
        for number, label in enumerate(self.labels):
            if label.parent is not None and label.parent not in known:
                near = did_you_mean(label.parent, known)
                problem = f"label '{label.id}' has the unknown parent '{label.parent}'{near}"
                raise located_error(problem, "labels", number, "parent", hint="a parent is the id of another label")
        for number, label in enumerate(self.labels):
            ancestors, parent = [label.id], label.parent
            while parent is not None:
                if parent in ancestors:
                    problem = "parents form a cycle: " + " → ".join([*ancestors, parent])
                    raise located_error(problem, "labels", number, "parent", hint="remove one of these parents")
                ancestors.append(parent)
                parent = parents[parent]
        for number, pair in enumerate(self.forbidden_pairs):
            for label_id in pair:
                if label_id not in known:
                    near = did_you_mean(label_id, known)
                    problem = f"forbidden_pairs: unknown label '{label_id}'{near}"
                    raise located_error(
                        problem, "forbidden_pairs", number, hint="a pair consists of two different label ids"
                    )
            if pair[0] == pair[1]:
                problem = f"forbidden_pairs: '{pair[0]}' is paired with itself"
                raise located_error(
                    problem, "forbidden_pairs", number, hint="a pair consists of two different label ids"
                )


def load_taxonomy(reference: str, *, relative_to: Path = Path()) -> Taxonomy:
    """A taxonomy by shipped name (`llama-guard-3`) or by the path of a YAML file, relative to `relative_to`."""
    return read_taxonomy(taxonomy_path(reference, relative_to=relative_to))


def read_taxonomy(path: Path) -> Taxonomy:
    """The taxonomy in the file `path`. Raises InputError with the line of what is wrong."""
    # imported here and below because a command's --help needs the model Taxonomy, but should not wait for polars
    from marginalia.schemas.storage.yaml_files import load_yaml

    return load_yaml(path, Taxonomy, explain=EXPLAIN)


def taxonomy_path(reference: str, *, relative_to: Path = Path()) -> Path:
    """The path of that taxonomy. Raises InputError with the shipped names if there is none."""
    from marginalia.schemas.storage.yaml_files import find_yaml

    return find_yaml("taxonomy", reference, SHIPPED, relative_to=relative_to)
