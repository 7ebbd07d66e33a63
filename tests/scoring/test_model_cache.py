"""The cache of converted models: damage is found and repaired, whoever makes an entry at the same time."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.schemas.errors import InputError, LockedError
from marginalia.scoring.models.model_cache import (
    ENTRY,
    SMALL_BYTES,
    _locked,
    cached_folder,
    cached_models,
    clear_cache,
    entry_problem,
)
from tests.soak.test_full_disk import no_file_beyond

ROOT = Path(__file__).parents[2]
WEIGHTS = b"w" * (SMALL_BYTES + 1)


class Builder:
    """Makes an entry of a small and a large file, and counts how often."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.calls = cache, 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(WEIGHTS)

    def open(self) -> Path:
        return cached_folder(self.cache, "model", {"source": "1"}, self)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path / "cache")


def change_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def keep_time(path: Path) -> None:
    """Changes a byte and restores the time, as a defect of the disk would."""
    before = path.stat()
    change_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGE = {
    "model.safetensors has changed": lambda folder: change_byte(folder / "model.safetensors"),
    "model.safetensors has changed ": lambda folder: os.truncate(folder / "model.safetensors", 100),
    "config.json has changed": lambda folder: keep_time(folder / "config.json"),
    "model.safetensors is missing": lambda folder: (folder / "model.safetensors").unlink(),
    "adapter_config.json does not belong to it": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "entry.json is missing": lambda folder: (folder / ENTRY).unlink(),
    "not JSON": lambda folder: (folder / ENTRY).write_text("{"),
}


def test_an_intact_entry_is_made_once(builder: Builder) -> None:
    assert builder.open() == builder.open()
    assert builder.calls == 1


@pytest.mark.parametrize("problem", DAMAGE)
def test_a_damaged_entry_is_made_again(builder: Builder, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = builder.open()
    DAMAGE[problem](folder)
    assert problem.strip() in str(entry_problem(folder))
    assert builder.open() == folder
    assert builder.calls == 2 and entry_problem(folder, in_full=True) is None
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", ENTRY, "model.safetensors"]
    shown = capsys.readouterr().err
    assert shown.startswith(f"{folder}: ") and shown.endswith("; the cached model is made again\n")


def test_weights_under_their_old_time_are_checked_in_full_only(builder: Builder) -> None:
    folder = builder.open()
    keep_time(folder / "model.safetensors")
    assert entry_problem(folder) is None
    assert entry_problem(folder, in_full=True) == "model.safetensors has changed"
    assert [model.problem for model in cached_models(builder.cache)] == ["model.safetensors has changed"]


def test_a_copy_with_new_times_is_intact_and_its_times_are_recorded(builder: Builder) -> None:
    folder = builder.open()
    os.utime(folder / "model.safetensors", ns=(1, 1))
    builder.open()
    assert builder.calls == 1
    assert '"modified_ns": 1,' in (folder / ENTRY).read_text()


def test_other_inputs_have_an_entry_of_their_own(builder: Builder) -> None:
    other = cached_folder(builder.cache, "model", {"source": "2"}, builder)
    assert other != builder.open() and other.is_dir() and builder.calls == 2


def test_processes_at_once_make_an_entry_once(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from marginalia.scoring.models.model_cache import cached_folder\n"
        "def build(folder):\n"
        "    print('made', flush=True)\n"
        "    (folder / 'a').write_bytes(b'x' * 1000)\n"
        "    time.sleep(1)\n"
        "    (folder / 'b').write_bytes(b'y')\n"
        "folder = cached_folder(Path(sys.argv[1]), 'model', {'source': '1'}, build)\n"
        "assert len((folder / 'a').read_bytes()) == 1000 and (folder / 'b').read_bytes() == b'y'\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(outputs) == ["", "", "made\n"]


def test_a_killed_build_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from marginalia.scoring.models.model_cache import cached_folder\n"
        "def build(folder):\n"
        "    (folder / 'config.json').write_text('half')\n"
        "    print('made', flush=True)\n"
        "    time.sleep(60)\n"
        "cached_folder(Path(sys.argv[1]), 'model', {'source': '1'}, build)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        killed.kill()
    builder = Builder(tmp_path / "cache")
    folder = builder.open()
    assert builder.calls == 1 and entry_problem(folder, in_full=True) is None
    assert sorted(path.name for path in builder.cache.iterdir()) == [folder.name, "models.lock"]


# ---- disks and permissions -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Root may write into read-only folders; another user may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users can read: those of pytest are private."""
    folder = Path(tempfile.mkdtemp(prefix="marginalia-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_cache_is_used_while_it_is_intact(shared: Path) -> None:
    builder = Builder(shared)
    folder = builder.open()
    os.utime(folder / "model.safetensors", ns=(1, 1))  # so that there is something to record
    folder.chmod(0o555)
    shared.chmod(0o555)
    with without_root():
        assert builder.open() == folder
    assert builder.calls == 1
    folder.chmod(0o755)


def test_a_read_only_cache_that_lacks_the_model_says_what_to_do(shared: Path) -> None:
    shared.chmod(0o555)
    with without_root(), pytest.raises(InputError) as raised:
        Builder(shared).open()
    assert str(raised.value).endswith(
        ": cannot write: Permission denied (fix the permissions, or use another folder; or set MARGINALIA_CACHE to a "
        "folder on another disk)"
    )


@pytest.mark.parametrize("writer", ["python", "safetensors"])
def test_a_full_disk_says_what_to_do_and_leaves_nothing(builder: Builder, writer: str) -> None:
    def build(folder: Path) -> None:
        if writer == "python":
            (folder / "w").write_bytes(WEIGHTS)
        else:
            save_file({"w": torch.zeros(100_000)}, folder / "w")

    with (
        no_file_beyond(100_000),
        pytest.raises(InputError, match=r"File too large \(free some space.* MARGINALIA_CACHE"),
    ):
        cached_folder(builder.cache, "model", {"source": "1"}, build)
    assert [path.name for path in builder.cache.iterdir()] == ["models.lock"]
    assert builder.open().is_dir()


# ---- marginalia cache ------------------------------------------------------------------------------------------------


def cache_command(*options: str) -> str:
    done = CliRunner().invoke(app, ["cache", *options])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_the_command_shows_and_clears_what_the_cache_made(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINALIA_CACHE", str(builder.cache))
    assert cache_command() == f"{builder.cache} (set MARGINALIA_CACHE to use another folder)\n  0 models, 0 MB\n"
    folder = builder.open()
    old = builder.cache / "smollm2-135m-instruct+support-tickets-b41a8b37312d30d8"
    others = ["argilla-env", "my models", "smollm2-135m-instruct-mine"]
    for other in (old, *(builder.cache / name for name in others)):
        other.mkdir()
        (other / "x").write_text("x")
    (builder.cache / f"{old.name}.lock").touch()
    (builder.cache / f".{old.name}.0123abcd.partial").mkdir()
    (builder.cache / ".mine.0123abcd.partial").mkdir()
    elsewhere = builder.cache.parent / "elsewhere"
    shutil.copytree(folder, elsewhere)
    (builder.cache / "linked").symlink_to(elsewhere)
    shown = cache_command()
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[1:5] == [
        "model MB state",
        f"{folder.name} 8 intact",
        f"{old.name} 0 not used: entry.json is missing",
        "2 models, 8 MB",
    ]
    assert lines[5].endswith("marginalia cache --clear")
    assert cache_command("--clear") == f"{builder.cache}: deleted 2 models, 8 MB\n"
    left = {path.name for path in builder.cache.iterdir()}
    assert left == {*others, "linked", ".mine.0123abcd.partial", "models.lock"}
    assert (elsewhere / ENTRY).exists()
    assert builder.open() == folder and builder.calls == 2


def test_clear_waits_for_nobody(builder: Builder) -> None:
    folder = builder.open()
    with _locked(builder.cache), pytest.raises(LockedError, match="another process is making a model there"):
        clear_cache(builder.cache)
    assert folder.is_dir()
