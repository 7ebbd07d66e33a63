"""Renders templates for scoring/rendering.py, as a process of its own: `python -m
marginalia.scoring.rendering_process`.

Reads one JSON request per line and answers each with one line. It knows nothing but what it is given, and has little
memory and time, so that a template which loops or allocates without end hurts nobody. Imports little: it must start
quickly."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MEMORY = 1 << 30  # bytes of address space
CHARACTERS = 2_000_000  # of a rendered template: more than any model's context


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _limit("RLIMIT_AS", MEMORY)
    _limit("RLIMIT_CORE", 0)
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_time(request["seconds"])
        print(json.dumps(_answer(request)), flush=True)


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        parts, length = [], 0
        for part in _compiled(request["template"], request["chat"]).generate(request["variables"]):
            parts.append(part)
            length += len(part)
            if length > CHARACTERS:
                return {"error": f"it makes more than {CHARACTERS:,} characters"}
        return {"text": "".join(parts)}
    except MemoryError:
        return {"error": f"it needs more than {MEMORY >> 20} MiB of memory"}
    except Exception as error:  # templates and filters raise whatever they like
        return {"error": str(error) or type(error).__name__}


@lru_cache(maxsize=8)
def _compiled(template: str, chat: bool) -> Template:
    return (_chat_environment() if chat else guard_environment()).from_string(template)


def guard_environment() -> ImmutableSandboxedEnvironment:
    """For the prompts of guard files: an unknown name is an error, and nothing is reached but what is given."""
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


def _chat_environment() -> ImmutableSandboxedEnvironment:
    """For chat templates, with what transformers gives them (utils/chat_template_utils.py)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": _Dict(),
        "namespace": _PlainNamespace,
    }
    return environment


class _Generation(Extension):
    """`{% generation %}` marks what the model says, for training; here its content is text like any other."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dict:
    """`dict` without what leads from a class to Python's own."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, *keys: Any) -> dict[Any, Any]:
        return dict.fromkeys(*keys)


class _PlainNamespace(Namespace):
    """`namespace` whose attributes cannot be Python's own."""

    def __init__(*args: Any, **named: Any) -> None:
        Namespace.__init__(*args, **named)
        for name in dict(*args[1:], **named):
            _public(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}")


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)


def _limit_time(seconds: float) -> None:
    """Should nobody be left to stop this process, the system does."""
    used = os.times()
    _limit("RLIMIT_CPU", int(used.user + used.system + seconds) + 2)


def _limit(name: str, value: int) -> None:
    try:
        import resource

        number = getattr(resource, name)
        resource.setrlimit(number, (value, resource.getrlimit(number)[1]))
    except (ImportError, AttributeError, ValueError, OSError):
        pass  # a system without this limit: the time is limited from outside in any case


if __name__ == "__main__":
    main()
