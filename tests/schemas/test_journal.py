"""Journals: a confirmed line is never lost, an incomplete one never read, and damage is always reported."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marginalia.schemas.errors import ArtifactError, InputError
from marginalia.schemas.storage.journal import Journal, read_journal
from tests.schemas.faults import FULL, fail_call

HOSTILE = {"text": "a\u2028b\u2029c\x0bd\x85e\r\nf\ud800\0", "n": 1}


def test_entries_are_read_in_order_whatever_they_contain(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(HOSTILE)
        journal.extend([{"n": 2}, {"n": 3}])
    with Journal(path) as journal:
        journal.append({"n": 4})
    assert list(read_journal(path)) == [HOSTILE, {"n": 2}, {"n": 3}, {"n": 4}]


def test_a_missing_journal_has_no_entries(tmp_path: Path) -> None:
    assert list(read_journal(tmp_path / "none.jsonl")) == []


@pytest.mark.parametrize("size", [1, 70_000])
def test_an_incomplete_last_line_is_truncated_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"n": 1})
    torn = b'{"text":"' + b"x" * size
    with path.open("ab") as file:
        file.write(torn)
    assert list(read_journal(path)) == [{"n": 1}]
    with Journal(path) as journal:
        assert journal.torn_bytes == len(torn)
        assert capsys.readouterr().err == f"{path}: truncated an incomplete last line of {len(torn):,} bytes\n"
        journal.append({"n": 2})
    assert list(read_journal(path)) == [{"n": 1}, {"n": 2}]


def test_a_journal_with_only_an_incomplete_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"n"')
    with Journal(path) as journal:
        assert journal.torn_bytes == 4
    assert path.read_bytes() == b""


def test_a_cut_anywhere_in_the_last_line_loses_only_that_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.extend([{"n": 1}, {"n": 22}])
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path):
            pass
        assert list(read_journal(path)) == [{"n": 1}]


def test_a_damaged_middle_line_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":\n{"n":3}\n')
    with pytest.raises(ArtifactError) as caught:
        list(read_journal(path))
    assert str(caught.value) == (
        f"{path}: line 2: damaged: Expecting value: line 2 column 1 (char 6) "
        "(restore it from a backup, or in a run, to set such lines aside: marginalia repair --run FOLDER)"
    )


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"\0\0\0\0\n", b"\n"])
def test_lines_that_are_not_json_are_damage(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"n":1}\n' + damage + b'{"n":3}\n')
    with pytest.raises(ArtifactError, match="line 2: damaged: "):
        list(read_journal(path))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_failed_fsync_undoes_the_entry_and_the_journal_can_be_used_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        confirmed = []
        with monkeypatch.context() as patch:
            fail_call(patch, "fsync", k)
            for n in range(4):
                try:
                    journal.append({"n": n})
                    confirmed.append({"n": n})
                except InputError as error:
                    assert "cannot write: No space left on device" in str(error)
    assert list(read_journal(path)) == confirmed
    assert len(confirmed) == 3


def test_written_entries_are_undone_if_they_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"n": 1})
        journal.write([{"n": 2}])
        journal.write([{"n": 3}])
        assert [entry["n"] for entry in read_journal(path)] == [1, 2, 3]  # a killed process loses none of them
        with monkeypatch.context() as patch:
            fail_call(patch, "fsync", 1)
            with pytest.raises(InputError, match="cannot write"):
                journal.sync()
        assert list(read_journal(path)) == [{"n": 1}]
        journal.write([{"n": 4}])
        journal.sync()
    assert list(read_journal(path)) == [{"n": 1}, {"n": 4}]


def test_a_full_disk_leaves_no_partial_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"n": 1})
        real = journal._file

        class Full:
            def write(self, data: bytes) -> int:
                real.write(data[:5])
                real.flush()
                raise FULL

            def tell(self) -> int:
                return real.tell()

            def close(self) -> None:
                real.close()

        monkeypatch.setattr(journal, "_file", Full())
        with pytest.raises(InputError) as caught:
            journal.append({"n": 2})
        assert str(caught.value).startswith(f"{path}: cannot write: {os.strerror(errno.ENOSPC)}")
        journal.append({"n": 3})
    assert list(read_journal(path)) == [{"n": 1}, {"n": 3}]


def test_a_value_that_is_not_json_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal, pytest.raises(ValueError, match="Out of range float values"):
        journal.append({"n": float("inf")})
    assert path.read_bytes() == b""


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write: "):
        Journal(tmp_path / "file" / "journal.jsonl")


def test_entries_that_a_killed_process_confirmed_are_read(tmp_path: Path) -> None:
    """SIGKILL at random moments while entries of all sizes are appended; each confirmed one is read once."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from marginalia.schemas.storage.journal import Journal, read_journal\n"
        "path = Path(sys.argv[1])\n"
        "n = sum(1 for _ in read_journal(path))\n"
        "with Journal(path) as journal:\n"
        "    while True:\n"
        "        journal.append({'n': n, 'text': 'x' * (n * 7919 % 30000)})\n"
        "        print(n, flush=True)\n"
        "        n += 1\n"
    )
    path = tmp_path / "journal.jsonl"
    draw = random.Random(2026)
    confirmed = -1
    for _ in range(5):
        command = [sys.executable, "-c", script, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(draw.randrange(1, 60)):
                confirmed = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read()
        confirmed = max([confirmed, *map(int, rest.split("\n")[:-1])])
        numbers = [entry["n"] for entry in read_journal(path)]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) in (confirmed + 1, confirmed + 2)


def test_every_flipped_bit_of_a_line_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.extend([{"n": 1, "text": "late"}, {}])
    whole = path.read_bytes()
    end = whole.index(b"\n")
    for position in range(end):
        for bit in range(8):
            flipped = bytes([whole[position] ^ 1 << bit])
            path.write_bytes(whole[:position] + flipped + whole[position + 1 :])
            try:
                entries = list(read_journal(path))
            except ArtifactError as error:
                assert str(error).startswith(f"{path}: line ") and "damaged: " in str(error)
            else:  # the key of the checksum was hit; the entry is intact
                assert position >= end - len(b'"crc":"00000000"}') and entries[0]["text"] == "late"


def test_an_entry_without_a_required_key_is_refused_and_a_line_without_checksum_is_not(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"key":"a"}\n{"kez":"b"}\n')
    assert list(read_journal(path)) == [{"key": "a"}, {"kez": "b"}]
    with pytest.raises(ArtifactError, match=r"line 2: damaged: it has no 'key' \(restore it from a backup"):
        list(read_journal(path, ("key",)))
    path.write_bytes(b"3\n")
    with pytest.raises(ArtifactError, match="line 1: damaged: expected a JSON object, saw int"):
        list(read_journal(path))
