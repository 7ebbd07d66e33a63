"""Files are written completely or not at all; reading reports everything that is wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from marginalia.schemas.errors import ArtifactError, InputError, MarginaliaError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.files import (
    content_hash,
    frame_hash,
    jsonl_line,
    read_frame,
    read_json,
    read_model,
    read_text,
    remove_unfinished,
    sha256,
    write_frame,
    write_json,
    write_jsonl,
    write_text,
    write_whole,
)
from marginalia.schemas.tables import Answer, GoldRecord, LabelScore
from tests.schemas.faults import fail_call, fail_write


def score(record: str, **changes: Any) -> dict[str, Any]:
    row = {"record_id": record, "estimator": "marginal", "label": "a", "probability": 0.5, "lower": 0.25, "upper": 0.75}
    return {**row, **changes}


def scores(*rows: dict[str, Any]) -> pl.DataFrame:
    return LabelScore.frame(list(rows))


def message(action: Callable[[], object]) -> str:
    with pytest.raises(MarginaliaError) as caught:
        action()
    assert caught.value.exit_code == 2
    return str(caught.value)


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"new": 1}),
    "jsonl": lambda path: write_jsonl(path, [{"new": number} for number in range(3)]),
    "frame": lambda path: write_frame(path, scores(score("new")), LabelScore),
}


def test_a_temporary_file_that_another_process_removed_before_it_was_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = os.open, []

    def opened(path: Any, flags: int, *mode: int) -> int:
        descriptor = real(path, flags, *mode)
        if flags & os.O_CREAT and not removed:
            removed.append(path)
            remove_unfinished(tmp_path)  # as a second process would that writes into the same folder
            assert not Path(path).exists()
        return descriptor

    monkeypatch.setattr(os, "open", opened)
    write_text(tmp_path / "artifact", "new")
    assert removed
    assert [item.name for item in tmp_path.iterdir()] == ["artifact"]
    assert (tmp_path / "artifact").read_text() == "new"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_when_the_kth_call_fails_the_file_is_complete_and_no_temporary_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, call: str
) -> None:
    path = tmp_path / "artifact"
    for k in range(1, 20):
        path.write_bytes(b"old")
        with monkeypatch.context() as patch:
            if call == "write":
                fail_write(patch, k)
            else:
                fail_call(patch, call, k)
            try:
                WRITERS[writer](path)
            except InputError as error:
                assert str(error) == (
                    f"{path}: cannot write: No space left on device (free some space, then run the same command again)"
                )
            else:
                assert k > 1
                break
        assert [item.name for item in tmp_path.iterdir()] == ["artifact"]
        # only the folder's fsync comes after the new file has replaced the old one
        assert path.read_bytes() == b"old" or (call, k) in (("fsync", 2), ("open", 2))
    else:
        pytest.fail("every call failed")
    assert path.read_bytes() != b"old"


def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    path.write_bytes(b"old")

    def broken(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, broken)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("writer", ["text", "frame"])
def test_a_real_limit_of_the_operating_system_is_reported(tmp_path: Path, writer: str) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import polars as pl\n"
        "from marginalia.schemas.tables import LabelScore\n"
        "from marginalia.schemas.storage.files import write_frame, write_text\n"
        "from marginalia.schemas.errors import InputError\n"
        "names = [str(n) for n in range(5000)]\n"
        "frame = pl.DataFrame({'record_id': names, 'estimator': names, 'label': names, 'probability': 0.5, "
        "'lower': 0.5, 'upper': 0.5})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "path = Path(sys.argv[1])\n"
        "try:\n"
        "    write_frame(path, frame, LabelScore) if sys.argv[2] == 'frame' else write_text(path, 'x' * 5000)\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "artifact"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", script, str(path), writer]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: cannot write: File too large (free some space, then run the same command again)\n"
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (b"old", 1)


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "artifact"
    assert message(lambda: write_text(path, "x")).startswith(f"{path}: cannot write: ")


def test_files_are_readable_for_others_and_secrets_are_not(tmp_path: Path) -> None:
    write_text(tmp_path / "open", "x")
    write_text(tmp_path / "secret", "x", mode=0o600)
    assert [oct((tmp_path / name).stat().st_mode & 0o077) for name in ("open", "secret")] in (
        ["0o44", "0o0"],
        ["0o0", "0o0"],
    )


def test_nan_is_never_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "a.json", {"f1": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_jsonl_is_one_line_whatever_it_contains(tmp_path: Path) -> None:
    entry = {"text": "a\u2028b\u2029c\x85d\ne\ud800"}
    line = jsonl_line(entry)
    assert (line.count(b"\n"), line.endswith(b"\n"), line.isascii()) == (1, True, True)
    write_jsonl(tmp_path / "a.jsonl", [entry, entry])
    assert len((tmp_path / "a.jsonl").read_text("utf-8").splitlines()) == 2


MADE_BY = "marginalia score --run runs/x"


def test_a_frame_is_read_as_it_was_written(tmp_path: Path) -> None:
    frame = scores(score("r1"), score("r2"))
    write_frame(tmp_path / "a.parquet", frame.select(reversed(frame.columns)), LabelScore)
    assert read_frame(tmp_path / "a.parquet", LabelScore, made_by=MADE_BY).equals(frame)


def test_an_empty_frame_keeps_its_columns(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.parquet", GoldRecord.frame([]), GoldRecord)
    frame = read_frame(tmp_path / "a.parquet", GoldRecord, made_by=MADE_BY)
    assert (frame.height, frame.schema) == (0, GoldRecord.polars_schema())


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (scores(score("r1")).drop("upper"), "column 'upper' is missing; it has "
         "['record_id', 'estimator', 'label', 'probability', 'lower']"),
        (scores(score("r1")).with_columns(extra=1), "unknown column 'extra'; expected "
         "['record_id', 'estimator', 'label', 'probability', 'lower', 'upper']"),
        (scores(score("r1")).cast({"lower": pl.Float32}), "column 'lower' is Float32, expected Float64"),
        (scores(score("r1", label=None), score("r2")), "column 'label' has 1 nulls"),
        (scores(score("r1"), score("r1")), "duplicate record_id × estimator × label: 'r1' × 'marginal' × 'a'"),
        (scores(score("r1", probability=float("nan"))), "column 'probability' contains NaN"),
    ],
)  # fmt: skip
def test_a_frame_that_violates_its_model_is_neither_written_nor_read(
    tmp_path: Path, frame: pl.DataFrame, problem: str
) -> None:
    path = tmp_path / "a.parquet"
    assert message(lambda: write_frame(path, frame, LabelScore)) == f"{path}: {problem}"
    assert not path.exists()
    frame.write_parquet(path)
    problem_when_read = message(lambda: read_frame(path, LabelScore, made_by=MADE_BY))
    assert problem_when_read == f"{path}: {problem} (rebuild it with {MADE_BY})"


def test_a_value_that_a_column_does_not_allow_is_refused(tmp_path: Path) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    row = {
        "record_id": "r1", "annotator": "A01", "labels": None, "status": "done", "note": None,
        "submitted_at": None, "pulled_at": now, "round": "annotate",
    }  # fmt: skip
    path = tmp_path / "a.parquet"
    assert message(lambda: write_frame(path, Answer.frame([row]), Answer)) == (
        f"{path}: column 'status' contains 'done', expected submitted, discarded, draft"
    )


def test_a_missing_or_damaged_artifact_names_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert message(lambda: read_frame(path, LabelScore, made_by=MADE_BY)) == f"{path}: no such file (run {MADE_BY})"
    write_frame(path, scores(score("r1")), LabelScore)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PAR1", b"\0" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError) as caught:
            read_frame(path, LabelScore, made_by=MADE_BY)
        assert str(caught.value).startswith(f"{path}: not a readable Parquet file: ")
        assert str(caught.value).endswith(f"({MADE_BY})")


def test_text_that_is_not_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    assert message(lambda: read_text(path)) == f"{path}: line 2: byte 8 is not UTF-8 (save it as UTF-8)"
    assert message(lambda: read_text(tmp_path)) == f"{tmp_path}: cannot read: Is a directory"
    assert message(lambda: read_text(tmp_path / "no")) == f"{tmp_path / 'no'}: no such file"


def test_json_errors_name_the_line_and_the_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1,\n "b": }\n', encoding="utf-8")
    assert message(lambda: read_json(path)) == f"{path}: line 2: not JSON: Expecting value"
    path.write_text('{"stage": "score"}', encoding="utf-8")
    assert message(lambda: read_model(path, Manifest, made_by=MADE_BY)) == (
        f"{path}: inputs: Field required (rebuild it with {MADE_BY})"
    )


def test_hashes_depend_on_content_and_not_on_form(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, example B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1}) != content_hash({"a": 1, "b": [3]})
    first, second = scores(score("r1"), score("r2")), scores(score("r2"), score("r1"))
    assert frame_hash(first) == frame_hash(first.clone()) != frame_hash(second)
    assert frame_hash(first, without=["lower"]) == frame_hash(first.with_columns(lower=0.1), without=["lower"])


def test_the_hash_of_a_folder_changes_with_any_name_or_byte(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> str:
        for path, data in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(data)
        return sha256(tmp_path / name)

    first = folder("one", {"a": b"x", "b/c": b"y"})
    assert first == folder("two", {"b/c": b"y", "a": b"x"})
    assert len({first, folder("three", {"a": b"x", "b/d": b"y"}), folder("four", {"a": b"x", "b/c": b"z"})}) == 3


def test_a_frame_written_twice_is_the_same_bytes() -> None:
    written = []
    for _ in range(2):
        buffer = io.BytesIO()
        scores(score("r1"), score("r2")).write_parquet(buffer)
        written.append(buffer.getvalue())
    assert written[0] == written[1]
