"""YAML files that users write, read into pydantic models. Errors name the line and the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from marginalia.schemas.base_model import ID_PATTERN, LOCATED
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.storage.files import read_text
from marginalia.schemas.text_checks import text_problem, too_long

# pydantic's errors to which the value is added; never errors about strings, which could be an API key
_SHOWN = re.compile(r"(int|float|bool)_\w+|literal_error|(greater|less)_than\w*|finite_number")
ModelT = TypeVar("ModelT", bound=BaseModel)
MOST_BYTES = 1 << 26  # of the file; the text in it is limited further
FEW_PAGES = "expected a file of a few pages"
MOST_VALUES = 50_000  # keys and values of a file, with the values of each alias counted again


class _TooManyError(Exception):
    """The file has more than MOST_VALUES keys and values."""


class _CountingLoader(yaml.SafeLoader):
    """Stops after MOST_VALUES values, and makes values of the nodes that it has composed before."""

    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.composed += 1
        if self.composed > MOST_VALUES:
            raise _TooManyError
        return super().compose_node(parent, index)


def load_yaml(path: Path, model: type[ModelT], *, explain: str | None = None) -> ModelT:
    """The YAML mapping in `path` as `model`.

    `explain` is the command or file that describes a key; `{key}` in it is replaced by the key. Raises InputError, with
    the line, for a missing file, text that is not YAML or not a mapping, invisible characters, an unknown or duplicate
    key, and a value of the wrong type."""
    text = read_text(path, most_bytes=MOST_BYTES)
    if problem := too_long(text):
        raise InputError.at(path, problem, hint=FEW_PAGES)
    root = _compose(path, text, explain)
    try:
        return model.model_validate(_values(path, text, root))
    except ValidationError as error:
        raise _explained(path, root, model, error, explain) from error


def line_in(path: Path, *location: int | str) -> int:
    """The line of the key at `location` in a file that `load_yaml` accepted, for an error that is found later."""
    return line_of(_compose(path, read_text(path, most_bytes=MOST_BYTES)), location)


def find_yaml(kind: str, reference: str, shipped: Path, *, relative_to: Path = Path()) -> Path:
    """The path of a guard, taxonomy or mapping (`kind`, for messages): `reference` is the name of a file in the folder
    `shipped`, or the path of a YAML file relative to `relative_to`. Raises InputError with the shipped names."""
    named = {path.stem: path for path in sorted(shipped.glob("*.yaml"))}
    if re.fullmatch(ID_PATTERN, reference) and reference in named:
        return named[reference]
    path = relative_to / reference
    if path.suffix in (".yaml", ".yml"):
        if path.exists() and not path.is_dir():
            return path
        raise InputError(f"{path}: no such {kind} file", hint=f"give its path, or a shipped name: {', '.join(named)}")
    hint = f"shipped: {', '.join(named)}; or give the path of a .yaml file"
    raise InputError(f"no {kind} '{reference}'{did_you_mean(reference, named)}", hint=hint)


def _compose(path: Path, text: str, explain: str | None = None) -> yaml.Node:
    try:
        root = yaml.compose(text, Loader=_CountingLoader)
    except _TooManyError:
        raise _too_many_values(path) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(path, text, error) from error
    if not isinstance(root, yaml.MappingNode):
        seen = {yaml.SequenceNode: "a list", yaml.ScalarNode: "one value"}.get(type(root), "nothing")
        hint = explain.format(key="KEY") if explain else None
        raise InputError.at(path, f"expected keys with values, saw {seen}", line=1, hint=hint)
    if _expanded(root, {}) > MOST_VALUES:
        raise _too_many_values(path)
    _check_node(path, root, ())
    return root


def _too_many_values(path: Path) -> InputError:
    return InputError.at(path, f"more than {MOST_VALUES:,} keys and values, aliases expanded", hint=FEW_PAGES)


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many keys and values the node has when each alias is replaced by what it names; 0 inside a recursive one,
    which _check_node refuses. `known`: the numbers of the nodes that were counted before."""
    if id(node) not in known:
        known[id(node)] = 0
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        known[id(node)] = 1 + sum(_expanded(part, known) for part in parts)
    return known[id(node)]


def _values(path: Path, text: str, root: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(root)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-45 looks like a date
        raise _not_yaml(path, text, error) from error


def _not_yaml(path: Path, text: str, error: Exception) -> InputError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        problem = f"not YAML: the character U+{code:04X}"
        return InputError.at(path, problem, line=line, hint="remove it from the file")
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return InputError.at(path, f"not YAML: {problem}", line=mark.line + 1 if mark else None)


def _check_node(path: Path, node: yaml.Node, parents: tuple[yaml.Node, ...]) -> None:
    """Refuses what PyYAML accepts: duplicate keys (the last wins), recursive aliases (which it follows endlessly), and
    escaped characters that text may not contain."""
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode) and (problem := text_problem(node.value)):
        raise InputError.at(path, problem, line=line, hint="remove it from the file")
    if any(node is parent for parent in parents):
        raise InputError.at(path, "recursive alias", line=line, hint="write the values out")
    if isinstance(node, yaml.MappingNode):
        line_of_key: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError.at(path, "a key must be a single word", line=line)
            if key.value in line_of_key:
                raise InputError.at(
                    path, f"duplicate key '{key.value}', first in line {line_of_key[key.value]}", line=line
                )
            line_of_key[key.value] = line
            _check_node(path, value, (*parents, node))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_node(path, item, (*parents, node))


def _explained(
    path: Path, root: yaml.Node, model: type[BaseModel], error: ValidationError, explain: str | None
) -> InputError:
    errors = error.errors()
    first = _misspelt(errors) or errors[0]
    location = (*first["loc"], *first.get("ctx", {}).get("at", ()))
    line = line_of(root, location)
    where = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        key = str(location[-1])
        known = _keys_at(model, location[:-1])
        near = did_you_mean(key, known)
        hint = _hint(explain, (near.split("'")[1],)) if near else _hint(explain, ())
        return InputError.at(
            path, f"unknown key '{key}'{near or '; expected one of ' + ', '.join(known)}", line=line, hint=hint
        )
    if first["type"] == "missing":
        seen = ", ".join(map(str, first["input"])) if isinstance(first["input"], dict) else ""
        has = f"; it has {seen[:200]}" if seen else ""
        return InputError.at(path, f"key '{where}' is missing{has}", line=line, hint=_hint(explain, location))
    if first["type"] == LOCATED:
        return InputError.at(path, first["msg"], line=line, hint=first["ctx"]["hint"])
    prefix = f"{where}: " if where else ""
    return InputError.at(path, prefix + _message(first), line=line, hint=_hint(explain, location))


def _misspelt(errors: Sequence[ErrorDetails]) -> ErrorDetails | None:
    """If the first error is a missing key: the error about an unknown key next to it with a similar name."""
    if errors[0]["type"] != "missing":
        return None
    *section, key = errors[0]["loc"]
    unknown = [error for error in errors if error["type"] == "extra_forbidden" and [*error["loc"][:-1]] == section]
    return next((error for error in unknown if did_you_mean(str(error["loc"][-1]), [str(key)])), None)


def _message(error: ErrorDetails) -> str:
    """The message of pydantic, with the value if it may be shown."""
    message, value = error["msg"].removeprefix("Value error, "), error["input"]
    if error["type"] == "string_type" and isinstance(value, int | float):
        return f"{message}, saw {value}: put it in quotes"
    if error["type"] in ("model_type", "dict_type"):
        message = "expected keys with values"
    if value is None:
        return f"{message}, saw nothing"
    shown = repr(value[:40]) if isinstance(value, str) else str(value)[:40]
    if error["type"] == "literal_error" and isinstance(value, str):
        shown += did_you_mean(value, re.findall("'([^']*)'", error.get("ctx", {}).get("expected", "")))
    return f"{message}, saw {shown}" if _SHOWN.fullmatch(error["type"]) else message


def _hint(explain: str | None, location: Sequence[int | str]) -> str | None:
    """`explain` for the last key of `location`; None if it needs a key and there is none."""
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    return explain.format(key=key) if explain and (key or "{key}" not in explain) else None


def line_of(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest part of `location` that exists in the document."""
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            item = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if item is None:
                break
            line, node = item[0].start_mark.line + 1, item[1]
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
        model = _model_in(argument)
        if isinstance(model, type) and issubclass(model, BaseModel):
            return model
    return annotation
