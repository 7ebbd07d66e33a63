"""One process per run: a second one is refused with the name of the first, and accepted once the first has ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from marginalia.schemas.errors import InputError, LockedError
from marginalia.schemas.storage.run_lock import run_lock

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from marginalia.schemas.storage.run_lock import run_lock\n"
    "with run_lock(Path(sys.argv[1]), 'marginalia generate'):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@contextmanager
def locking_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A real process that holds the folder's lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_the_error_of_a_second_process_names_the_first(tmp_path: Path) -> None:
    with (
        locking_process(tmp_path) as child,
        pytest.raises(LockedError) as caught,
        run_lock(tmp_path, "marginalia score"),
    ):
        pass
    assert str(caught.value).startswith(f"{tmp_path} is in use by process {child.pid} (marginalia generate, since 20")
    assert str(caught.value).endswith("(wait for it, or end it)")
    assert caught.value.exit_code == 4


def test_the_lock_is_free_after_kill_9(tmp_path: Path) -> None:
    with locking_process(tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        with run_lock(tmp_path, "marginalia score"):
            pass


def test_the_lock_is_free_after_an_error_in_the_body(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_lock(tmp_path, "one"):
        raise RuntimeError
    with run_lock(tmp_path, "two"):
        pass


def test_a_child_of_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    with run_lock(tmp_path, "one"):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with run_lock(tmp_path, "two"):
            pass
    finally:
        child.communicate()


def test_the_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    with run_lock(tmp_path, "one"), pytest.raises(LockedError, match=r"\(one, since "), run_lock(tmp_path, "two"):
        pass


def test_a_shorter_command_overwrites_a_longer_one_completely(tmp_path: Path) -> None:
    with run_lock(tmp_path, "a very long name of a command"):
        pass
    with run_lock(tmp_path, "short"):
        text = (tmp_path / ".lock").read_text(encoding="utf-8")
    assert text.count("process") == 1
    assert "very long" not in text


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write: No such file or directory"), run_lock(tmp_path / "no", "x"):
        pass
