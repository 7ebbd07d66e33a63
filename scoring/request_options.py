"""Command line options for the fields of a ScoreRequest. Defaults and help come from the fields."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from marginalia.schemas.errors import InputError
from marginalia.scoring import COMMAND
from marginalia.scoring.score_request import (
    BASELINE_NAMES,
    ESTIMATOR_NAMES,
    EndpointOptions,
    GuardModel,
    ScoreRequest,
    SearchOptions,
    Settings,
    fields_of,
)


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `request_of` reads, and --estimator."""
    for name in GuardModel.model_fields:
        if name not in EndpointOptions.model_fields:
            metavar = "FILE" if name == "categories" else None
            add_option(parser.add_argument, GuardModel, name, metavar=metavar)
    add_option(parser.add_argument, ScoreRequest, "taxonomy")
    names = f"{', '.join(ESTIMATOR_NAMES)}; only when named: {', '.join(BASELINE_NAMES)}"
    parser.add_argument("--estimator", nargs="+", action="extend", help=f"which to compute; default: {names}")
    for name in SearchOptions.model_fields:
        if name != "estimators":
            add_option(parser.add_argument, SearchOptions, name)
    add_endpoint = parser.add_argument_group("when --model is a URL").add_argument
    for name in EndpointOptions.model_fields:
        more = {"type": _json_object, "metavar": "JSON"} if name == "extra_body" else {}
        add_option(add_endpoint, EndpointOptions, name, **more)


def add_option(add: Callable[..., Any], model: type[BaseModel], name: str, **more: Any) -> None:
    """Adds the option for a field of `model`, such as `--node-budget` for `node_budget`. Values are validated later, by
    the model. `more`: further arguments of add_argument; `flag` among them is the option's name if it is not the
    field's."""
    field = model.model_fields[name]
    flag = more.pop("flag", name.replace("_", "-"))
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    shown = f" (default: {default:g})" if isinstance(default, float) else f" (default: {default})"
    text = f"{field.description}{shown if default else ''}".replace("%", "%%")
    options: dict[str, Any] = {"required": field.is_required(), "default": default, "help": text}
    if field.annotation is bool:
        options["action"] = "store_true"
    elif get_origin(field.annotation) is Literal:
        options["choices"] = get_args(field.annotation)
    else:
        options["type"] = next(iter(get_args(field.annotation)), field.annotation)  # `str | None` → str
    add(f"--{flag}", **(options | more))


def request_of(options: argparse.Namespace, estimators: Sequence[str]) -> ScoreRequest:
    """The request that the options describe. Raises InputError with the wrong option's name, but not its value, which
    may be a key."""
    search = {name: getattr(options, name) for name in SearchOptions.model_fields if name != "estimators"}
    return checked_request(
        **fields_of(GuardModel, options), taxonomy=options.taxonomy, estimators=tuple(estimators), **search
    )


def checked_request(*, help_command: str = f"{COMMAND} --help", **values: Any) -> ScoreRequest:
    """The request with these values of its fields and of Settings. Raises InputError as `request_of` does; its hint is
    `help_command`."""
    settings = {name: values.pop(name) for name in Settings.model_fields if name in values}
    try:
        return ScoreRequest(**values, settings=Settings(**settings))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise InputError(f"{option}: {first['msg'].removeprefix('Value error, ')}", hint=help_command) from None


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('expected a JSON object, such as {"min_p": 0}')
    return value
