"""A commented config.yaml and descriptions of its keys, both made from the pydantic models."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.terminal import table, terminal_width

WIDTH = 110  # characters per line


def config_text(
    model: type[BaseModel], values: Mapping[str, Any], chosen: Collection[str] = (), hidden: Collection[str] = ()
) -> str:
    """YAML with every key of `model` below its description.

    All keys are dotted paths. Keys in `values` get that value, those in `chosen` their default; all others are
    commented out as `#key: default`. A section with only commented keys would be read as null, so its first key is
    not commented out. `hidden` keys are left out."""
    return "\n".join(_section(model, values, set(chosen), set(hidden), "")) + "\n"


def _section(
    model: type[BaseModel], values: Mapping[str, Any], chosen: set[str], hidden: set[str], path: str
) -> list[str]:
    indent = "  " * path.count(".")
    fields = {name: field for name, field in _own_first(model).items() if path + name not in hidden}
    active = {name for name in fields if path + name in values or path + name in chosen}
    if not active and all(section_of(field) is None for field in fields.values()):
        active = {next(iter(fields))}
    lines: list[str] = []
    for name, field in fields.items():
        inner = section_of(field)
        if inner is not None:
            lines += ["", *_comment(_doc(inner), indent), f"{indent}{name}:"]
            lines += _section(inner, values, chosen, hidden, f"{path}{name}.")
            continue
        lines += _comment(field.description or "", indent)
        value = values[path + name] if path + name in values else _default(field)
        item = _model_in(field.annotation)
        entry = _items(name, item, value) if item and isinstance(value, list) and value else _entry(name, value)
        lines += [f"{indent}{'' if name in active else '#'}{line}" for line in entry]
    return lines


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section; None for any other field."""
    return field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) else None


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return None if default is PydanticUndefined else _plain(default)


def _plain(value: Any) -> Any:
    """The value as YAML types."""
    if isinstance(value, BaseModel):
        return _plain({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _entry(name: str, value: Any) -> list[str]:
    """`name: value` on one line if it fits, else as a block."""
    flat = f"{name}: {_flat(value)}"
    if len(flat) <= WIDTH:
        return [flat]
    return yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=WIDTH).rstrip("\n").split("\n")


def _items(name: str, model: type[BaseModel], values: list[Mapping[str, Any]]) -> list[str]:
    """A list of sections, each with all its keys; those that are not in its values are commented out."""
    lines = [f"{name}:"]
    for value in values:
        for index, (key, field) in enumerate(_own_first(model).items()):
            entry = _entry(key, value[key] if key in value else _default(field))
            lines += _comment(field.description or "", "    ")
            lines += [f"  {'  ' if index else '- '}{'' if key in value else '#'}{line}" for line in entry]
    return lines


def _own_first(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys that the model itself defines, then the inherited ones, those of the nearest base first."""
    bases = [inspect.get_annotations(base) for base in model.__mro__]
    order = {name: next(depth for depth, own in enumerate(bases) if name in own) for name in model.model_fields}
    return dict(sorted(model.model_fields.items(), key=lambda item: order[item[0]]))


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(text, WIDTH - len(indent))]


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def explain(model: type[BaseModel], key: str) -> str:
    """Description, type and default of every setting with this key (or dotted path).

    Raises InputError with the nearest known key when there is none."""
    entries = [entry for entry in _walk(model, "") if entry[0] == key or entry[0].endswith(f".{key}")]
    if not entries:
        known = dict.fromkeys(name for path, _, _ in _walk(model, "") for name in (path, path.rpartition(".")[2]))
        raise InputError(f"unknown key '{key}'{did_you_mean(key, known)}")
    return "\n\n".join("\n".join(_explained(path, owner, field)) for path, owner, field in entries)


def list_keys(model: type[BaseModel]) -> str:
    """A table of every dotted path with its description."""
    rows = [(path, _description(field, _model_in(field.annotation))) for path, _, field in _walk(model, "")]
    return table([], rows, indent=0)


def key_data(model: type[BaseModel], key: str | None) -> list[dict[str, Any]]:
    """Every setting with this key (None: all) for `--json`: key, description, type and default; type and default are
    null for a section, and the default for a required key."""
    rows = []
    for path, owner, field in _walk(model, ""):
        if key is None or path == key or path.endswith(f".{key}"):
            is_section = section_of(field) is not None
            schema = owner.model_json_schema()
            name = path.rpartition(".")[2]
            rows.append(
                {
                    "key": path,
                    "description": _description(field, _model_in(field.annotation)),
                    "type": None if is_section else _type(schema["properties"][name], schema.get("$defs", {})),
                    "required": field.is_required(),
                    "default": None if is_section or field.is_required() else _default(field),
                }
            )
    return rows


def known_keys(model: type[BaseModel]) -> set[str]:
    """Every dotted path of the config, such as `generate.endpoint.base_url`."""
    return {path for path, _, _ in _walk(model, "")}


def _explained(path: str, owner: type[BaseModel], field: FieldInfo) -> list[str]:
    name = path.rpartition(".")[2]
    inner = _model_in(field.annotation)
    lines = [path, *textwrap.wrap(_description(field, inner), min(WIDTH, terminal_width() or WIDTH), **_HANGING)]
    if section_of(field) is None:
        schema = owner.model_json_schema()
        lines.append(f"  type: {_type(schema['properties'][name], schema.get('$defs', {}))}")
        lines.append(f"  default: {'none (required)' if field.is_required() else _flat(_default(field))}")
    if inner is not None:
        lines.append(f"  keys: {', '.join(_own_first(inner))}")
    return lines


def _description(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    return field.description or (_doc(inner) if inner else "")


_HANGING: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}


def _walk(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    for name, field in _own_first(model).items():
        yield path + name, model, field
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from _walk(inner, f"{path}{name}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `M`, `M | None`, `list[M]`, `dict[str, M]`, also where a RootModel is between."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if issubclass(annotation, RootModel):
            return _model_in(annotation.model_fields["root"].annotation)
        return annotation if issubclass(annotation, BaseModel) else None
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _type(schema: dict[str, Any], shared: dict[str, Any]) -> str:
    """The type in a JSON Schema, in words."""
    if "$ref" in schema:
        return _type(shared[schema["$ref"].rpartition("/")[2]], shared)
    if "anyOf" in schema:
        return " or ".join(_type(option, shared) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(_flat, schema.get("enum", [schema.get("const")])))
    limits = "".join(f" {sign} {schema[name]:g}" for name, sign in _LIMITS.items() if name in schema)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), shared)}"
    if schema.get("type") == "object" and "properties" not in schema:
        values = schema.get("additionalProperties")
        return f"mapping of names to {_type(values if isinstance(values, dict) else {}, shared)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "section", None: "any"}
    pattern = f" like {schema['pattern']}" if "pattern" in schema else ""
    return words.get(schema.get("type"), str(schema.get("type"))) + limits + pattern


def _flat(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()
