"""The table of docs/architectures.md is what is found, and a wrong mask would be found."""

from __future__ import annotations

import re

import pytest

from marginalia.scoring.models.checkpoint import quiet_loading
from tests.scoring.architectures import GUARDS, PAGE, Result, examine, further_lists

UPDATE = "docs/architectures.md differs; to update it: python -m tests.scoring.architectures --write"


@pytest.mark.parametrize("name", GUARDS)
def test_the_table_says_what_is_found(name: str) -> None:
    with quiet_loading():
        result = examine(name)
    assert result.row(GUARDS[name]) in PAGE.read_text(encoding="utf-8").splitlines(), UPDATE
    assert result.made
    if not result.problem:
        assert result.difference < 1e-4 < 1e-2 < result.noticed


def test_the_table_has_no_other_rows() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("<!-- guards -->")[2].partition("<!-- end of guards -->")[0]
    assert re.findall(r"^\| `(.+?)`", table, flags=re.MULTILINE) == list(GUARDS)


def test_a_row_has_the_order_of_magnitude_and_the_reason() -> None:
    assert Result("a", "full", difference=2.3e-6).row("x") == "| `a` | full | yes (below 1e-5) | x |"
    assert Result("a", "full", difference=9.9e-5).row("") == "| `a` | full | yes (below 1e-4) |  |"
    assert Result("a", "full", difference=1.1e-4).row("") == "| `a` | full | **no** |  |"
    assert Result("a", problem="the reason").row("x") == "| `a` | – | no: refused | x; the reason |"


def test_the_lists_have_what_was_found_and_what_was_not_examined() -> None:
    results = [
        Result("b", "full", difference=1e-6),
        Result("a", "full", difference=2e-6),
        Result("c", problem="0 of its 8 layers have attention that can be replaced"),
        Result("d", problem="too large", made=False),
    ]
    assert further_lists(results).splitlines()[2:] == [
        "- **Yes (below 1e-5), full attention** (2): `b`, `a`",
        "- **Refused: not all layers have attention of transformers' attention interface** (1): `c`",
        "- **Not examined: no small text model could be made** (1): `d`",
    ]
