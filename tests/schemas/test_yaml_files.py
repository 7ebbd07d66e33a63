"""Errors in YAML files: the whole messages, with line and nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.yaml_files import load_yaml


class Inner(StrictModel):
    annotators: int = Field(default=3, ge=1)
    url: str | None = None


class Item(StrictModel):
    name: str
    size: int = 1


class Outer(StrictModel):
    title: str
    inner: Inner = Inner()
    items: list[Item] = Field(default=[])
    named: dict[str, Item] = Field(default={})


def error_of(tmp_path: Path, text: str | bytes, *, explain: str | None = None) -> str:
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        load_yaml(path, Outer, explain=explain)
    assert caught.value.exit_code == 2
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("title: Äb\ninner: {annotators: 2}\nitems:\n  - name: x\n", encoding="utf-8")
    assert load_yaml(path, Outer) == Outer(title="Äb", inner=Inner(annotators=2), items=[Item(name="x")])


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbftitle: a\n")
    assert load_yaml(path, Outer) == Outer(title="a")
    assert error_of(tmp_path, b"\xef\xbb\xbftitle: a\nitens: []\n").startswith("line 2: unknown key 'itens'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: x\nitem: []\n", "line 2: unknown key 'item'; did you mean 'items'?"),
        ("title: x\ninner:\n  anotators: 3\n", "line 3: unknown key 'anotators'; did you mean 'annotators'?"),
        ("title: x\nitems:\n  - name: a\n  - name: b\n    sise: 2\n",
         "line 5: unknown key 'sise'; did you mean 'size'?"),
        ("title: x\nnamed:\n  a: {name: b, nam: c}\n", "line 3: unknown key 'nam'; did you mean 'name'?"),
        ("title: x\nzzz: 1\n", "line 2: unknown key 'zzz'; expected one of inner, items, named, title"),
        ("inner: {}\n", "line 1: key 'title' is missing; it has inner"),
        ("title: x\nitems:\n  - size: 3\n", "line 3: key 'items.0.name' is missing; it has size"),
        ("title: x\ninner:\n  annotators: none\n", "line 3: inner.annotators: Input should be a valid integer, "
         "unable to parse string as an integer, saw 'none'"),
        ("title: x\ninner:\n  annotators: 0\n", "line 3: inner.annotators: Input should be greater than or equal to 1, "
         "saw 0"),
        ("title: x\ninner:\n", "line 2: inner: expected keys with values, saw nothing"),
        ("title: x\ntitle: y\n", "line 2: duplicate key 'title', first in line 1"),
        ("title: x\ninner:\n  url: a\n  annotators: 1\n  url: b\n",
         "line 5: duplicate key 'url', first in line 3"),
        ("title: [\n", "line 2: not YAML: expected the node content, but found '<stream end>'"),
        ("title: x\n\tinner: {}\n", "line 2: not YAML: found character '\\t' that cannot start any token"),
        ("title: a: b\n", "line 1: not YAML: mapping values are not allowed here"),
        ("- title\n", "line 1: expected keys with values, saw a list"),
        ("", "line 1: expected keys with values, saw nothing"),
        ("# nothing\n", "line 1: expected keys with values, saw nothing"),
        ("title: x\n? [a, b]\n: c\n", "line 2: a key must be a single word"),
        ("title: x\nitems: &a [*a]\n", "line 2: recursive alias (write the values out)"),
        ("title: !!python/object/apply:os.system [ls]\n", "line 1: not YAML: could not determine a constructor for the "
         "tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("title: 2026-13-45\n", "not YAML: month must be in 1..12"),
        ("title: x\nb: \x07\n", "line 2: not YAML: the character U+0007 (remove it from the file)"),
        (b"title: x\nb: \xff\n", "line 2: byte 12 is not UTF-8 (save it as UTF-8)"),
    ],
)  # fmt: skip
def test_every_error_has_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert error_of(tmp_path, text) == message


def test_the_command_that_explains_the_key_is_named(tmp_path: Path) -> None:
    explain = "marginalia config --explain {key}"
    message = error_of(tmp_path, "title: x\ninner:\n  anotators: 3\n", explain=explain)
    assert message == (
        "line 3: unknown key 'anotators'; did you mean 'annotators'? (marginalia config --explain annotators)"
    )
    message = error_of(tmp_path, "title: x\ninner:\n  annotators: 0\n", explain=explain)
    assert message.endswith("(marginalia config --explain annotators)")


def test_a_missing_file_and_a_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml: no such file$"):
        load_yaml(tmp_path / "gone.yaml", Outer)
    with pytest.raises(InputError, match="cannot read: Is a directory"):
        load_yaml(tmp_path, Outer)
