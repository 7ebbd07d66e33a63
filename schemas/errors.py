"""The exceptions of this project. Each message says what was found, what was expected, and what to do next; `exit_code`
is the exit code of a command that ends with the error (all exit codes: schemas/exit_codes.py)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

# servers and files have a part in messages: none of their characters may move a terminal's cursor or change its title
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class MarginaliaError(Exception):
    """Base class. `str()` gives `message`, then `hint` in brackets: the command or setting that fixes the problem."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = _CONTROL.sub("\ufffd", message)
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint


class InputError(MarginaliaError):
    """Something that the user provides is wrong: a config, a taxonomy, a file of records, an option."""

    exit_code = 2

    @classmethod
    def at(cls, path: Path | str, message: str, *, line: int | None = None, hint: str | None = None) -> InputError:
        """An error located in a file: `path: line 12: message (hint)`. Lines count from 1."""
        where = f"{path}: line {line}: " if line is not None else f"{path}: "
        return cls(where + message, hint=hint)

    def for_setting(self, path: Path | str, setting: str, *, line: int) -> InputError:
        """The same error, located at the config key `setting` whose value caused it."""
        return InputError.at(path, f"{setting}: {self.message}", line=line, hint=self.hint)


class ArtifactError(InputError):
    """A file that a stage wrote is missing, damaged, or differs from its manifest."""


class ServiceError(MarginaliaError):
    """A server (LLM endpoint, Argilla, the Hub) refused a request or failed."""

    exit_code = 3


class ModelError(MarginaliaError):
    """A model could not be loaded, or its output is not probabilities. `is_temporary`: a later attempt may
    succeed."""

    exit_code = 3
    is_temporary = False


class LockedError(MarginaliaError):
    """Another process is working in the same run folder."""

    exit_code = 4


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty, or else the name of its class."""
    return next((line for line in str(error).split("\n") if line.strip()), type(error).__name__)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'annotators'?` for the most similar known word, or an empty string if none is similar."""
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near is not None else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar known word; None if none is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)
