"""Errors of one record. They end that record, as an error in its row of the results, and not the batch.

Whether an error concerns one record or all is decided as follows. Before the first record, the scorer loads the model,
builds the guard's prompt and, over an endpoint, asks a test question: what fails there concerns all records and ends
the run. Afterwards, an error raised while one record is read, prompted or searched is that record's. Where a model or
server could be at fault, it is given a prompt that it has answered before: if that works, the error is the record's."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.schemas.errors import MarginaliaError, ModelError, ServiceError, first_line
from marginalia.schemas.text_checks import one_line
from marginalia.schemas.unexpected_errors import MOST_CHARACTERS, masked, secrets


@dataclass(frozen=True)
class RecordError:
    """Why a record has no scores. `is_temporary`: another attempt may succeed without a change."""

    message: str
    is_temporary: bool = False


def is_of_one_record(error: BaseException) -> bool:
    """Whether an error that was raised while one record was handled ends only that record. Not so for a server that
    failed, Ctrl-C and signals."""
    if isinstance(error, ServiceError):
        return False
    # tokenizers and polars are written in Rust, whose panics are not Exceptions
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def record_error(error: BaseException, doing: str) -> RecordError:
    """The error for a record's row. `doing`: what failed, for errors whose own message does not say it.

    Raises `error` again when it does not concern the record alone."""
    if not is_of_one_record(error):
        raise error
    if isinstance(error, MarginaliaError):
        return RecordError(one_line(str(error)), isinstance(error, ModelError) and error.is_temporary)
    if isinstance(error, MemoryError):
        return RecordError(f"{doing}: not enough memory", is_temporary=True)
    name, text = type(error).__name__, one_line(masked(first_line(error), secrets()))[:MOST_CHARACTERS]
    return RecordError(f"{doing}: {name if text == name else f'{name}: {text}'}")
