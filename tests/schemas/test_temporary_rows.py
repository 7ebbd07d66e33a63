"""Rows on disk are read in any order, and a full or missing disk is reported."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.temporary_rows import TemporaryRows


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    """Also beyond the megabyte that stays in memory, with reads between the writes."""
    draw, stored = random.Random(3), TemporaryRows(tmp_path)
    rows = [draw.randbytes(draw.randint(0, 4000)) for _ in range(1500)]
    offsets = []
    for number, row in enumerate(rows):
        offsets.append(stored.add(row))
        if number % 7 == 0:
            assert stored.read(offsets[number // 2]) == rows[number // 2]
    order = draw.sample(range(1500), 1500)
    assert [stored.read(offsets[number]) for number in order] == [rows[number] for number in order]
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    rows = TemporaryRows(tmp_path / "gone")
    with pytest.raises(InputError, match=r"gone: cannot write: .*use another folder"):
        for _ in range(2000):
            rows.add(b"x" * 1000)
