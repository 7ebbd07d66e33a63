"""Checks the prompt templates of guard files when the file is read. Templates are parsed but never run: Jinja's
compiler is not used either, because it evaluates constant expressions."""

from __future__ import annotations

from pathlib import Path

from jinja2 import TemplateSyntaxError, nodes

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.scoring.prompt_spec import VARIABLES, PromptSpec
from marginalia.scoring.rendering_process import chat_environment, guard_environment

IN_FRAME = ("message",)  # variables of prompt.frame, in addition to the arguments


def check_templates(path: Path, prompt: PromptSpec, *keys: str, hint: str, also: tuple[str, ...] = ()) -> None:
    """Raises InputError, with the line in the guard file at `path`, for a template that does not parse or that uses a
    variable whose name is probably misspelt.

    `keys`: where `prompt` is in the file; `also`: variables that only these templates have."""
    for at, source in prompt.templates():
        arguments = () if at[0] == "arguments" else tuple(prompt.arguments)
        _check_template(path, (*keys, *at), source, (*VARIABLES, *also, *arguments), hint)
    if prompt.frame is not None:
        _check_template(path, (*keys, "frame"), prompt.frame, (*IN_FRAME, *prompt.arguments), hint)


def _check_template(path: Path, at: tuple[str | int, ...], source: str, known: tuple[str, ...], hint: str) -> None:
    environment = guard_environment()
    try:
        parsed = environment.parse(source)
    except TemplateSyntaxError as error:
        problem = f"the template does not parse: {error.message}"
        raise _error_at(path, at, problem, within=error.lineno, hint=hint) from error
    except RecursionError as error:
        raise _error_at(path, at, "the template is nested too deeply", within=1, hint=hint) from error
    for name in sorted(_names(parsed) - {*known, *environment.globals}):
        if near := did_you_mean(name, known):
            line = source[: source.index(name)].count("\n") + 1
            problem = f"the template uses the unknown variable '{name}'{near}"
            raise _error_at(path, at, problem, within=line, hint=hint)


def names_in_chat_template(source: str) -> set[str] | None:
    """The variables that a tokenizer's chat template uses; None for one that does not parse."""
    try:
        parsed = chat_environment().parse(source)
    except (TemplateSyntaxError, RecursionError):
        return None
    # a template may give a variable its default value with {% set %}, so names that are set count as well
    return {name.name for name in parsed.find_all(nodes.Name) if name.ctx == "load"}


def _names(parsed: nodes.Template) -> set[str]:
    """The variables that a template uses and does not set."""
    names = list(parsed.find_all(nodes.Name))
    return {name.name for name in names if name.ctx == "load"} - {name.name for name in names if name.ctx != "load"}


def _error_at(path: Path, at: tuple[str | int, ...], problem: str, *, within: int, hint: str) -> InputError:
    """An error at a line of a template. `within`: the line inside the template, from 1. A template of several lines
    begins below its key."""
    line = line_in(path, *at)
    lines = path.read_text(encoding="utf-8").split("\n")
    block = lines[line - 1].rstrip().endswith(("|", "|-", "|+", ">", ">-", ">+"))
    return InputError.at(path, f"{dotted(at)}: {problem}", line=line + within if block else line, hint=hint)


def dotted(keys: tuple[str | int, ...]) -> str:
    """Keys as messages name them: prompt.messages[0].content."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
