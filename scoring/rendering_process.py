"""The separate process that renders templates for scoring/rendering.py.

Reads one JSON request per line and writes one JSON line per answer. Its memory and time are limited, so that a template
with an endless loop or allocation does no harm. It imports little, because it must start quickly."""

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
_DATED: list[str] = []  # the forms in which the template that is being rendered asked for the current date


def main() -> None:
    """Answers requests from stdin until it is closed. Prints the line `ready` when it has started."""
    # sent to the whole process group, these are handled by the process that sends the requests: it closes stdin
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _limit("RLIMIT_AS", MEMORY)
    _limit("RLIMIT_CORE", 0)
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_time(request["seconds"])
        print(json.dumps(_answer(request)), flush=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    _DATED.clear()
    try:
        parts, length = [], 0
        for part in _compiled(request["template"], request["chat"]).generate(request["variables"]):
            parts.append(part)
            length += len(part)
            if length > CHARACTERS:
                return {"error": f"its output has more than {CHARACTERS:,} characters"}
        return {"text": "".join(parts), "dated": bool(_DATED)}
    except MemoryError:
        return {"error": f"it needs more than {MEMORY >> 20} MiB of memory"}
    except Exception as error:  # templates and filters may raise any exception
        return {"error": str(error).strip() or type(error).__name__}


@lru_cache(maxsize=8)
def _compiled(template: str, chat: bool) -> Template:
    return (chat_environment() if chat else guard_environment()).from_string(template)


def guard_environment() -> ImmutableSandboxedEnvironment:
    """The environment for the prompts of guard files: a sandbox in which an unknown variable is an error."""
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


def chat_environment() -> ImmutableSandboxedEnvironment:
    """The environment for chat templates, with the same functions as in transformers (utils/chat_template_utils.py)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": _now,
        "dict": _Dict(),
        "namespace": _PlainNamespace,
    }
    return environment


class _Generation(Extension):
    """`{% generation %}` marks the model's answer, for training. Here its content is ordinary text."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dict:
    """`dict` for templates, without the attributes through which a class gives access to Python itself."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, *keys: Any) -> dict[Any, Any]:
        return dict.fromkeys(*keys)


class _PlainNamespace(Namespace):
    """`namespace` for templates, which refuses attributes that start with an underscore."""

    def __init__(*args: Any, **named: Any) -> None:
        Namespace.__init__(*args, **named)
        for name in dict(*args[1:], **named):
            _check_public(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


def _check_public(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}")


def _now(form: str) -> str:
    _DATED.append(form)
    return datetime.now().strftime(form)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _limit_time(seconds: float) -> None:
    """Limits CPU time, so that the system stops this process if the parent cannot."""
    used = os.times()
    _limit("RLIMIT_CPU", int(used.user + used.system + seconds) + 2)


def _limit(name: str, value: int) -> None:
    try:
        import resource

        number = getattr(resource, name)
        resource.setrlimit(number, (value, resource.getrlimit(number)[1]))
    except (ImportError, AttributeError, ValueError, OSError):
        pass  # not available on this system; the parent limits the time in any case


if __name__ == "__main__":
    main()
