"""The cache of converted models: one folder per entry, named after the content that it was made from.

`entry.json` in the folder records each file's size, modification time and SHA-256. An entry is checked whenever it is
opened: it must have exactly these files. Small files, which include all settings and the tokenizer, are hashed every
time. Weights are hashed when their size or modification time has changed: hashing 540 MB takes 0.4 s at best, and
2 s without SHA instructions, which is as long as loading them. Bytes that change while size and time stay the same
(a defect of the disk) are found by `marginalia cache`, which hashes every file. A damaged entry is made again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError, LockedError
from marginalia.schemas.storage.files import cannot_write, content_hash, read_model, sha256, write_json
from marginalia.schemas.storage.folders import write_folder_whole

VARIABLE = "MARGINALIA_CACHE"
ENTRY = "entry.json"
SMALL_BYTES = 1 << 23  # files up to this size are hashed whenever the entry is opened
_LOCK = "models.lock"
# entries whose entry.json is missing, and those of versions that had none
_BUNDLED_NAMES = re.compile(r"smollm2-135m-instruct(-[0-9a-f]{16})?(\+.+-[0-9a-f]{16})?")
_UNFINISHED = re.compile(r"\.(.+)\.([0-9a-f]{8}\.partial|previous)")  # what write_folder_whole leaves when it is killed


class CachedFile(StrictModel):
    """One file of an entry, as it was written."""

    bytes: int
    modified_ns: int
    sha256: str


class CacheEntry(StrictModel):
    """entry.json: `inputs` name the content that the entry was made from; `files` are all other files of the folder."""

    version: Literal[1] = 1
    inputs: dict[str, str]
    files: dict[str, CachedFile]


@dataclass(frozen=True)
class CachedModelState:
    """One line of `marginalia cache`. `problem`: what is wrong with the entry; None if nothing is."""

    name: str
    bytes: int
    problem: str | None


def model_cache() -> Path:
    """The folder of converted models: $MARGINALIA_CACHE, else .cache/marginalia in the home folder."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "marginalia")


def cached_folder(cache: Path, name: str, inputs: Mapping[str, str], build: Callable[[Path], object]) -> Path:
    """The folder in `cache` that `build` makes of `inputs`: name → version or hash of everything that it depends on.

    Calls `build` with a new empty folder when there is no intact entry; other processes wait meanwhile. The entry is
    written completely or not at all. An intact entry is used without writing anything. Raises InputError when the
    cache cannot be written."""
    folder = cache / f"{name}-{content_hash(dict(inputs))[:16]}"
    if entry_problem(folder) is None:
        return folder
    try:
        with _locked(cache):
            problem = entry_problem(folder)  # another process may have made it
            if problem is not None:
                if folder.exists():
                    print(f"{folder}: {problem}; the cached model is made again", file=sys.stderr)
                write_folder_whole(folder, lambda new_folder: _fill(new_folder, inputs, build))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise _cannot_write(folder, error.__cause__) from error
        raise
    return folder


def entry_problem(folder: Path, *, in_full: bool = False) -> str | None:
    """What is wrong with an entry; None if it is intact. `in_full`: hash every file, even if it looks unchanged."""
    try:
        entry = read_model(folder / ENTRY, CacheEntry, made_by="marginalia")
        present = {path.name for path in folder.iterdir()} - {ENTRY}
        if missing := sorted(entry.files.keys() - present):
            return f"{missing[0]} is missing"
        if unknown := sorted(present - entry.files.keys()):
            return f"{unknown[0]} does not belong to it"
        checked = {name: _check_file(folder / name, file, in_full) for name, file in entry.files.items()}
    except InputError as error:
        return f"{ENTRY} is missing" if not (folder / ENTRY).exists() else error.message
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    for name, file in checked.items():
        if file is None:
            return f"{name} has changed"
    if checked != entry.files:
        # equal content under new times, such as a copy: with its times recorded it is not hashed again
        with contextlib.suppress(InputError):
            write_json(folder / ENTRY, entry.model_copy(update={"files": checked}).model_dump(mode="json"))
    return None


def _check_file(path: Path, recorded: CachedFile, in_full: bool) -> CachedFile | None:
    """The file's record with its present modification time; None when its content has changed."""
    status = path.stat()
    if status.st_size != recorded.bytes:
        return None
    same_time = status.st_mtime_ns == recorded.modified_ns
    if (in_full or not same_time or status.st_size <= SMALL_BYTES) and sha256(path) != recorded.sha256:
        return None
    return recorded.model_copy(update={"modified_ns": status.st_mtime_ns})


def content_of(folder: Path) -> str:
    """A hash of the content of a model folder, to name it among the inputs of an entry. For an entry of the cache it is
    read from entry.json."""
    if (folder / ENTRY).is_file():
        entry = read_model(folder / ENTRY, CacheEntry, made_by="marginalia")
        return content_hash({name: file.sha256 for name, file in entry.files.items()})
    return sha256(folder, links=True)


def _fill(new_folder: Path, inputs: Mapping[str, str], build: Callable[[Path], object]) -> None:
    try:
        build(new_folder)
    except Exception as error:
        # safetensors reports a full disk with an exception of its own
        if type(error).__name__ == "SafetensorError" and (match := re.search(r"os error (\d+)", str(error))):
            raise OSError(int(match[1]), os.strerror(int(match[1]))) from error
        raise
    files = {}
    for path in sorted(new_folder.iterdir()):
        path.chmod(0o644)  # safetensors makes files that only their owner can read, but a cache can be shared
        status = path.stat()
        files[path.name] = CachedFile(bytes=status.st_size, modified_ns=status.st_mtime_ns, sha256=sha256(path))
    write_json(new_folder / ENTRY, CacheEntry(inputs=dict(inputs), files=files).model_dump(mode="json"))


@contextlib.contextmanager
def _locked(cache: Path, *, wait: bool = True) -> Iterator[None]:
    """Only one process at a time makes or deletes entries. Without `wait`, raises LockedError when another one does."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"{cache}: another process is making a model there", hint="run the same command when it has ended"
            ) from None
        yield


def _cannot_write(folder: Path, error: OSError) -> InputError:
    known = cannot_write(folder, error)
    return InputError(known.message, hint=f"{known.hint}; or set {VARIABLE} to a folder on another disk")


def cached_models(cache: Path) -> list[CachedModelState]:
    """All entries of the cache, sorted by name. Hashes every file."""
    return [
        CachedModelState(folder.name, _size(folder), entry_problem(folder, in_full=True)) for folder in _entries(cache)
    ]


def clear_cache(cache: Path) -> tuple[int, int]:
    """Deletes all entries, unfinished ones included, and nothing else. Returns (number of entries, bytes).

    Raises LockedError while another process makes an entry, InputError when the files cannot be deleted."""
    if not cache.is_dir():
        return 0, 0
    try:
        with _locked(cache, wait=False):
            entries = _entries(cache)
            unfinished = [
                path
                for path in cache.iterdir()
                if (match := _UNFINISHED.fullmatch(path.name)) and _is_entry(path, match[1])
            ]
            size = sum(map(_size, [*entries, *unfinished]))
            for folder in [*entries, *unfinished]:
                shutil.rmtree(folder)
                cache.joinpath(f"{folder.name}.lock").unlink(missing_ok=True)  # of older versions
    except OSError as error:
        raise InputError(f"{cache}: cannot delete: {error.strerror}", hint="fix the permissions") from error
    return len(entries), size


def _entries(cache: Path) -> list[Path]:
    if not cache.is_dir():
        return []
    return sorted(path for path in cache.iterdir() if not path.name.startswith(".") and _is_entry(path, path.name))


def _is_entry(path: Path, name: str) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    return (path / ENTRY).is_file() or _BUNDLED_NAMES.fullmatch(name) is not None


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
