"""Every artifact of every stage, cut short and with one bit turned over: caught by `verify` and by every stage that
reads it, with the command that rebuilds it, and that command does. Journals, which nothing rebuilds, too."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.manifest_hashes import check_manifests
from marginalia.pipeline.verification.verify import verify
from marginalia.schemas.errors import ArtifactError, MarginaliaError
from marginalia.schemas.storage.journal import checked_line
from tests.soak.small_run import LINE, SmallLine, content, run_one

pytestmark = pytest.mark.slow
JOURNALS = {"responses.jsonl": "generate", "annotations.jsonl": "pull", "scores/tiny.journal.jsonl": "score"}


@pytest.fixture
def folder(line: SmallLine) -> Iterator[Path]:
    with line.copy("publish", after=True) as copied:
        yield copied


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def flip(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    return {stage: json.loads((folder / f"manifests/{stage}.json").read_bytes()) for stage in LINE}


def written(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(stage, output in its manifest, file) of all."""
    for stage, manifest in manifests(folder).items():
        for name in manifest["outputs"]:
            files = [item for item in (folder / name).rglob("*") if item.is_file()] or [folder / name]
            yield from ((stage, name, file.relative_to(folder).as_posix()) for file in files)


@pytest.mark.parametrize("damage", [truncate, flip])
def test_every_damaged_artifact_is_caught_by_verify_and_by_whoever_reads_it(
    folder: Path, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    run, draw = open_run(folder), random.Random(2026)
    told = manifests(folder)
    seen = set()
    for stage, output, name in written(folder):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(damage(whole, draw))
        found = Verification(str(folder))
        check_manifests(run, found)
        said = {(check.stage, check.problem): check.fix or "" for check in found.failed if check.subject == "outputs"}
        problem = f"{output} is not what it wrote (its SHA-256 differs)"
        assert said.keys() == {(stage, problem)}, name
        assert run.command(stage) in said[stage, problem]
        for reader in [reader for reader in LINE if output in told[reader]["inputs"]]:
            seen.add((reader, output))
            with pytest.raises(ArtifactError) as caught:
                run_stage(load_stage(reader), run, force=True)
            expected = (
                f"{folder / output}: is not what {stage} wrote (its SHA-256 differs) ({run.command(stage)} --force)"
            )
            assert str(caught.value) == expected
        path.write_bytes(whole)
    every = {(stage, name) for stage in LINE for name in told[stage]["inputs"] if not name.startswith("manifests/")}
    made = {output for _, output, _ in written(folder)}
    assert seen == {(reader, name) for reader, name in every if name in made}


@pytest.mark.parametrize("damage", [truncate, flip])
def test_the_command_that_is_told_rebuilds_it(line: SmallLine, damage: Callable[[bytes, random.Random], bytes]) -> None:
    draw = random.Random(7)
    with line.copy("publish", after=True) as first:
        names = [(stage, name) for stage, name, _ in written(first) if name not in JOURNALS]
        if damage is truncate:  # a manifest's own text has no hash: one bit may make another number of it
            names += [(stage, f"manifests/{stage}.json") for stage in LINE if stage != "publish"]
    for stage, name in dict.fromkeys(names):
        with line.copy(stage, after=True) as folder:
            path = folder / name
            path = path / "release.json" if path.is_dir() else path
            path.write_bytes(damage(path.read_bytes(), draw))
            assert verify(open_run(folder)).failed, name
            try:
                run_one(stage, folder, force=True)
            except MarginaliaError as error:
                assert f"{stage} --run {folder} after deleting the folder release" in str(error), name
                shutil.rmtree(folder / "release")
                run_one(stage, folder, force=True)
            assert not verify(open_run(folder)).failed, name
            assert content(folder) == content(line.after[stage]), name


@pytest.mark.parametrize(("name", "stage"), JOURNALS.items())
def test_a_torn_last_line_is_truncated_with_a_warning(
    line: SmallLine, name: str, stage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with line.copy(stage, after=True) as folder:
        path = folder / name
        data = path.read_bytes()
        last = data[data[:-1].rfind(b"\n") + 1 :]
        path.write_bytes(data[: -len(last) // 2])
        run_one(stage, folder, force=True)
        said = capfd.readouterr().err
        assert f"{path}: truncated an incomplete last line of " in said
        assert content(folder) == content(line.after[stage])


@pytest.mark.parametrize(("name", "stage"), JOURNALS.items())
def test_a_turned_bit_in_a_journal_is_named_with_its_line(folder: Path, name: str, stage: str) -> None:
    path, draw = folder / name, random.Random(11)
    whole = path.read_bytes()
    lines = whole.split(b"\n")
    for number in range(1, len(lines)):
        at = draw.randrange(len(lines[number - 1]))
        turned = bytearray(lines[number - 1])
        turned[at] ^= 1 << draw.randrange(8)
        if b"\n" in turned:
            continue
        path.write_bytes(b"\n".join([*lines[: number - 1], bytes(turned), *lines[number:]]))
        with pytest.raises(ArtifactError, match=f"^{path}: line {number}: damaged: "):
            run_one(stage, folder, force=True)
        problems = [check.problem or "" for check in verify(open_run(folder)).failed if check.subject == "journal"]
        assert any(problem.startswith(f"{path}: line {number}: damaged: ") for problem in problems)
        path.write_bytes(whole)


WRONG = [
    ("responses.jsonl", ("text",), 5, "text is not text"),
    ("responses.jsonl", ("prompt_tokens",), "many", "prompt_tokens is not a whole number"),
    ("responses.jsonl", ("created_at",), "yesterday", "Invalid isoformat string"),
    ("annotations.jsonl", ("labels",), "a", "labels: Input should be a valid list"),
    ("annotations.jsonl", ("status",), "thought", "status: Input should be 'submitted', 'discarded' or 'draft'"),
    ("scores/tiny.journal.jsonl", ("scores", "marginal", 0, 1), "0.5", "scores.marginal.0.1: Input should be a valid"),
    ("scores/tiny.journal.jsonl", ("scores", "marginal", 2), [0.5], r"marginal: expected 3 × \d+ numbers"),
    ("scores/tiny.journal.jsonl", ("nodes",), None, "nodes: Input should be a valid integer"),
    ("scores/tiny.journal.jsonl", ("rows",), "ab", "rows: Input should be a valid list"),
    ("scores/tiny.journal.jsonl", ("error",), 7, "error: Input should be a valid string"),
]


@pytest.mark.parametrize(("name", "place", "value", "problem"), WRONG)
def test_a_wrong_type_in_a_journal_is_named_with_its_line(
    folder: Path, name: str, place: tuple[Any, ...], value: object, problem: str
) -> None:
    path = folder / name
    lines = path.read_bytes().split(b"\n")
    entry = json.loads(lines[1])
    del entry["crc"]
    inner = entry
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    path.write_bytes(b"\n".join([lines[0], checked_line(entry)[:-1], *lines[2:]]))
    with pytest.raises(ArtifactError, match=f"^{path}: line 2: .*{problem}"):
        run_one(JOURNALS[name], folder, force=True)
    assert verify(open_run(folder)).failed
