from __future__ import annotations

import random
from pathlib import Path

import pytest

from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.temporary_rows import TemporaryRows


def test_what_was_added_is_read_in_any_order(tmp_path: Path) -> None:
    """Beyond the megabyte that stays in memory, with reads between the writes."""
    draw, spill = random.Random(3), TemporaryRows(tmp_path)
    rows = [draw.randbytes(draw.randint(0, 4000)) for _ in range(1500)]
    places = []
    for number, row in enumerate(rows):
        places.append(spill.add(row))
        if number % 7 == 0:
            assert spill.read(places[number // 2]) == rows[number // 2]
    order = draw.sample(range(1500), 1500)
    assert [spill.read(places[number]) for number in order] == [rows[number] for number in order]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    spill = TemporaryRows(tmp_path / "gone")
    with pytest.raises(InputError, match=r"gone: cannot write: .*use another folder"):
        for _ in range(2000):
            spill.add(b"x" * 1000)
