"""Prompt templates: Jinja files that the user can replace, rendered in a sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import content_hash, read_text

SHIPPED = Path(__file__).parent / "templates"
FILES = ("system.j2", "user.j2")
EXAMPLE_FILE = "example.j2"
SHARED = {"taxonomy", "no_label", "structured"}  # variables that are the same in all prompts of a run


@dataclass(frozen=True)
class Templates:
    """The templates of a prompt. `sha256` is the hash of their texts, for the manifest; `variables` has, by file name,
    the variables that a template uses. A template that uses only variables in SHARED is rendered once.

    `example` is optional. With it, each few-shot example is a turn of its own (the template asks, the example answers),
    which small models follow better than a list."""

    system: Template
    user: Template
    example: Template | None
    folder: Path
    sha256: str
    variables: dict[str, set[str]]
    _rendered: dict[str, str] = field(default_factory=dict)

    def mention(self, variable: str) -> bool:
        """Whether one of the templates uses the variable."""
        return any(variable in names for names in self.variables.values())

    def messages(self, variables: dict[str, Any]) -> list[dict[str, str]]:
        """The messages of one prompt, without empty ones. Raises InputError for an error in a template."""
        turns = [("system", self._render(self.system, "system.j2", variables))]
        if self.example is not None:
            for example in variables["examples"]:
                asked = self._render(self.example, EXAMPLE_FILE, {**variables, "example": example})
                turns += [("user", asked), ("assistant", example["text"])]
        turns.append(("user", self._render(self.user, "user.j2", variables)))
        if not turns[-1][1]:
            raise InputError.at(self.folder / "user.j2", "renders to an empty text", hint="fix the template")
        return [{"role": role, "content": text} for role, text in turns if text]

    def _render(self, template: Template, name: str, variables: dict[str, Any]) -> str:
        if name in self._rendered:
            return self._rendered[name]
        try:
            text = template.render(variables).strip()
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            message = f"{type(error).__name__}: {error}"
            raise InputError.at(self.folder / name, message, hint="fix the template") from error
        if self.variables[name] <= SHARED:
            self._rendered[name] = text
        return text


def template_folder(reference: str, *, relative_to: Path) -> Path:
    """The folder of generate.templates: a shipped name, or a folder relative to the run. Raises InputError when there
    is none."""
    shipped = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    folder = SHIPPED / reference if reference in shipped else relative_to / reference
    if not folder.is_dir():
        hint = f"generate.templates: {', '.join(shipped)}, or a folder with {' and '.join(FILES)}"
        raise InputError.at(folder, "template folder not found", hint=hint)
    return folder


def load_templates(folder: Path) -> Templates:
    """The templates in a folder. Raises InputError for a missing file, and for a syntax error with its line."""
    # no autoescape: the result is a prompt, not HTML; texts by users and models are only inserted as values
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    names = [*FILES, EXAMPLE_FILE] if (folder / EXAMPLE_FILE).exists() else FILES
    texts = {name: read_text(folder / name) for name in names}
    compiled, variables = {}, {}
    for name, text in texts.items():
        try:
            compiled[name] = environment.from_string(text)
            variables[name] = find_undeclared_variables(environment.parse(text))
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            raise InputError.at(folder / name, f"not a template: {error}", line=line) from error
    return Templates(
        system=compiled["system.j2"],
        user=compiled["user.j2"],
        example=compiled.get(EXAMPLE_FILE),
        folder=folder,
        sha256=content_hash(texts),
        variables=variables,
    )
