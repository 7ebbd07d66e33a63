"""Prompt templates: Jinja files that a user may replace, run in a sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schemas.errors import InputError
from schemas.files import content_hash, read_text

SHIPPED = Path(__file__).parent / "templates"
FILES = ("system.j2", "user.j2")


@dataclass(frozen=True)
class Templates:
    """The two templates of a prompt. `sha256` is of their texts, for the manifest."""

    system: Template
    user: Template
    folder: Path
    sha256: str

    def messages(self, variables: dict[str, Any]) -> list[dict[str, str]]:
        """The chat of one prompt; an empty system message is left out. Raises InputError with the template's fault."""
        texts = {}
        for role, template in (("system", self.system), ("user", self.user)):
            try:
                texts[role] = template.render(variables).strip()
            except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
                raise InputError.at(
                    self.folder / f"{role}.j2", f"{type(error).__name__}: {error}", hint="mend the template"
                ) from error
        if not texts["user"]:
            raise InputError.at(self.folder / "user.j2", "renders to nothing", hint="mend the template")
        return [{"role": role, "content": text} for role, text in texts.items() if text]


def template_folder(reference: str, *, relative_to: Path) -> Path:
    """Where the templates of config key generate.templates lie: a shipped name, or a folder relative to the run."""
    shipped = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    folder = SHIPPED / reference if reference in shipped else relative_to / reference
    if not folder.is_dir():
        hint = f"generate.templates: {', '.join(shipped)}, or a folder with {' and '.join(FILES)}"
        raise InputError.at(folder, "no such template folder", hint=hint)
    return folder


def load_templates(folder: Path) -> Templates:
    """Raises InputError for a missing file and for a syntax error, with its line."""
    # no autoescape: the result is a prompt, not HTML; texts of people and models come in as values only
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    texts = {name: read_text(folder / name) for name in FILES}
    compiled = {}
    for name, text in texts.items():
        try:
            compiled[name] = environment.from_string(text)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            raise InputError.at(folder / name, f"not a template: {error}", line=line) from error
    return Templates(compiled["system.j2"], compiled["user.j2"], folder, content_hash(texts))
