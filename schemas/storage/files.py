"""Reading, writing and hashing of files.

A file is written completely or not at all: to a temporary file in the same folder, fsync, `os.replace`, fsync of the
folder (without which a power failure can undo the rename). A temporary file is locked while it is being written. One
without a lock was left by a killed process, and the next write into the folder removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError

from marginalia.schemas.errors import ArtifactError, InputError, MarginaliaError
from marginalia.schemas.progress import progress
from marginalia.schemas.storage.parquet_limits import check_file_in_memory
from marginalia.schemas.storage.regular_files import check_regular, files_inside, open_regular
from marginalia.schemas.table_row import Row

CHUNK_BYTES = 1 << 20
MOST_TEXT_BYTES = 1 << 28  # of a text or JSON file, which is read as a whole
UNFINISHED = ".partial"
ModelT = TypeVar("ModelT", bound=BaseModel)


def write_whole(path: Path, write: Callable[[IO[bytes]], object], *, mode: int = 0o644) -> None:
    """Calls `write` with a binary file, which replaces `path` once all of it is on disk.

    Raises InputError if the operating system refuses."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        with os.fdopen(_open_locked(temporary, mode), "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 - the name that fault tests patch
        fsync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def _open_locked(temporary: Path, mode: int) -> int:
    while True:
        # O_EXCL: never follows a link that somebody else created under this name
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with contextlib.suppress(OSError):  # a file system without locks: unfinished files are not removed there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process removed it as unfinished before it was locked


def remove_unfinished(folder: Path) -> None:
    """Removes temporary files of killed processes. Those still being written are locked and stay."""
    for unfinished in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(unfinished, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor):
                    unfinished.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks the file if nobody else has it locked, and says whether that worked. Closing the descriptor unlocks it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also on file systems without locks, where unfinished files are not removed
        return False
    return True


def cannot_write(path: Path, error: OSError) -> MarginaliaError:
    """The error to raise when the operating system refuses to write `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some space, then run the same command again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "fix the permissions, or use another folder"
    elif error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        hint = "a file or folder of another kind has this path: move it away"
    else:
        hint = "use another folder"
    return InputError.at(path, f"cannot write: {error.strerror or error}", hint=hint)


def fsync_folder(folder: Path) -> None:
    """Puts on disk which files the folder contains: a new or renamed file survives a power failure only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Writes UTF-8 text completely or not at all."""
    write_whole(path, lambda file: file.write(text.encode("utf-8")), mode=mode)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Writes indented UTF-8 JSON. Raises ValueError for NaN and infinities, which are not JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", mode=mode)


def write_frame(path: Path, frame: pl.DataFrame, model: type[Row]) -> None:
    """Writes Parquet after `check_frame`, which raises ArtifactError if the stage made a wrong frame."""
    checked = check_frame(path, frame, model)

    def write(file: IO[bytes]) -> None:
        watched = _WatchedWriter(file)
        try:
            checked.write_parquet(watched)  # type: ignore[arg-type]
        except pl.exceptions.PolarsError as error:
            raise watched.failure or error from error

    write_whole(path, write)


class _WatchedWriter(io.RawIOBase):
    """Keeps the OSError of a failed write (disk full), which polars replaces by an exception of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise


def read_frame(path: Path, model: type[Row], *, made_by: str) -> pl.DataFrame:
    """The table at `path` after `check_frame`. `made_by` is the command that makes it, for the hint of an error."""
    if not path.exists():
        raise ArtifactError.at(path, "no such file", hint=f"run {made_by}")
    check_regular(path)
    check_file_in_memory(path)
    try:
        frame = pl.read_parquet(path)
    except (Exception, pl.exceptions.PanicException) as error:  # damaged files raise many types of errors
        raise ArtifactError.at(path, f"not a readable Parquet file: {_first_line(error)}", hint=made_by) from error
    return check_frame(path, frame, model, hint=f"rebuild it with {made_by}")


def check_frame(path: Path, frame: pl.DataFrame, model: type[Row], *, hint: str | None = None) -> pl.DataFrame:
    """The frame in the model's column order; columns that older versions lack are added as nulls.

    Raises ArtifactError for a missing or unknown column, a wrong type, a null, NaN or value that the model does not
    allow, and a duplicate key."""
    expected = model.polars_schema()
    absent = [name for name in model.added_later() if name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, dtype=expected[name]).alias(name) for name in absent)
    missing = [name for name in expected if name not in frame.columns]
    extra = [name for name in frame.columns if name not in expected]
    if missing:
        raise ArtifactError.at(path, f"column {missing[0]!r} is missing; it has {frame.columns}", hint=hint)
    if extra and not model.open_ended:
        raise ArtifactError.at(path, f"unknown column {extra[0]!r}; expected {list(expected)}", hint=hint)
    for name, dtype in expected.items():
        if frame.schema[name] != dtype:
            raise ArtifactError.at(path, f"column {name!r} is {frame.schema[name]}, expected {dtype}", hint=hint)
    for name in model.required():
        if frame[name].null_count():
            raise ArtifactError.at(path, f"column {name!r} has {frame[name].null_count()} nulls", hint=hint)
    for name, dtype in expected.items():
        if dtype == pl.Float64() and frame[name].is_nan().any():
            raise ArtifactError.at(path, f"column {name!r} contains NaN", hint=hint)
    for name, allowed in model.choices().items():
        unknown = frame[name].drop_nulls().filter(~frame[name].drop_nulls().is_in(allowed))
        if unknown.len():
            raise ArtifactError.at(
                path, f"column {name!r} contains {unknown[0]!r}, expected {', '.join(allowed)}", hint=hint
            )
    if model.key and frame.height:
        repeated = frame.select(model.key).filter(frame.select(model.key).is_duplicated())
        if repeated.height:
            values = " × ".join(repr(value) for value in repeated.row(0))
            raise ArtifactError.at(path, f"duplicate {' × '.join(model.key)}: {values}", hint=hint)
    return frame.select([*expected, *extra])


def read_json(path: Path, *, made_by: str | None = None) -> Any:
    """The JSON value in `path`. Raises InputError with the line of a syntax error, and for NaN and infinities."""
    text = read_text(path, made_by=made_by)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError.at(path, f"not JSON: {error.msg}", line=error.lineno, hint=made_by) from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, 5000 nested lists
        raise InputError.at(path, f"not JSON: {error}", hint=made_by) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def read_model(path: Path, model: type[ModelT], *, made_by: str) -> ModelT:
    """The JSON artifact at `path` as its pydantic model. Raises ArtifactError with the key of the first wrong value."""
    try:
        return model.model_validate(read_json(path, made_by=made_by))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError.at(path, f"{where}: {first['msg']}", hint=f"rebuild it with {made_by}") from error


def read_text(path: Path, *, made_by: str | None = None, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The UTF-8 text of a file. Raises InputError if it is missing, a folder, larger than `most_bytes`, or not UTF-8
    (with the line)."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most_bytes:
                raise InputError.at(path, f"has {size:,} bytes; the limit is {most_bytes:,}", hint=made_by)
            data = file.read()
    except FileNotFoundError:
        raise InputError.at(path, "no such file", hint=f"run {made_by}" if made_by else None) from None
    except OSError as error:
        raise InputError.at(path, f"cannot read: {error.strerror}") from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError.at(path, f"byte {error.start} is not UTF-8", line=line, hint="save it as UTF-8") from None


def sha256(path: Path, *, links: bool = False) -> str:
    """SHA-256 (hex) of a file, or of a folder's files and their relative names.

    Raises InputError for a named pipe or a device and, without `links`, for a symbolic link inside the folder."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in files_inside(path, links=links):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with os.fdopen(open_regular(path), "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of a value as JSON, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def frame_hash(frame: pl.DataFrame, *, without: Sequence[str] = (), name: str = "rows") -> str:
    """SHA-256 (hex) of a frame's rows in their order; `without` names columns to leave out, such as times, and `name`
    the frame in the progress that is shown."""
    digest = hashlib.sha256()
    rows = frame.drop(without, strict=False).iter_rows(named=True)
    for row in progress(rows, total=frame.height, what=f"hash {name}", unit="row"):
        digest.update(content_hash(row).encode())
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).split("\n")), type(error).__name__)


def jsonl_line(value: dict[str, Any]) -> bytes:
    """One line of JSONL, in ASCII: some readers take U+2028 for a line end, and a lone surrogate is not UTF-8."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object per line, completely or not at all."""

    def write(file: IO[bytes]) -> None:
        for row in rows:
            file.write(jsonl_line(row))

    write_whole(path, write)
