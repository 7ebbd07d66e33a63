"""YAML files that people write, read into pydantic models with errors that name the line and the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from marginalia.schemas.base_model import ID_PATTERN
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.storage.files import read_text
from marginalia.schemas.text_checks import flaw_of, too_long

# errors of pydantic's that tell more with the value beside them; never those of texts, which may be a key
_SHOWN = re.compile(r"(int|float|bool)_\w+|literal_error|(greater|less)_than\w*|finite_number")
ModelT = TypeVar("ModelT", bound=BaseModel)


def load_yaml(path: Path, model: type[ModelT], *, explain: str | None = None) -> ModelT:
    """The YAML mapping in `path` as `model`.

    `explain` is the command or file that describes a key; `{key}` in it stands for that key. Raises InputError for a
    missing file, text that is not YAML or not a mapping, hidden characters, an unknown or repeated key, and a value of
    the wrong kind, each with its line."""
    text = read_text(path)
    if problem := too_long(text):
        raise InputError.at(path, problem, hint="such a file holds a few pages")
    root = _compose(path, text, explain)
    try:
        return model.model_validate(_values(path, text))
    except ValidationError as error:
        raise _explained(path, root, model, error, explain) from error


def line_in(path: Path, *location: int | str) -> int:
    """The line of `location` in a file that load_yaml has taken, for what turns out to be wrong with it later."""
    return line_of(_compose(path, read_text(path)), location)


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


def _compose(path: Path, text: str, explain: str | None = None) -> yaml.Node:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(path, text, error) from error
    if not isinstance(root, yaml.MappingNode):
        seen = {yaml.SequenceNode: "a list", yaml.ScalarNode: "one value"}.get(type(root), "nothing")
        hint = explain.format(key="KEY") if explain else None
        raise InputError.at(path, f"expected keys with values, saw {seen}", line=1, hint=hint)
    _check_node(path, root, ())
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
        problem = f"not YAML: the character U+{code:04X}"
        return InputError.at(path, problem, line=line, hint="take it out of the file")
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return InputError.at(path, f"not YAML: {problem}", line=mark.line + 1 if mark else None)


def _check_node(path: Path, node: yaml.Node, above: tuple[yaml.Node, ...]) -> None:
    """PyYAML lets the later of two equal keys win in silence, follows an alias into itself for ever, and takes any
    character that is escaped."""
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode) and (problem := flaw_of(node.value)):
        raise InputError.at(path, problem, line=line, hint="take it out of the file")
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
            _check_node(path, value, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_node(path, item, (*above, node))


def _explained(
    path: Path, root: yaml.Node, model: type[BaseModel], error: ValidationError, explain: str | None
) -> InputError:
    found = error.errors()
    first = _misspelt(found) or found[0]
    location = (*first["loc"], *first.get("ctx", {}).get("at", ()))
    line = line_of(root, location)
    where = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        key = str(location[-1])
        known = _keys_at(model, location[:-1])
        near = did_you_mean(key, known)
        hint = _hint(explain, (near.split("'")[1] if near else key,), known=bool(near))
        return InputError.at(
            path, f"unknown key '{key}'{near or '; known here: ' + ', '.join(known)}", line=line, hint=hint
        )
    if first["type"] == "missing":
        seen = ", ".join(map(str, first["input"])) if isinstance(first["input"], dict) else ""
        has = f"; it has {seen[:200]}" if seen else ""
        return InputError.at(path, f"key '{where}' is missing{has}", line=line, hint=_hint(explain, location))
    if first["type"] == "flaw":
        return InputError.at(path, first["msg"], line=line, hint=first["ctx"]["hint"])
    place = f"{where}: " if where else ""
    return InputError.at(path, place + _said(first), line=line, hint=_hint(explain, location))


def _misspelt(found: Sequence[ErrorDetails]) -> ErrorDetails | None:
    """Of a key that is missing and one that is unknown in the same place and looks like it, the unknown one."""
    if found[0]["type"] != "missing":
        return None
    *above, key = found[0]["loc"]
    unknown = [one for one in found if one["type"] == "extra_forbidden" and [*one["loc"][:-1]] == above]
    return next((one for one in unknown if did_you_mean(str(one["loc"][-1]), [str(key)])), None)


def _said(error: ErrorDetails) -> str:
    """pydantic's words, with what was seen where that can be shown."""
    message, value = error["msg"].removeprefix("Value error, "), error["input"]
    if error["type"] == "string_type" and isinstance(value, int | float):
        return f"{message}, saw {value}: put it in quotes"
    if error["type"] in ("model_type", "dict_type"):
        message = "expected keys with values"
    if value is None:
        return f"{message}, saw nothing"
    shown = repr(value[:40]) if isinstance(value, str) else str(value)[:40]
    return f"{message}, saw {shown}" if _SHOWN.fullmatch(error["type"]) else message


def _hint(explain: str | None, location: Sequence[int | str], *, known: bool = True) -> str | None:
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    # a key that nothing is like has no explanation of its own
    return explain.format(key=key) if explain and ((known and key) or "{key}" not in explain) else None


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
