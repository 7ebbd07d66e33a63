"""config.yaml as text, and its keys explained: both are made from the pydantic models, so that they cannot go stale."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from marginalia.schemas.errors import InputError, did_you_mean

WIDTH = 110


def config_text(
    model: type[BaseModel], values: Mapping[str, Any], chosen: Collection[str] = (), hidden: Collection[str] = ()
) -> str:
    """YAML with every key of `model` under its description.

    Keys in `values` (dotted paths) stand there with that value, those in `chosen` with their default; all others are
    commented out as `#key: default`. A section whose keys are all commented out would read as null, so the first key
    of such a section stands there, too. `hidden` keys are left out."""
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
    """The model of a field that is a section of its own."""
    return field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) else None


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return None if default is PydanticUndefined else _plain(default)


def _plain(value: Any) -> Any:
    """The value as YAML can write it."""
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
    """A list of sections, each with all of its keys; those not in the values are commented out."""
    lines = [f"{name}:"]
    for value in values:
        for place, (key, field) in enumerate(_own_first(model).items()):
            entry = _entry(key, value[key] if key in value else _default(field))
            lines += _comment(field.description or "", "    ")
            lines += [f"  {'  ' if place else '- '}{'' if key in value else '#'}{line}" for line in entry]
    return lines


def _own_first(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys that the model itself defines, then those that it inherits, its nearest base's first."""
    bases = [inspect.get_annotations(base) for base in model.__mro__]
    order = {name: next(place for place, own in enumerate(bases) if name in own) for name in model.model_fields}
    return dict(sorted(model.model_fields.items(), key=lambda item: order[item[0]]))


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(text, WIDTH - len(indent))]


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def explain(model: type[BaseModel], key: str) -> str:
    """Every place where `key` (or a dotted path) occurs: what it is, its type, its default.

    Raises InputError with the nearest key when there is none."""
    found = [entry for entry in _walk(model, "") if entry[0] == key or entry[0].endswith(f".{key}")]
    if not found:
        known = dict.fromkeys(name for path, _, _ in _walk(model, "") for name in (path, path.rpartition(".")[2]))
        raise InputError(f"unknown key '{key}'{did_you_mean(key, known)}")
    return "\n\n".join("\n".join(_explained(path, owner, field)) for path, owner, field in found)


def list_keys(model: type[BaseModel]) -> str:
    """Every dotted path with what it is, one line each."""
    entries = [(path, field, _model_in(field.annotation)) for path, _, field in _walk(model, "")]
    width = max(len(path) for path, _, _ in entries)
    return "\n".join(
        f"{path:{width}}  {textwrap.shorten(_told(field, inner), WIDTH - 20, placeholder=' …', break_on_hyphens=False)}"
        for path, field, inner in entries
    )


def known_keys(model: type[BaseModel]) -> set[str]:
    """Every dotted path of the config, such as `generate.endpoint.base_url`."""
    return {path for path, _, _ in _walk(model, "")}


def _explained(path: str, owner: type[BaseModel], field: FieldInfo) -> list[str]:
    name = path.rpartition(".")[2]
    inner = _model_in(field.annotation)
    lines = [path, *textwrap.wrap(_told(field, inner), WIDTH, **_HANGING)]
    if section_of(field) is None:
        schema = owner.model_json_schema()
        lines.append(f"  type: {_type(schema['properties'][name], schema.get('$defs', {}))}")
        lines.append(f"  default: {'none, it must be given' if field.is_required() else _flat(_default(field))}")
    if inner is not None:
        lines.append(f"  keys: {', '.join(_own_first(inner))}")
    return lines


def _told(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    return field.description or (_doc(inner) if inner else "")


_HANGING: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}


def _walk(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    for name, field in _own_first(model).items():
        yield path + name, model, field
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from _walk(inner, f"{path}{name}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `M`, `M | None`, `list[M]`, `dict[str, M]`."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _type(schema: dict[str, Any], shared: dict[str, Any]) -> str:
    """A JSON Schema in words."""
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
