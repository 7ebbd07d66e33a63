"""`--shard i/n` and `merge`: the same tables as one job, or a refusal that says which shard to score again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from marginalia.schemas.errors import InputError
from marginalia.scoring.command import main
from marginalia.scoring.engines import shards
from marginalia.scoring.engines.shards import Shard, parse_shard
from tests.scoring.test_guards import own
from tests.scoring.tiny import save

OPTIONS = ["--guard", "instruct", "--taxonomy", "support-tickets", "--tolerance", "0.05", "--node-budget", "30"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tmp_path_factory.mktemp("tiny") / "model", 4, sharpness=3.0))


def records_in(folder: Path, count: int = 11, long: int | None = None) -> Path:
    rows = [{"id": f"r{n}", "text": f"Where is my parcel {n}?" * (400 if n == long else 1)} for n in range(count)]
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(records: Path, model: str, out: str, *more: str) -> int:
    return main([str(records), "--model", model, *OPTIONS, "--out", str(records.parent / out), *more])


def merge(records: Path) -> int:
    return main(["merge", str(records), "--out", str(records.parent / "parts.parquet")])


def assert_same(folder: Path) -> None:
    for part in ("", ".records"):
        one, parts = (pl.read_parquet(folder / f"{name}{part}.parquet") for name in ("one", "parts"))
        assert one.schema == parts.schema
        keys = [name for name, dtype in one.schema.items() if dtype != pl.Float64() and name != "forward_passes"]
        assert one.select(keys).equals(parts.select(keys))
        for column in {"probability", "lower", "upper", "off_language"} & set(one.columns):
            assert ((one[column] - parts[column]).abs().max() or 0) <= 1e-4


def test_three_shards_make_the_tables_of_one_job(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "CHUNK", 4)
    records = records_in(tmp_path, long=3)  # one record is too long and fails in its shard as it does alone
    assert score(records, model, "one.parquet") == 1
    codes = [score(records, model, "parts.parquet", "--shard", f"{number}/3") for number in (3, 1, 2)]
    assert sorted(codes) == [0, 0, 1]
    assert merge(records) == 1
    assert_same(tmp_path)
    said = capsys.readouterr()
    assert said.out.endswith("parts.parquet: 10 records × 8 estimators × 13 labels\n")
    assert "1 record could not be scored, first 'r3': too long" in said.err


def test_a_shard_without_records_and_one_without_scores(tmp_path: Path, model: str) -> None:
    records = records_in(tmp_path, 1, long=0)
    assert score(records, model, "one.parquet") == 1
    assert sorted(score(records, model, "parts.parquet", "--shard", f"{number}/2") for number in (1, 2)) == [0, 1]
    assert merge(records) == 1
    assert_same(tmp_path)


def test_merge_refuses_what_does_not_fit(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    records = records_in(tmp_path, 6)

    def refused() -> str:
        capsys.readouterr()
        assert merge(records) == 2
        return capsys.readouterr().err

    def again(shard: str, *more: str) -> None:
        assert score(records, model, "parts.parquet", "--shard", shard, *more) == 0

    folder = tmp_path / "parts.shards"
    command = f"python -m marginalia.scoring {records} … --out {tmp_path / 'parts.parquet'} --shard"
    assert refused() == f"error: {folder}: contains no shards (score them first: {command} 1/4)\n"
    again("1/2")
    assert refused() == f"error: {folder}: shard 2/2 is missing ({command} 2/2)\n"
    again("2/2", "--tolerance", "0.2")
    settings = "different settings (dtype, tolerance, budget, guard file or taxonomy)"
    hint = f"(score 2/2 again: {command} 2/2)"
    assert refused() == f"error: shards 1/2 and 2/2 were scored with {settings} {hint}\n"
    again("2/2", "--estimator", "marginal")
    said = refused()
    assert "shards 1/2 and 2/2 were scored with different estimators: ['marginal', 'marginal_in_language', " in said
    assert "] and ['marginal'] (score 2/2 again: " in said
    again("2/2")
    table = folder / "2-of-2" / "parts.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert refused() == f"error: {table}: has changed since its shard was scored ({command} 2/2)\n"
    table.write_bytes(whole)
    assert merge(records) == 0
    records_in(tmp_path, 7)
    assert "was scored from other records: it has" in refused()
    records_in(tmp_path, 6)
    again("1/3")
    assert (
        "contains shards of a job with 2 parts and of one with 3 (delete those that you do not need, such as "
        in refused()
    )


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "-1/2", "a/b", "1/2/3"])
def test_a_shard_is_i_of_n(text: str) -> None:
    with pytest.raises(InputError, match=r"expected i/n with i from 1 to n, such as 2/4"):
        parse_shard(text)


def test_every_record_is_in_one_shard_and_shards_are_even() -> None:
    places = [Shard(number, 5) for number in range(1, 6)]
    held = [[place.number for place in places if place.holds(f"record {n}")] for n in range(2000)]
    assert all(len(numbers) == 1 for numbers in held)
    assert all(340 <= count <= 460 for count in Counter(numbers[0] for numbers in held).values())


def test_calibrated_shards_are_refused(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(records_in(tmp_path), model, "one.parquet", "--shard", "1/2", "--calibration", "c.json") == 2
    assert "--calibration cannot be used with --shard (leave one of them out)" in capsys.readouterr().err


def test_levels_are_kept_over_shards(tmp_path: Path, model: str) -> None:
    severity = {"levels": ["none", "low"], "rows": {"one": 1, "unsafe": 1}, "name": "severity"}
    guard = own(tmp_path, answer=[[severity, {"optional": [":", {"labels": [","]}]}]])
    records = records_in(tmp_path, 4)
    chosen = [str(records), "--model", model, "--guard", str(guard), "--tolerance", "0.05"]
    assert main([*chosen, "--out", str(tmp_path / "one.parquet")]) == 0
    for number in (1, 2):
        assert main([*chosen, "--out", str(tmp_path / "parts.parquet"), "--shard", f"{number}/2"]) == 0
    assert merge(records) == 0
    one, parts = (pl.read_parquet(tmp_path / f"{name}.records.parquet")["levels"] for name in ("one", "parts"))
    assert one.null_count() == 0 and one.list.len().to_list() == [3] * 4
    for before, after in zip(one.explode().to_list(), parts.explode().to_list(), strict=True):
        assert (before["name"], before["estimator"]) == (after["name"], after["estimator"])
        assert after["expected"] == pytest.approx(before["expected"], abs=1e-4)
