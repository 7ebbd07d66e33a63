"""Which key may be sent to which server. The config of a run decides both, and people pass runs on: so the first time
that a key would go to a server, the user approves it. Approvals are kept in a file of the user's own.

No approval is needed for this machine, and for pairs of a variable and its provider such as OPENAI_API_KEY and
api.openai.com."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from marginalia.schemas.errors import InputError
from marginalia.schemas.server_addresses import check_key_goes, is_loopback

FLAG, VARIABLE = "--approve-key-host", "MARGINALIA_APPROVE_KEY_HOST"
FLAG_HELP = (
    "a server, such as llm.example.org or llm.example.org:8000, that may get the key that the config names; needed "
    f"once per key and server where no terminal can ask (for one call only: the environment variable {VARIABLE})"
)
OFFICIAL_HUB = "huggingface.co"
PROVIDERS = {
    "ANTHROPIC_API_KEY": ("api.anthropic.com",),
    "DEEPSEEK_API_KEY": ("api.deepseek.com",),
    "FIREWORKS_API_KEY": ("api.fireworks.ai",),
    "GEMINI_API_KEY": ("generativelanguage.googleapis.com",),
    "GROQ_API_KEY": ("api.groq.com",),
    "HF_TOKEN": (OFFICIAL_HUB, "router.huggingface.co"),
    "HUGGING_FACE_HUB_TOKEN": (OFFICIAL_HUB,),
    "MISTRAL_API_KEY": ("api.mistral.ai",),
    "OPENAI_API_KEY": ("api.openai.com",),
    "OPENROUTER_API_KEY": ("openrouter.ai",),
    "TOGETHER_API_KEY": ("api.together.xyz",),
}
_PORTS = {"http": 80, "https": 443}
_flagged: set[str] = set()  # hosts that the command's options approve


def approve_hosts(hosts: Iterable[str]) -> None:
    """Approves the hosts of the option --approve-key-host for this process; a pair that is used is then remembered.
    Addresses are accepted, too. Raises InputError for what names no host."""
    _flagged.update(map(_named_host, hosts))


def check_key_approved(variable: str, url: str, *, allow_http: bool = False, setting: str | None = None) -> None:
    """Called before the key in the environment variable `variable` is sent to `url`. Asks in a terminal.

    Raises InputError when the user does not approve it, or cannot be asked: then the message has the command that
    approves it. Also when the key would travel unencrypted and `allow_http`, the value of `setting`, is not set."""
    host = key_host(url)
    check_key_goes(url, allow_http=allow_http, setting=setting)
    if is_loopback(url):
        return
    if host in PROVIDERS.get(variable, ()) or host in _hosts_in_environment() or host in _read().get(variable, []):
        return
    if host not in _flagged and not _asked(variable, host):
        raise InputError(
            f"the key in the environment variable {variable} has never been sent to {host}, and is not sent there "
            "without your approval, as the config may be somebody else's",
            hint=f"if you trust this server with this key: {_approving_command(host)}",
        )
    _remember(variable, host)


def is_official_hub(endpoint: str) -> bool:
    """Whether `endpoint` is the Hugging Face Hub's own address, over https."""
    return urlsplit(endpoint).scheme == "https" and key_host(endpoint) == OFFICIAL_HUB


def check_hub_downloads(endpoint: str) -> None:
    """Called before huggingface_hub downloads from `endpoint`. A token that is stored on disk is for the official Hub
    alone: from other servers files are loaded without a token, or with the one in HF_TOKEN if that is approved.

    Raises InputError as check_key_approved does."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or is_official_hub(endpoint):
        return
    variable = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name, "").strip()), None)
    if variable is None:
        constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True
    else:
        check_key_approved(variable, endpoint)


def key_host(url: str) -> str:
    """How approvals name the server of an address: its host in lower case, its port if that is not the usual one, and
    http:// in front where a key would travel unencrypted. Raises InputError for a host that is not plain ASCII, which
    could look like another."""
    try:
        parts = urlsplit(url)
        host, named_port = parts.hostname or "", parts.port
    except ValueError as error:  # [ without ], a port that is not a number
        raise InputError(f"{url}: {error}") from None
    if not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", host):
        raise InputError(
            f"{host!a} is not a host name in plain ASCII, so no key is sent there",
            hint="write an international host name in its form with xn--",
        )
    host = f"[{host}]" if ":" in host else host
    port = "" if named_port in (None, _PORTS.get(parts.scheme)) else f":{named_port}"
    return f"{'http://' if parts.scheme == 'http' else ''}{host}{port}"


def approvals_path() -> Path:
    """The file with the approvals: {variable: [host, …]}, in the user's config directory."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "marginalia" / "approved.json"


def _named_host(text: str) -> str:
    try:
        return key_host(text if "://" in text else f"https://{text}")
    except InputError as error:
        raise InputError(f"{FLAG} {text}: {error.message}", hint="expected a host such as llm.example.org") from None


def _hosts_in_environment() -> set[str]:
    return {_named_host(host.strip()) for host in os.environ.get(VARIABLE, "").split(",") if host.strip()}


def _read() -> dict[str, list[str]]:
    path = approvals_path()
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError.at(path, f"cannot read: {error.strerror}", hint="it has the approvals of keys") from None
    except (ValueError, RecursionError):
        value = None
    lists = value.values() if isinstance(value, dict) else [None]
    if not all(isinstance(hosts, list) and all(isinstance(host, str) for host in hosts) for hosts in lists):
        raise InputError.at(path, "not a file of approvals: {variable: [host, …]}", hint="delete it and approve again")
    return dict(value)


def _remember(variable: str, host: str) -> None:
    approved = _read()
    approved[variable] = sorted({*approved.get(variable, []), host})
    path = approvals_path()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(approved, file, indent=2, sort_keys=True)
        temporary.replace(path)
    except OSError as error:  # the approval is valid for this call all the same
        print(f"warning: {path}: cannot write: {error.strerror}; the approval is not remembered", file=sys.stderr)


def _asked(variable: str, host: str) -> bool:
    """Whether the user approves it, in a terminal; False where nobody can be asked."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    unencrypted = ", unencrypted" if host.startswith("http://") else ""
    question = (
        f"Send the key in the environment variable {variable} to {host}{unencrypted}? It never went there before."
    )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _approving_command(host: str) -> str:
    program = Path(sys.argv[0])
    if program.name == "marginalia":
        words = ["marginalia"]
    elif program.name == "__main__.py" and program.parent.name in ("marginalia", "scoring"):
        module = "marginalia" if program.parent.name == "marginalia" else "marginalia.scoring"
        words = ["python", "-m", module]
    else:  # a program that imports the package
        return f"export {VARIABLE}={shlex.quote(host)}"
    return shlex.join([*words, *sys.argv[1:], FLAG, host])
