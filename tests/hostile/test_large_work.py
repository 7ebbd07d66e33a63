"""Small files that would take gigabytes or minutes are refused after counting what they would need. Each is read in a
process with limited memory and processor time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marginalia.schemas.errors import InputError
from marginalia.scoring.language import answer_language, token_language
from marginalia.scoring.language.answer_language import AnswerLanguage, OneOf, Text
from marginalia.scoring.language.token_language import TokenLanguage

LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from marginalia.schemas.errors import MarginaliaError
{imports}
used = resource.getrusage(resource.RUSAGE_SELF)
try:
    {call}
except MarginaliaError as error:
    print(error)
after = resource.getrusage(resource.RUSAGE_SELF)
print((after.ru_maxrss - used.ru_maxrss) // 1024, round(after.ru_utime - used.ru_utime, 2))
"""
READ_RECORDS = ("from marginalia.schemas.input_records import read_records", "read_records(Path(sys.argv[1]))")
READ_TABLE = (
    "from marginalia.schemas.storage.files import read_frame\nfrom marginalia.schemas.tables import GoldRecord",
    "read_frame(Path(sys.argv[1]), GoldRecord, made_by='marginalia import')",
)
READ_GUARD = (
    "from marginalia.schemas.storage.yaml_files import load_yaml\nfrom marginalia.scoring.guard_file import GuardFile",
    "load_yaml(Path(sys.argv[1]), GuardFile)",
)
READ_LOG = (
    "from marginalia.pipeline.core.run_log import read_log",
    "print(len(list(read_log(Path(sys.argv[1]).parent))), 'entries')",
)


def limited(code: tuple[str, str], path: Path) -> tuple[str, int, float]:
    """What the call printed, its megabytes of memory and its seconds of processor time."""
    imports, call = code
    command = [sys.executable, "-c", LIMITED.format(imports=imports, call=call), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *message, numbers = done.stdout.strip().split("\n")
    megabytes, seconds = numbers.split()
    return "\n".join(message), int(megabytes), float(seconds)


@pytest.mark.parametrize("code", [READ_RECORDS, READ_TABLE])
@pytest.mark.parametrize("dictionary", [True, False])
def test_a_small_parquet_file_with_one_very_long_text(tmp_path: Path, code: tuple[str, str], dictionary: bool) -> None:
    path = tmp_path / "in.parquet"
    table = pa.table({"id": ["r1"], "text": ["x" * 80_000_000]})
    pq.write_table(table, path, compression="zstd", use_dictionary=dictionary)
    assert path.stat().st_size < 100_000
    message, megabytes, _ = limited(code, path)
    assert message.startswith(f"{path}: column 'text' has 80,000,0")
    assert "(write it again with smaller row groups, or give the records as JSONL)" in message
    assert megabytes < 100


def test_a_parquet_file_that_repeats_one_long_text(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * 10_000_000]))
    pq.write_table(pa.table({"id": [str(row) for row in range(1000)], "text": text}), path, compression="zstd")
    message, megabytes, _ = limited(READ_RECORDS, path)
    assert "text of 10,000,000 characters; the limit is 1,000,000" in message
    assert megabytes < 600


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("in.jsonl", READ_RECORDS, "line 1: has more than 67,108,864 bytes"),
        ("in.csv", READ_RECORDS, "line 1: the row that begins here has more than 16,777,216 characters"),
        ("in.json", READ_RECORDS, "line 1: not JSON: Expecting value"),
        ("guard.yaml", READ_GUARD, "has 20,000,000,000 bytes; the limit is 67,108,864"),
        ("log.jsonl", READ_LOG, "0 entries"),
    ],
)
def test_a_file_with_a_hole_of_gigabytes(tmp_path: Path, name: str, code: tuple[str, str], says: str) -> None:
    message, megabytes, _ = limited(code, sparse(tmp_path / name, 20_000_000_000))
    assert says in message
    assert megabytes < 300


READ_ROWS = ("from marginalia.schemas.source_rows import read_rows", "sum(1 for _ in read_rows(Path(sys.argv[1])))")
LONG = b"x" * 1000


@pytest.mark.parametrize(
    ("name", "codec", "line"),
    [
        ("in.csv.gz", "gzip", b"id," + LONG + b"\n"),
        ("in.csv.bz2", "bz2", b"id," + LONG + b"\n"),
        ("in.jsonl.zst", "zstd", b'{"text": "' + LONG + b'"}\n'),
        ("in.json.gz", "gzip", b"[" + b" " * 1000),
        ("in.parquet.zst", "zstd", LONG),
    ],
)
def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path, name: str, codec: str, line: bytes) -> None:
    path = tmp_path / name
    block = line * 1000 if name != "in.json.gz" else b" " * 1_000_000
    with pa.CompressedOutputStream(str(path), codec) as file:
        file.write(line)
        for _ in range(100):
            file.write(block)
    assert path.stat().st_size < 400_000
    message, megabytes, seconds = limited(READ_ROWS, path)
    assert "or 100 times those on disk, are read (unpack it yourself if you trust it, and give that file)" in message
    assert megabytes < 200
    assert seconds < 10


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("in.csv", "id,text\n1," + "x" * 40_000_000, "line 2: the row that begins here has more than 16,777,216 char"),
        (
            "in.csv",
            'id,text\n1,"' + ("x" * 99 + "\n") * 400_000,
            "line 2: the row that begins here has more than 16,777,216 char",
        ),
        ("in.csv", "id,text\n" + "," * 40_000_000, "line 2: the row that begins here has more than 16,777,216 char"),
        ("in.csv", "id,text\n" + "," * 16_000_000, "line 2: has 16,000,001 cells; the header has 2"),
        ("in.json", '[{"id": "' + "x" * 80_000_000, "line 1: a value has more than 67,108,864 characters"),
        ("in.json", '{"a": [' + "[" * 40_000_000, "line 1: not JSON: maximum recursion depth exceeded"),
    ],
    ids=["a long cell", "a quote that is never closed", "a long row", "many cells", "a long text", "nested lists"],
)
def test_a_row_without_end(tmp_path: Path, name: str, data: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(data)
    message, megabytes, seconds = limited(READ_RECORDS, path)
    assert says in message
    assert megabytes < 600
    assert seconds < 20


ALIASES = "guard: x\na: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
MERGES = "guard: x\na: &a {k0: v, k1: v}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
TOO_MANY = "more than 50,000 keys and values, aliases expanded (expected a file of a few pages)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ALIASES, TOO_MANY),
        (MERGES, TOO_MANY),
        ("a: [" + "x," * 450_000 + "]", TOO_MANY),
        ("a:\n" + "- x\n" * 240_000, TOO_MANY),
        ("[" * 900_000, "not YAML: maximum recursion depth exceeded"),
        ("- " * 450_000, "not YAML: maximum recursion depth exceeded"),
    ],
    ids=["aliases", "merges", "flow list", "list", "nested brackets", "nested lists"],
)
def test_a_yaml_file_that_grows(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "guard.yaml"
    path.write_text(text)
    message, megabytes, seconds = limited(READ_GUARD, path)
    assert says in message
    assert megabytes < 100
    assert seconds < 5


def test_a_guard_answer_that_can_be_read_in_many_ways() -> None:
    """Each dot may or may not complete a row, so that after n dots there are 2ⁿ ways to read them."""
    choices = [OneOf((Text(b".", row), Text(b".")), optional=False) for row in range(24)]
    language = AnswerLanguage([f"c{row}" for row in range(24)], [choices])
    assert len(language.walk(b"." * 9)) == 10
    with pytest.raises(InputError, match="the same text can be read in more than 1,000 ways"):
        language.walk(b"." * 24)


def test_a_guard_with_many_choices_keeps_only_some_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_language, "MOST_STATES", 500)
    monkeypatch.setattr(token_language, "MOST_ENTRIES", 5_000)
    choices = [OneOf((Text(b"a", row), Text(b"b")), optional=False) for row in range(24)]
    language = AnswerLanguage([f"c{row}" for row in range(24)], [choices])
    tokens = TokenLanguage(language, {0: b"a", 1: b"b", 2: b"ab"}, [3])
    for number in range(1_000):
        text = format(number, "024b").translate({48: "a", 49: "b"}).encode()
        state = language.walk(text[:20])[-1]
        assert state.done == sum(1 << at for at in range(20) if text[at] == ord("a"))
        assert tokens.moves(state).ids.tolist() == [0, 1, 2]
        assert len(language._states) <= 500
        assert sum(moves.done.size for moves in tokens._moves.values()) <= 5_000
