"""Checks the prompt templates of guard files when the file is read. Templates are parsed but never run: Jinja's
compiler is not used either, because it evaluates constant expressions."""

from __future__ import annotations

from pathlib import Path

from jinja2 import TemplateSyntaxError, nodes

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.scoring.rendering_process import guard_environment

IN_MESSAGE = ("categories", "conversation", "last_role")  # variables of prompt.message
IN_FRAME = ("message",)  # variables of prompt.frame


def check_templates(path: Path, message: str, frame: str | None, *, hint: str) -> None:
    """Raises InputError, with the line in the guard file at `path`, for a template that does not parse or that uses a
    variable whose name is probably misspelt."""
    environment = guard_environment()
    for key, source, known in (("message", message, IN_MESSAGE), ("frame", frame or "", IN_FRAME)):
        try:
            parsed = environment.parse(source)
        except TemplateSyntaxError as error:
            raise _error_at(
                path, key, f"the template does not parse: {error.message}", within=error.lineno, hint=hint
            ) from error
        except RecursionError as error:
            raise _error_at(path, key, "the template is nested too deeply", within=1, hint=hint) from error
        for name in sorted(_names(parsed) - {*known, *environment.globals}):
            if near := did_you_mean(name, known):
                line = source[: source.index(name)].count("\n") + 1
                raise _error_at(
                    path, key, f"the template uses the unknown variable '{name}'{near}", within=line, hint=hint
                )


def _names(parsed: nodes.Template) -> set[str]:
    """The variables that a template uses and does not set."""
    names = list(parsed.find_all(nodes.Name))
    return {name.name for name in names if name.ctx == "load"} - {name.name for name in names if name.ctx != "load"}


def _error_at(path: Path, key: str, problem: str, *, within: int, hint: str) -> InputError:
    """An error at a line of a template. `within`: the line inside the template, from 1. A template of several lines
    begins below its key."""
    line = line_in(path, "prompt", key)
    lines = path.read_text(encoding="utf-8").split("\n")
    block = lines[line - 1].rstrip().endswith(("|", "|-", "|+", ">", ">-", ">+"))
    return InputError.at(path, f"prompt.{key}: {problem}", line=line + within if block else line, hint=hint)
