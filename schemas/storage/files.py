"""All reading, writing and hashing of artifacts.

A file is written whole or not at all: to a temporary file in the same folder, fsync, `os.replace`, fsync the folder
(a rename survives a power cut only once the folder itself is on disk). A temporary file is locked while it is written,
so that those of killed processes are known, and removed by whoever writes there next.
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
from marginalia.schemas.table_row import Row

CHUNK_BYTES = 1 << 20
UNFINISHED = ".partial"
ModelT = TypeVar("ModelT", bound=BaseModel)


def write_whole(path: Path, write: Callable[[IO[bytes]], object], *, mode: int = 0o644) -> None:
    """Calls `write` with a binary file and puts the result in place of `path` only when all of it is on disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        with os.fdopen(_open_locked(temporary, mode), "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 - one name for the fault tests to reach
        fsync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def _open_locked(temporary: Path, mode: int) -> int:
    while True:
        # O_EXCL: a name that somebody else placed there is never followed
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process took it for an unfinished one before it was locked


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left; a file that somebody still writes is locked, and stays."""
    for left in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor):
                    left.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether nobody else has the file; the kernel gives it free with the descriptor, or with the process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also file systems without locks, where nothing is removed then
        return False
    return True


def cannot_write(path: Path, error: OSError) -> MarginaliaError:
    """What the user is told when the operating system refuses a write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some space, then give the same command again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "mend the permissions, or work in another folder"
    elif error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        hint = "something else stands in its place: move it away"
    else:
        hint = "work in another folder"
    return InputError.at(path, f"cannot write: {error.strerror or error}", hint=hint)


def of_the_system(error: OSError) -> MarginaliaError:
    """What the user is told when the operating system refuses to open a file; any other OSError is raised again."""
    if error.errno is None or not isinstance(error.filename, str | os.PathLike):
        raise error
    return InputError.at(Path(error.filename), error.strerror or str(error), hint="mend the path or its permissions")


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    write_whole(path, lambda file: file.write(text.encode("utf-8")), mode=mode)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Indented UTF-8 JSON with a final newline. NaN and infinities are refused: no reader outside Python takes them."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", mode=mode)


def write_frame(path: Path, frame: pl.DataFrame, model: type[Row]) -> None:
    """Writes Parquet after checking the frame against the row model; a wrong frame is our own fault and says so."""
    checked = check_frame(path, frame, model)

    def write(file: IO[bytes]) -> None:
        watched = _WatchedWriter(file)
        try:
            checked.write_parquet(watched)  # type: ignore[arg-type]
        except pl.exceptions.PolarsError as error:
            raise watched.failure or error from error

    write_whole(path, write)


class _WatchedWriter(io.RawIOBase):
    """Keeps the OSError of a failed write (disk full), which polars turns into an error of its own."""

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
    """The artifact at `path`, checked: columns, types, nulls, keys. `made_by` is the command that makes it."""
    if not path.exists():
        raise ArtifactError.at(path, "no such file", hint=f"run {made_by}")
    try:
        frame = pl.read_parquet(path)
    except (Exception, pl.exceptions.PanicException) as error:  # damaged files: many kinds of errors
        raise ArtifactError.at(path, f"not a readable Parquet file: {_first_line(error)}", hint=made_by) from error
    return check_frame(path, frame, model, hint=f"rebuild it with {made_by}")


def check_frame(path: Path, frame: pl.DataFrame, model: type[Row], *, hint: str | None = None) -> pl.DataFrame:
    """The frame in the model's column order; columns that older versions lack are null. Raises ArtifactError for a
    missing or extra column, a wrong type, null, NaN, word or a repeated key."""
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
            raise ArtifactError.at(path, f"column {name!r} holds NaN", hint=hint)
    for name, words in model.choices().items():
        strange = frame[name].drop_nulls().filter(~frame[name].drop_nulls().is_in(words))
        if strange.len():
            raise ArtifactError.at(
                path, f"column {name!r} holds {strange[0]!r}, expected {', '.join(words)}", hint=hint
            )
    if model.key and frame.height:
        repeated = frame.select(model.key).filter(frame.select(model.key).is_duplicated())
        if repeated.height:
            raise ArtifactError.at(path, f"{' × '.join(model.key)} {repeated.row(0)} stands there twice", hint=hint)
    return frame.select([*expected, *extra])


def read_json(path: Path, *, made_by: str | None = None) -> Any:
    """The JSON value in `path`. Raises InputError with the line of a syntax error; NaN and infinities are one."""
    text = read_text(path, made_by=made_by)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError.at(path, f"not JSON: {error.msg}", line=error.lineno, hint=made_by) from error
    except (ValueError, RecursionError) as error:  # numbers of 5000 digits, lists 5000 deep
        raise InputError.at(path, f"not JSON: {error}", hint=made_by) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def read_model(path: Path, model: type[ModelT], *, made_by: str) -> ModelT:
    """The JSON artifact at `path` as its pydantic model."""
    try:
        return model.model_validate(read_json(path, made_by=made_by))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError.at(path, f"{where}: {first['msg']}", hint=f"rebuild it with {made_by}") from error


def read_text(path: Path, *, made_by: str | None = None) -> str:
    """The UTF-8 text of a file. Raises InputError when it is missing, a folder, or not UTF-8 (with the line)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError.at(path, "no such file", hint=f"run {made_by}" if made_by else None) from None
    except OSError as error:
        raise InputError.at(path, f"cannot read: {error.strerror}") from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError.at(path, f"byte {error.start} is not UTF-8", line=line, hint="save it as UTF-8") from None


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, or of a folder's files with their relative names."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(item for item in path.rglob("*") if item.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def content_hash(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def frame_hash(frame: pl.DataFrame, *, without: Sequence[str] = ()) -> str:
    """Hex SHA-256 of a frame's content, row order included; `without` names columns of time to leave out."""
    digest = hashlib.sha256()
    for row in frame.drop(without, strict=False).iter_rows(named=True):
        digest.update(content_hash(row).encode())
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).split("\n")), type(error).__name__)


def jsonl_line(value: dict[str, Any]) -> bytes:
    """One line of JSONL. ASCII, so that no U+2028 or lone surrogate can break a reader."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    def write(file: IO[bytes]) -> None:
        for row in rows:
            file.write(jsonl_line(row))

    write_whole(path, write)
