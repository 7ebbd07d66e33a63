"""Guard files: a guard family's prompt, the language of its answers, and its label codes by taxonomy id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.label_coverage import GuardCoverage
from marginalia.schemas.storage.yaml_files import find_yaml, line_in, load_yaml
from marginalia.schemas.taxonomy import Label, Taxonomy, load_taxonomy, taxonomy_path
from marginalia.scoring.answer_compiler import answer_language
from marginalia.scoring.guard_file import VERDICT, GuardFile, Side
from marginalia.scoring.guard_kinds import GENERATIVE, kind_of
from marginalia.scoring.label_categories import (
    CategoriesError,
    CoveredLabel,
    LabelCategories,
    coverage_of,
    covered_labels,
    load_categories,
    union_rows,
    with_mixed_rows,
)
from marginalia.scoring.language.answer_language import AnswerLanguage
from marginalia.scoring.language.code_unions import with_unions
from marginalia.scoring.prompt_spec import EXPLAIN
from marginalia.scoring.prompt_templates import check_templates
from marginalia.scoring.second_call import (
    SecondCallError,
    SecondCallRows,
    first_file,
    second_call_rows,
    second_file,
    verdict_word,
)

SHIPPED = Path(__file__).parent / "guards"


@dataclass(frozen=True)
class Guard:
    """A guard file with its taxonomy. `labels`: the taxonomy ids, in the order of the codes; `categories`: what its
    prompt knows about each; `language`: the answers that it may give.

    With `categories` in the config, `labels` are the policy's labels that the guard covers, `covered` says which
    categories each consists of, `coverage` also what is left out, and the language's rows are those of `union_rows`.

    A guard with `calls: per_label` has one guard per prompt (`calls`), each with the one category that is asked for and
    a language of verdicts only. scoring/per_label_results.py combines their answers. `is_call`: it is one of these.

    A guard with a `second` call also has two guards: `first` and `second`, with `verdict`, the word of the first answer
    that led to it. `second` says which rows each call decides; scoring/second_call_results.py combines them."""

    file: GuardFile
    labels: tuple[str, ...]
    categories: tuple[Category, ...]
    language: AnswerLanguage
    covered: tuple[CoveredLabel, ...] | None = None
    coverage: GuardCoverage | None = None
    is_call: bool = False
    second: SecondCallRows | None = None
    verdict: str | None = None
    path: Path | None = None  # of the file, for errors that are found later

    @property
    def name(self) -> str:
        """The guard family's id, as in the file."""
        return self.file.guard

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of its scores: the labels, then the verdict."""
        return (*self.labels, VERDICT)

    @property
    def per_label(self) -> bool:
        """Whether it is asked about one label per call."""
        return self.file.calls == "per_label" and not self.is_call

    @property
    def calls(self) -> dict[str, Guard]:
        """The guards of its calls, by name: empty where it is asked once. With one policy per call, the names are rows:
        `unsafe` when the file has an `overall` policy, and no category that no label of the policy consists of."""
        if (second := self.second) is not None:
            alone = replace(self, labels=(), covered=None, coverage=None, second=None, is_call=True)
            verdict = verdict_word(self.file, {category.id: category.code for category in self.categories})
            return {
                "first": replace(alone, file=first_file(self.file), language=second.first),
                "second": replace(alone, file=second_file(self.file), language=second.second, verdict=verdict),
            }
        if not self.per_label:
            return {}
        named = None if self.covered is None else {name for label in self.covered for name in label.named}
        policies = {category.id: category for category in self.categories if named is None or category.id in named}
        if (overall := self.file.overall) is not None:
            policies[VERDICT] = Category(overall.name, VERDICT, overall.name, overall.definition, (), (), ())
        return {
            row: Guard(self.file, (), (policy,), self.language, is_call=True, path=self.path)
            for row, policy in policies.items()
        }

    @property
    def sides(self) -> dict[str, Side]:
        """Row → whose message it judges alone, for the rows in the file's `sides`."""
        return {row: side for side, rows in self.file.sides.items() for row in rows}

    def refused(self, problem: str, *at: str | int, hint: str = EXPLAIN) -> InputError:
        """The error for a part of the file that does not fit. `at`: its keys and indices."""
        if self.path is None or not self.path.exists():  # the file's text came from another machine
            return InputError(f"guard {self.name}: {problem}", hint=hint)
        if self.verdict is not None and at[0] == "answer":
            at = ("second", *at)
        return InputError.at(self.path, problem, line=line_in(self.path, *at), hint=hint)


@dataclass(frozen=True)
class Category:
    """One label, as prompt templates see it."""

    code: str
    id: str
    name: str
    definition: str
    includes: tuple[str, ...]
    excludes: tuple[str, ...]
    examples: tuple[str, ...]


def load_guard(
    reference: str,
    taxonomy: Taxonomy | None = None,
    *,
    relative_to: Path = Path(),
    categories: str | LabelCategories | None = None,
    own_taxonomy: Taxonomy | None = None,
) -> Guard:
    """Loads a guard by its shipped name or the path of a guard file, for `taxonomy` (default: the file's own).

    `categories`, or the path of a YAML file with them: which of the guard's own categories each label of `taxonomy`
    consists of. Without them, the guard's labels must be labels of the taxonomy. `own_taxonomy`: the taxonomy of the
    guard's categories, if it is not to be read from the file's.

    Raises InputError for an unknown name, an invalid file, a guard of another kind (score_sources/source_guard.py loads
    these), or labels that the taxonomy does not have; its subclass CategoriesError for `categories` that do not fit."""
    if categories is None:
        return _load(reference, taxonomy, relative_to)
    if isinstance(categories, str):
        file = relative_to / categories
        try:
            loaded = load_categories(file)
            return load_guard(reference, taxonomy, relative_to=relative_to, categories=loaded)
        except CategoriesError as error:
            raise error.located(file) from error
    if taxonomy is None:
        raise InputError("categories needs the policy's taxonomy", hint="give it with --taxonomy (taxonomy=…)")
    guard = _load(reference, own_taxonomy, relative_to, mapped=True)
    codes = {category.id: category.code for category in guard.categories}
    covered = covered_labels(categories, codes, taxonomy.ids, guard.name)
    coverage = coverage_of(covered, taxonomy.ids, codes, per_label=guard.per_label)
    language, second = guard.language, guard.second
    if second is not None:
        second = second_call_rows(guard.file, codes, language, union_rows(covered))
        coverage = with_mixed_rows(coverage, covered, second.in_first, second.in_second)
    elif not guard.per_label:
        language = with_unions(language, [*codes, VERDICT], [*union_rows(covered), (VERDICT,)])
    return replace(
        guard,
        labels=tuple(label.label for label in covered),
        language=language,
        covered=covered,
        coverage=coverage,
        second=second,
    )


def _load(reference: str, taxonomy: Taxonomy | None, relative_to: Path, *, mapped: bool = False) -> Guard:
    path = guard_path(reference, relative_to=relative_to)
    if (kind := kind_of(path)) != GENERATIVE:
        problem = f"a guard of kind {kind} only gives scores: it has no prompt, and no answers to check or explain"
        raise InputError.at(path, problem, line=line_in(path, "kind"), hint="marginalia score and Scorer.load take it")
    file = load_yaml(path, GuardFile, explain=EXPLAIN)
    check_templates(path, file.prompt, "prompt", hint=EXPLAIN)
    if file.second is not None:
        check_templates(path, file.second.prompt, "second", "prompt", hint=EXPLAIN, also=("verdict",))
    if taxonomy is None:
        if file.taxonomy is None and mapped:
            hint = "remove the setting categories: the guard is asked about the labels of your taxonomy"
            raise InputError.at(path, "has no categories of its own", hint=hint)
        if file.taxonomy is None:
            raise InputError.at(
                path, "has no taxonomy of its own", hint="give one with --taxonomy, or taxonomy=… in Python"
            )
        try:
            taxonomy = load_taxonomy(file.taxonomy, relative_to=path.parent)
        except InputError as error:
            raise error.for_setting(path, "taxonomy", line=line_in(path, "taxonomy")) from error
    codes = _codes(path, file, taxonomy)
    try:
        language = answer_language(file, codes)
    except ValueError as error:
        raise InputError.at(path, str(error), line=line_in(path, "answer"), hint=EXPLAIN) from error
    try:
        second = None if file.second is None else second_call_rows(file, codes, language)
    except SecondCallError as error:
        raise InputError.at(path, f"second: {error}", line=line_in(path, *error.at), hint=EXPLAIN) from error
    for key in ("names", "definitions"):
        for label in sorted(getattr(file, key).keys() - codes.keys()):
            problem = f"'{label}' in '{key}' is not one of the guard's labels{did_you_mean(label, codes)}"
            raise InputError.at(path, problem, line=line_in(path, key, label), hint=EXPLAIN)
    categories = tuple(_category(code, taxonomy.label(label), file) for label, code in codes.items())
    return Guard(file, tuple(codes), categories, language, second=second, path=path)


def guard_path(reference: str, *, relative_to: Path = Path()) -> Path:
    """The path of a guard file. Raises InputError with the shipped names when there is no such guard."""
    return find_yaml("guard", reference, SHIPPED, relative_to=relative_to)


def named_taxonomy(reference: str) -> Path:
    """The path of a taxonomy: a shipped name, the name of a guard's own taxonomy, such as `wildguard`, or a YAML file.

    Raises InputError with the shipped names when there is no such taxonomy."""
    own = {path.stem: path for path in (SHIPPED / "taxonomies").glob("*.yaml")}
    return own[reference] if reference in own else taxonomy_path(reference)


def _codes(path: Path, file: GuardFile, taxonomy: Taxonomy) -> dict[str, str]:
    if file.codes is not None:
        return {label: file.codes.replace("{n}", str(number)) for number, label in enumerate(taxonomy.ids, start=1)}
    assert file.labels is not None
    for label in file.labels:
        if label not in taxonomy.ids:
            near = did_you_mean(label, taxonomy.ids)
            of = "the taxonomy " + file.taxonomy if file.taxonomy else "another taxonomy"
            hint = f"guard {file.guard} is for {of}"
            if taxonomy.id != file.taxonomy:
                hint += "; categories says which of its labels mean those of your policy"
            problem = f"label '{label}' is not in the taxonomy {taxonomy.id}{near}"
            raise InputError.at(path, problem, line=line_in(path, "labels", label), hint=hint)
    return file.labels


def _category(code: str, label: Label, file: GuardFile) -> Category:
    lists = (tuple(label.includes), tuple(label.excludes), tuple(label.examples))
    name = file.names.get(label.id, label.name)
    return Category(code, label.id, name, file.definitions.get(label.id, label.definition), *lists)
