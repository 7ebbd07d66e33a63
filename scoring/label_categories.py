"""Which of a guard's own categories each label of a policy consists of (`categories`).

    hate: [hate]                                           # the guard's category is the label
    violence: [violent_crimes, indiscriminate_weapons]     # the label applies when either category does
    slurs: {part_of: [hate]}                               # the guard's category contains more than the label

A label that consists of categories has an exact probability: that the guard names any of them. A label that is part of
a category has only bounds, because the guard does not say which part of the category it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, RootModel

from marginalia.schemas.base_model import StrictModel, located_error
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.label_coverage import GuardCoverage, LabelCoverage

EXPLAIN = "docs/your-own.md, section Guard, explains categories"
FORMS = "write label: [category, …], label: {any_of: [category, …]} or label: {part_of: [category, …]}"
KEYS = ("any_of", "part_of")


class LabelMeaning(StrictModel):
    """How one label of the policy relates to the guard's categories, given as ids of its taxonomy or as its codes."""

    any_of: list[str] = Field(
        default=[],
        exclude_if=lambda names: not names,
        description="categories that lie inside the label: it applies when the guard names any of them",
    )
    part_of: list[str] = Field(
        default=[],
        exclude_if=lambda names: not names,
        description="categories that are wider than the label: it can apply only when the guard names one of them, so "
        "its probability is known only within bounds",
    )


def _checked(value: Any) -> Any:
    """Refuses other forms with one message each; pydantic would report an error for every form that is possible."""
    if isinstance(value, LabelCategories):
        return value
    if not isinstance(value, Mapping) or not value:
        raise located_error("categories: expected a line for each label", hint=FORMS)
    for label, meaning in value.items():
        if not isinstance(label, str):
            raise located_error(f"categories: the label {label!r} is not text", label, hint="put it in quotes")
        if not isinstance(meaning, LabelMeaning):
            _check_meaning(label, meaning)
    return value


def _check_meaning(label: str, meaning: Any) -> None:
    if not isinstance(meaning, list | tuple | Mapping):
        example = f", such as [{meaning}]" if isinstance(meaning, str | int) else ""
        raise located_error(f"'{label}': expected a list of categories{example}", label, hint=FORMS)
    lists = {}
    for key, names in meaning.items() if isinstance(meaning, Mapping) else ():
        if key not in KEYS:
            near = did_you_mean(str(key), KEYS) or "; expected any_of or part_of"
            raise located_error(f"'{label}' has the unknown key '{key}'{near}", label, key, hint=FORMS)
        lists[key] = names
    for names in lists.values() if isinstance(meaning, Mapping) else [meaning]:
        at = [label, *(key for key in lists if lists[key] is names)]
        if not isinstance(names, list | tuple) or not names:
            raise located_error(f"'{label}': expected a list of at least one category", *at, hint=FORMS)
        for number, name in enumerate(names):
            if not isinstance(name, str):
                raise located_error(f"'{label}': {name!r} is not text: put it in quotes", *at, number, hint=FORMS)
    if not meaning:
        raise located_error(f"'{label}' names no category of the guard", label, hint="leave the label out")


class LabelCategories(RootModel[Annotated[dict[str, list[str] | LabelMeaning], BeforeValidator(_checked)]]):
    """For each label of the policy, the guard's own categories that it consists of; labels that are not listed are not
    covered by the guard."""


# of a setting: the categories themselves, or the path of a YAML file with them
CategoriesSetting = Annotated[
    str | LabelCategories | None,
    BeforeValidator(lambda value: value if isinstance(value, str | None) else LabelCategories.model_validate(value)),
]


class CategoriesError(InputError):
    """Categories that do not fit the guard or the policy. `at`: the keys and indices of the wrong part."""

    def __init__(self, message: str, *at: str | int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.at_keys = at

    def located(self, path: Path, *before: str | int) -> InputError:
        """The same error with the line in the file `path`, where the categories are below the keys `before`."""
        from marginalia.schemas.storage.yaml_files import line_in

        line = line_in(path, *before, *self.at_keys)
        return InputError.at(path, f"categories: {self.message}", line=line, hint=self.hint)


@dataclass(frozen=True)
class CoveredLabel:
    """A label of the policy, with the ids of the guard's categories that lie inside it and that are wider than it."""

    label: str
    any_of: tuple[str, ...]
    part_of: tuple[str, ...]

    @property
    def named(self) -> tuple[str, ...]:
        """All categories that it names, once each."""
        return tuple(dict.fromkeys([*self.any_of, *self.part_of]))


def union_rows(covered: Sequence[CoveredLabel]) -> list[tuple[str, ...]]:
    """The unions of categories that are searched for: one for each label with a probability, two for each label with
    bounds. It has at least the probability of the categories inside it, and at most that of all it names."""
    rows: list[tuple[str, ...]] = []
    for label in covered:
        rows += [label.any_of, label.named] if label.part_of else [label.any_of]
    return rows


def load_categories(path: Path) -> LabelCategories:
    """Reads a YAML file with categories. Raises InputError with the line of what is wrong."""
    # imported here and above because --help needs the models, but should not wait for polars
    from marginalia.schemas.storage.yaml_files import load_yaml

    return load_yaml(path, LabelCategories, explain=EXPLAIN)


def covered_labels(
    categories: LabelCategories, codes: Mapping[str, str], labels: Sequence[str], guard: str
) -> tuple[CoveredLabel, ...]:
    """The labels that the guard covers, in the order of the policy's `labels`. `codes`: the guard's own categories, by
    id. Raises CategoriesError for an unknown label or category, and for one whose relation to several labels is not
    stated."""
    ids_by_name = _ids_by_name(codes)
    covered: dict[str, CoveredLabel] = {}
    for label, meaning in categories.root.items():
        if label not in labels:
            has = did_you_mean(label, labels) or f"; it has: {', '.join(labels)}"
            raise CategoriesError(f"the policy has no label '{label}'{has}", label)
        lists = {key: tuple(getattr(meaning, key)) for key in KEYS} if isinstance(meaning, LabelMeaning) else {}
        found: dict[str, tuple[str, ...]] = {"any_of": (), "part_of": ()}
        for key, names in (lists or {"any_of": tuple(meaning)}).items():
            at = (label, key) if lists else (label,)
            ids = [_category(name, ids_by_name, codes, guard, *at, number) for number, name in enumerate(names)]
            if repeated := next((name for name in ids if ids.count(name) > 1), None):
                raise CategoriesError(f"'{label}' names the category '{repeated}' twice", *at)
            found[key] = tuple(ids)
        if both := [name for name in found["any_of"] if name in found["part_of"]]:
            problem = f"'{label}': '{both[0]}' is in any_of and in part_of"
            hint = "any_of: the category lies inside the label; part_of: it is wider than the label"
            raise CategoriesError(problem, label, "part_of", hint=hint)
        covered[label] = CoveredLabel(label, found["any_of"], found["part_of"])
    _check_stated(categories, covered)
    return tuple(covered[label] for label in labels if label in covered)


def _ids_by_name(codes: Mapping[str, str]) -> dict[str, set[str]]:
    """Id or code → the ids of the categories that it may mean."""
    found: dict[str, set[str]] = {}
    for category, code in codes.items():
        for name in (category, code):
            found.setdefault(name, set()).add(category)
    return found


def _category(
    name: str, ids_by_name: Mapping[str, set[str]], codes: Mapping[str, str], guard: str, *at: str | int
) -> str:
    meant = sorted(ids_by_name.get(name, ()))
    if not meant:
        near = did_you_mean(name, ids_by_name)
        known = ", ".join(category if code == category else f"{category} ({code})" for category, code in codes.items())
        raise CategoriesError(f"guard {guard} has no category '{name}'{near}", *at, hint=f"it has: {known}")
    if len(meant) > 1:
        others = " and ".join(f"'{category}' (code {codes[category]})" for category in meant)
        raise CategoriesError(f"'{name}' may mean {others}", *at, hint=f"use the id or the code of the other: {others}")
    return meant[0]


def _check_stated(categories: LabelCategories, covered: Mapping[str, CoveredLabel]) -> None:
    """Raises CategoriesError where several labels name a category, and one does not say how it relates to it."""
    labels_of: dict[str, list[str]] = {}
    for label in covered.values():
        for category in label.named:
            labels_of.setdefault(category, []).append(label.label)
    for category, labels in labels_of.items():
        unstated = [label for label in labels if not isinstance(categories.root[label], LabelMeaning)]
        if len(labels) > 1 and unstated:
            names = " and ".join(f"'{label}'" for label in labels)
            raise CategoriesError(
                f"{names} name the same category '{category}'",
                unstated[-1],
                hint=f"for each of them, choose: {{part_of: [{category}]}} if '{category}' is wider than the label, "
                f"which then gets only bounds, or {{any_of: [{category}]}} if all of '{category}' belongs to the label",
            )


def coverage_of(
    covered: Sequence[CoveredLabel], labels: Sequence[str], own: Iterable[str], *, per_label: bool
) -> GuardCoverage:
    """How the guard covers the policy's `labels`. `own`: its categories; `per_label`: it is asked about one per call,
    so that even the union of several is known only within bounds."""
    rows = []
    for label in covered:
        several = len(label.any_of) > 1
        kind: Literal["exact", "union", "bounds"] = "union" if several else "exact"
        if label.part_of or (several and per_label):
            kind = "bounds"
        rows.append(LabelCoverage(label=label.label, kind=kind, any_of=list(label.any_of), part_of=list(label.part_of)))
    named = {category for label in covered for category in label.named}
    known = [label.label for label in covered]
    return GuardCoverage(
        labels=rows,
        not_covered=[label for label in labels if label not in known],
        unused=[category for category in own if category not in named],
    )


def with_mixed_rows(
    coverage: GuardCoverage, covered: Sequence[CoveredLabel], in_first: Sequence[bool], in_second: Sequence[bool]
) -> GuardCoverage:
    """The coverage by a guard with a second call: a label whose categories belong to both calls is known only within
    bounds. `in_first`, `in_second`: for each row of `union_rows`, whether the call decides a part of it."""
    rows, row = [], 0
    for label, found in zip(covered, coverage.labels, strict=True):
        mixed = in_first[row] and in_second[row]
        rows.append(found.model_copy(update={"kind": "bounds"}) if mixed else found)
        row += 2 if label.part_of else 1
    return coverage.model_copy(update={"labels": rows})
