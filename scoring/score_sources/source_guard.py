"""A guard whose probabilities come from a server or a classification head, with the labels that it scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.label_coverage import GuardCoverage
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.schemas.taxonomy import Label, Taxonomy, load_taxonomy
from marginalia.scoring.guard import Category, Guard, guard_path, load_guard
from marginalia.scoring.guard_file import VERDICT
from marginalia.scoring.guard_kinds import GENERATIVE, kind_of
from marginalia.scoring.label_categories import (
    CategoriesError,
    CoveredLabel,
    LabelCategories,
    coverage_of,
    covered_labels,
    load_categories,
)
from marginalia.scoring.score_sources.source_file import SourceFile, load_source_file


@dataclass(frozen=True)
class SourceGuard:
    """A guard file of another kind than `generative`, with its taxonomy. `labels`, `categories`, `covered` and
    `coverage` are as in Guard; a category's `code` is its name in the source."""

    file: SourceFile
    name: str
    labels: tuple[str, ...]
    categories: tuple[Category, ...]
    covered: tuple[CoveredLabel, ...] | None = None
    coverage: GuardCoverage | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of its scores: the labels, then the verdict."""
        return (*self.labels, VERDICT)

    @property
    def estimator(self) -> str:
        """The name of its only estimator."""
        return self.file.estimator

    @property
    def asked(self) -> tuple[Category, ...]:
        """The categories whose numbers are needed: with `categories`, those that a label names."""
        if self.covered is None:
            return self.categories
        named = {name for label in self.covered for name in label.named}
        return tuple(category for category in self.categories if category.id in named)

    @property
    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, except for the source."""
        covered = {} if self.covered is None else {"covered": [vars(label) for label in self.covered]}
        return {
            "guard": {**self.file.model_dump(mode="json"), "guard": self.name},
            "categories": [asdict(category) for category in self.categories],
            **covered,
        }


AnyGuard = Guard | SourceGuard


def load_any_guard(
    reference: str,
    taxonomy: Taxonomy | None = None,
    *,
    relative_to: Path = Path(),
    categories: str | LabelCategories | None = None,
    own_taxonomy: Taxonomy | None = None,
) -> AnyGuard:
    """Loads a guard of any kind. The arguments and exceptions are those of `load_guard`."""
    path = guard_path(reference, relative_to=relative_to)
    if (kind := kind_of(path)) == GENERATIVE:
        return load_guard(
            reference, taxonomy, relative_to=relative_to, categories=categories, own_taxonomy=own_taxonomy
        )
    file = load_source_file(path, kind)
    if categories is None:
        return _with_labels(path, file, taxonomy)
    if taxonomy is None:
        raise InputError("categories needs the policy's taxonomy", hint="give it with --taxonomy (taxonomy=…)")
    guard = _with_labels(path, file, own_taxonomy)
    if not isinstance(categories, str):
        return _covering(guard, categories, taxonomy)
    try:
        return _covering(guard, load_categories(relative_to / categories), taxonomy)
    except CategoriesError as error:
        raise error.located(relative_to / categories) from error


def computed_estimators(guard: AnyGuard, requested: Sequence[str]) -> tuple[str, ...]:
    """The estimators that a guard's scores have, of those `requested`. A guard of another kind has only its own one."""
    return (guard.estimator,) if isinstance(guard, SourceGuard) else tuple(requested)


def _with_labels(path: Path, file: SourceFile, taxonomy: Taxonomy | None) -> SourceGuard:
    if taxonomy is None:
        if file.taxonomy is None:
            hint = "give one with --taxonomy, or taxonomy=… in Python"
            raise InputError.at(path, "has no taxonomy of its own", hint=hint)
        try:
            taxonomy = load_taxonomy(file.taxonomy, relative_to=path.parent)
        except InputError as error:
            raise error.for_setting(path, "taxonomy", line=line_in(path, "taxonomy")) from error
    name = file.guard or path.stem
    names = file.names
    if names is None:
        categories = [_category(label, label.name) for label in taxonomy.labels]
    else:
        for label in names:
            if label not in taxonomy.ids:
                problem = f"label '{label}' is not in the taxonomy {taxonomy.id}{did_you_mean(label, taxonomy.ids)}"
                hint = "categories says which of the guard's labels mean those of your policy"
                raise InputError.at(path, problem, line=line_in(path, "labels", label), hint=hint)
        categories = [_category(taxonomy.label(label), str(code)) for label, code in names.items()]
    return SourceGuard(file, name, tuple(category.id for category in categories), tuple(categories))


def _category(label: Label, name: str) -> Category:
    lists = (tuple(label.includes), tuple(label.excludes), tuple(label.examples))
    return Category(name, label.id, label.name, label.definition, *lists)


def _covering(guard: SourceGuard, categories: LabelCategories, taxonomy: Taxonomy) -> SourceGuard:
    """The guard with the labels of `taxonomy`, which consist of its own."""
    codes = {category.id: category.code for category in guard.categories}
    covered = covered_labels(categories, codes, taxonomy.ids, guard.name)
    coverage = coverage_of(covered, taxonomy.ids, codes, per_label=not guard.file.are_exclusive)
    return replace(guard, labels=tuple(label.label for label in covered), covered=covered, coverage=coverage)
