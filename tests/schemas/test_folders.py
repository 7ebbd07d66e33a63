"""A folder is written completely or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import write_text
from marginalia.schemas.storage.folders import recover_folder, write_folder_whole
from tests.schemas.faults import FULL, fail_call


def build(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_text(folder / "data" / name, name)

    return write


def content(root: Path) -> dict[str, list[str]]:
    """Folder → the files in it, hidden ones included."""
    return {folder.name: sorted(path.name for path in folder.rglob("*") if path.is_file()) for folder in root.iterdir()}


def test_the_new_folder_replaces_the_old_one(tmp_path: Path) -> None:
    write_folder_whole(tmp_path / "release", build("one"))
    write_folder_whole(tmp_path / "release", build("two"))
    assert content(tmp_path) == {"release": ["two"]}


@pytest.mark.parametrize("call", ["fsync", "replace", "open", "rename"])
def test_when_the_kth_call_fails_one_complete_folder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "release"
    for k in range(1, 30):
        write_folder_whole(path, build("old"))
        with monkeypatch.context() as patch:
            fail_call(patch, call, k)
            try:
                write_folder_whole(path, build("new"))
            except InputError:
                pass
            else:
                break
        recover_folder(path)
        assert content(tmp_path) in ({"release": ["old"]}, {"release": ["new"]})
    else:
        pytest.fail("every call failed")
    # a failure while the old folder is removed is no error; the next recovery removes the rest
    recover_folder(path)
    assert content(tmp_path) == {"release": ["new"]}
    assert k > 1


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_after_a_kill_between_the_renames_the_old_folder_is_restored(tmp_path: Path, renames: int) -> None:
    path = tmp_path / "release"
    write_folder_whole(path, build("old"))
    before = tmp_path / ".release.previous"
    new = tmp_path / ".release.0000.partial"
    build("new")(new)
    if renames >= 1:
        path.rename(before)
    if renames == 2:
        new.rename(path)
    recover_folder(path)
    assert content(tmp_path) == {"release": ["new" if renames == 2 else "old"]}


def test_an_error_while_building_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "release"
    write_folder_whole(path, build("old"))

    def broken(folder: Path) -> None:
        build("new")(folder)
        raise FULL

    with pytest.raises(InputError) as caught:
        write_folder_whole(path, broken)
    assert str(caught.value) == (
        f"{path}: cannot write: No space left on device (free some space, then run the same command again)"
    )
    assert content(tmp_path) == {"release": ["old"]}


def test_an_old_folder_that_cannot_be_removed_is_removed_by_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "release"
    write_folder_whole(path, build("old"))

    def refuse(*arguments: Any, **named: Any) -> None:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        write_folder_whole(path, build("new"))
    assert content(tmp_path) == {"release": ["new"], ".release.previous": ["old"]}
    write_folder_whole(path, build("newer"))
    assert content(tmp_path) == {"release": ["newer"]}
