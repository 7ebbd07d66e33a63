"""YAML files that people write, read into pydantic models with errors that name the line and the nearest known key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.errors import InputError, did_you_mean
from schemas.files import read_text
from schemas.strict import ID_PATTERN

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_yaml(path: Path, model: type[ModelT], *, explain: str | None = None) -> ModelT:
    """The YAML mapping in `path` as `model`.

    `explain` is the command that describes a key, with `{key}` in it. Raises InputError for a missing file, text that
    is not YAML or not a mapping, an unknown or repeated key, and a value of the wrong kind, each with its line."""
    text = read_text(path)
    root = _compose(path, text)
    try:
        return model.model_validate(_values(path, text))
    except ValidationError as error:
        raise _explained(path, root, model, error, explain) from error


def find_yaml(kind: str, reference: str, shipped: Path, *, relative_to: Path = Path()) -> Path:
    """The file that a `kind` of thing (guard, taxonomy, mapping) is meant by: a name in the folder `shipped`, or the
    path of a YAML file, relative to `relative_to`. Raises InputError with the shipped names when there is none."""
    named = {path.stem: path for path in sorted(shipped.glob("*.yaml"))}
    if re.fullmatch(ID_PATTERN, reference) and reference in named:
        return named[reference]
    path = relative_to / reference
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise InputError(f"{path}: no such {kind} file", hint=f"or one of the shipped ones: {', '.join(named)}")
    hint = f"shipped: {', '.join(named)}; or the path of a .yaml file"
    raise InputError(f"no {kind} '{reference}'{did_you_mean(reference, named)}", hint=hint)


def _compose(path: Path, text: str) -> yaml.Node:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(path, text, error) from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError.at(path, "expected a mapping of keys to values", line=1)
    _refuse_repeats(path, root, ())
    return root


def _values(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-45 looks like a date
        raise _not_yaml(path, text, error) from error


def _not_yaml(path: Path, text: str, error: Exception) -> InputError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        return InputError.at(path, f"not YAML: the character U+{code:04X}", line=line)
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return InputError.at(path, f"not YAML: {problem}", line=mark.line + 1 if mark else None)


def _refuse_repeats(path: Path, node: yaml.Node, above: tuple[yaml.Node, ...]) -> None:
    """PyYAML lets the later of two equal keys win in silence, and follows an alias into itself for ever."""
    line = node.start_mark.line + 1
    if any(node is outer for outer in above):
        raise InputError.at(path, "an alias stands inside what it names", line=line)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError.at(path, "a key must be a word", line=line)
            if key.value in seen:
                raise InputError.at(
                    path, f"key '{key.value}' stands there twice (first in line {seen[key.value]})", line=line
                )
            seen[key.value] = line
            _refuse_repeats(path, value, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeats(path, item, (*above, node))


def _explained(
    path: Path, root: yaml.Node, model: type[BaseModel], error: ValidationError, explain: str | None
) -> InputError:
    first = error.errors()[0]
    location = first["loc"]
    line = line_of(root, location)
    where = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        key = str(location[-1])
        known = _keys_at(model, location[:-1])
        suggestion = did_you_mean(key, known) or f"; known here: {', '.join(known)}"
        nearest = suggestion.split("'")[1] if suggestion.startswith("; did") else key
        hint = explain.format(key=nearest) if explain and suggestion.startswith("; did") else None
        return InputError.at(path, f"unknown key '{key}'{suggestion}", line=line, hint=hint)
    if first["type"] == "missing":
        return InputError.at(path, f"key '{where}' is missing", line=line, hint=_hint(explain, location))
    message = first["msg"].removeprefix("Value error, ")
    place = f"{where}: " if where else ""
    return InputError.at(path, f"{place}{message}", line=line, hint=_hint(explain, location))


def _hint(explain: str | None, location: tuple[int | str, ...]) -> str | None:
    key = next((part for part in reversed(location) if isinstance(part, str)), None)
    return explain.format(key=key) if explain and key else None


def line_of(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest part of `location` that the document has."""
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        if isinstance(part, str) and part in fields:
            current = _model_in(fields[part].annotation)
    return sorted(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside `list[M]`, `M | None`, `dict[str, M]`, or the annotation itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return annotation
