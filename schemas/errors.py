"""The one exception tree. Every message says what was seen, what was expected, and the next step; `exit_code` is what
a command ends with when the error reaches it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class MarginaliaError(Exception):
    """Base of all our errors: `message`, then in brackets `hint`, the command or setting that mends it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint


class InputError(MarginaliaError):
    """Something the user gave us is wrong: a config, a taxonomy, a file of records, an option."""

    exit_code = 2

    @classmethod
    def at(cls, path: Path | str, message: str, *, line: int | None = None, hint: str | None = None) -> InputError:
        """The same with its place in front: `path: line 12: message (hint)`. Lines count from 1."""
        where = f"{path}: line {line}: " if line is not None else f"{path}: "
        return cls(where + message, hint=hint)

    def asked_for(self, path: Path | str, what: str, *, line: int) -> InputError:
        """The same error with the place in front where `what` asked for the thing that it is about."""
        return InputError.at(path, f"{what}: {self.message}", line=line, hint=self.hint)


class ArtifactError(InputError):
    """A file that a stage wrote is missing, damaged or not what its manifest says."""


class ServiceError(MarginaliaError):
    """A server that we depend on (LLM endpoint, Argilla, the Hub) refused or failed."""

    exit_code = 3


class ModelError(MarginaliaError):
    """A model could not be loaded, or answered with numbers that are not probabilities. `passing`: what failed may
    work at another time."""

    exit_code = 3
    passing = False


class LockedError(MarginaliaError):
    """Another process works in the same run folder."""

    exit_code = 4


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty, or else the name of its class."""
    return next((line for line in str(error).split("\n") if line.strip()), type(error).__name__)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'annotators'?` for the nearest known word, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
