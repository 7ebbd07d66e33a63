"""`--engine ray`: the same tables as one process, whatever dies on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psutil
import pytest

from marginalia.schemas.errors import InputError
from marginalia.scoring.config import RayOptions
from marginalia.scoring.engines import ray_data
from marginalia.scoring.score_request import ScoreRequest
from tests.hostile.commands import MARK, marked
from tests.scoring.tiny import save

ROOT = Path(__file__).parents[2]
RECORDS = 32
# a cluster of the tests' own listens on 127.0.0.1 only, and asks for a password
ENVIRONMENT = {
    **os.environ,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "5a" * 32,
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(ROOT),
    MARK: uuid.uuid4().hex,
}


@pytest.fixture(scope="module", autouse=True)
def no_process_left() -> Iterator[None]:
    """After a killed driver, Ray's agents notice only after a minute that they are alone. Ends those of these tests."""
    yield
    for process in marked(ENVIRONMENT[MARK]):
        process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records, a tiny model, a guard file and a taxonomy of the user's own, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("ray")
    save(folder / "model", 4, sharpness=3.0)
    guard = (ROOT / "scoring/guards/instruct.yaml").read_text().replace("guard: instruct", "guard: mine")
    (folder / "mine.yaml").write_text(guard)
    (folder / "topics.yaml").write_text((ROOT / "schemas/taxonomies/support-tickets.yaml").read_text())
    rows = [{"id": f"r{n:02}", "text": f"Where is my parcel? {'It is late. ' * (n % 7)}{n}"} for n in range(RECORDS)]
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert finish(score(folder, "alone")) == (0, f"alone.parquet: {RECORDS} records × 8 estimators × 13 labels\n")
    return folder


@dataclass(frozen=True)
class Cluster:
    address: str
    process: psutil.Process

    def actors(self) -> list[psutil.Process]:
        """The processes that score: those of this cluster only, whoever else uses Ray on the machine."""
        return [child for child in self.process.children(recursive=True) if "ScoringActor" in " ".join(cmdline(child))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.scoring.ray_cluster"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    yield Cluster(process.stdout.readline().strip(), psutil.Process(process.pid))
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def score(folder: Path, name: str, *more: str, records: str = "records.jsonl") -> subprocess.Popen[str]:
    """The command started in `folder`, so that all of its paths are relative ones."""
    command = [sys.executable, "-m", "scoring", records, "--model", "model", "--guard", "mine.yaml"]
    command += ["--taxonomy", "topics.yaml", "--out", f"{name}.parquet", "--tolerance", "0.05", "--node-budget", "40"]
    return subprocess.Popen(
        [*command, "--batch-records", "1", *more],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(job: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output; its errors are shown when the test fails."""
    out, errors = job.communicate(timeout=300)
    print(errors, file=sys.stderr)
    return job.returncode, out


def wait_for_lines(job: subprocess.Popen[str], journal: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= count):
        assert job.poll() is None and time.monotonic() < deadline, finish(job)
        time.sleep(0.01)


def ids_in(journal: Path) -> list[str]:
    return [json.loads(line)["id"] for line in journal.read_bytes().splitlines() if line.endswith(b"}")]


def assert_same_tables(folder: Path, one: str, other: str) -> None:
    left, right = (pl.read_parquet(folder / f"{name}.parquet") for name in (one, other))
    keys = ["record_id", "estimator", "label"]
    assert left.select(keys).equals(right.select(keys))
    for column in ("probability", "lower", "upper"):
        assert (left[column] - right[column]).abs().max() <= 1e-4
    left, right = (pl.read_parquet(folder / f"{name}.records.parquet") for name in (one, other))
    assert left.select("record_id", "answer", "predicted", "error").equals(
        right.select("record_id", "answer", "predicted", "error")
    )


def test_two_nodes_a_killed_driver_and_a_killed_worker(folder: Path, cluster: Cluster) -> None:
    journal = folder / "killed.journal.jsonl"
    options = ("--engine", "ray", "--address", cluster.address, "--actors", "2")
    job = score(folder, "killed", *options)
    wait_for_lines(job, journal, 4)
    job.kill()
    job.communicate()
    held = ids_in(journal)
    assert 4 <= len(held) < RECORDS

    job = score(folder, "killed", *options)
    wait_for_lines(job, journal, len(held) + 1)
    scored_before_the_kill = ids_in(journal)
    cluster.actors()[0].kill()
    status, out = finish(job)
    assert status == 0 and out.endswith(f"killed.parquet: {RECORDS} records × 8 estimators × 13 labels\n")
    assert len(set(scored_before_the_kill)) == len(scored_before_the_kill), "a record that was held was scored again"
    assert_same_tables(folder, "alone", "killed")


def test_started_here_it_listens_on_loopback_only(folder: Path) -> None:
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "few.jsonl").write_text("".join(lines[:6]))
    job = score(folder, "here", "--engine", "ray", "--actors", "2", records="few.jsonl")
    wait_for_lines(job, folder / "here.journal.jsonl", 1)
    family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert finish(job) == (0, "here.parquet: 6 records × 8 estimators × 13 labels\n")
    assert listening and all(ip.removeprefix("::ffff:") == "127.0.0.1" for ip in listening)
    few = pl.read_parquet(folder / "alone.parquet").filter(pl.col("record_id") < "r06")
    assert few.select("record_id", "label").equals(
        pl.read_parquet(folder / "here.parquet").select("record_id", "label")
    )


def test_sigterm_ends_the_cluster_that_was_started_here(folder: Path) -> None:
    mark = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENT, MARK, mark)
        job = score(folder, "stopped", "--engine", "ray", "--actors", "1")
    wait_for_lines(job, folder / "stopped.journal.jsonl", 1)
    job.terminate()
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143
    assert errors.endswith("stopped by SIGTERM; run the same command to continue\n")
    assert [" ".join(cmdline(process)) for process in marked(mark)] == []


def test_what_an_actor_cannot_load_is_told_as_one_process_tells_it(folder: Path, cluster: Cluster) -> None:
    job = score(folder, "wrong", "--engine", "ray", "--address", cluster.address, "--model", "nowhere")
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 2
    assert "error: no model 'nowhere': no such folder (--model takes a folder" in errors
    assert "[on the Ray node " in errors


def test_no_cluster_at_the_address(folder: Path) -> None:
    job = score(folder, "wrong", "--engine", "ray", "--address", "not-an-address")
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 3
    assert "error: cannot connect to Ray at not-an-address" in errors and "host:port" in errors


def test_without_ray_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_data, "find_spec", lambda name: None)
    request = ScoreRequest(model="model", guard="instruct")
    with pytest.raises(InputError, match=r"the engine ray is not installed \(pip install 'ray\[data\]"):
        ray_data.RayJob(request, [], tmp_path / "journal.jsonl", RayOptions())


@pytest.mark.parametrize(("records", "actors", "size"), [(1, 4, 1), (100, 2, 13), (10_000, 8, 64), (10**7, 8, 500)])
def test_blocks_keep_every_actor_busy_and_stay_few(records: int, actors: int, size: int) -> None:
    assert ray_data._block_size(records, actors, 64) == size
