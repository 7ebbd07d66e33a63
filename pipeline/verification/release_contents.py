"""Checks that the release folder has the tables that the run would release now."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from marginalia.pipeline.core.artifacts import ANSWERS, GOLD, GOLD_SEVERITY, REJECTED, RELEASE, SCORES
from marginalia.pipeline.release.croissant import described_files
from marginalia.pipeline.release.release_folder import CROISSANT, HISTORY
from marginalia.pipeline.release.release_tables import release_tables
from marginalia.pipeline.release.release_versions import ReleaseHistory
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.run_contents import Contents
from marginalia.schemas.storage.files import frame_hash, read_model, sha256


def check_release(contents: Contents, verification: Verification) -> None:
    """Each data file of the release equals the table built from the run's files, and release.json and croissant.json
    have its hash."""
    run, gold = contents.run, contents.table(GOLD)
    folder = RELEASE.path(run)
    if gold is None or not folder.is_dir():
        return
    fix = f"{run.command('release')} --force"
    with verification.failing("release", "counts", fix):
        tables = {guard: contents.table(SCORES.of(guard)) for guard in contents.guards}
        scores = {guard: table for guard, table in tables.items() if table is not None}
        severity = contents.table(GOLD_SEVERITY) if run.config.annotation.severity else None
        answers, rejected = contents.table(ANSWERS), contents.table(REJECTED)
        expected = release_tables(gold, answers, scores, rejected, severity, labels=run.taxonomy.ids)
        hashes = {name: frame_hash(table, name=name) for name, table in expected.items()}
        on_disk = {path.relative_to(folder).as_posix() for path in folder.glob("data/**/*.parquet")}
        problems = [f"{name} is missing" for name in sorted(hashes.keys() - on_disk)]
        problems += [f"{name} does not belong to this run" for name in sorted(on_disk - hashes.keys())]
        for name in sorted(hashes.keys() & on_disk):
            if _hash(contents, name) != hashes[name]:
                problems.append(f"{name} differs from the run's files")
        latest = read_model(folder / HISTORY, ReleaseHistory, made_by=run.command("release")).latest
        if latest.tables != hashes:
            problems.append(f"{HISTORY} lists other hashes")
        problems = problems or _description_problems(folder, on_disk)
        rows = sum(table.height for name, table in expected.items() if name.startswith("data/gold/"))
        final = gold.filter(pl.col("status") == "final").height
        if latest.records != rows or rows != final:
            problems.append(f"{latest.records:,} records are released, but {final:,} are final")
        summary = f"version {latest.version}: {rows:,} records of {final:,} final, {len(expected)} tables as built"
        verification.add("release", "counts", summary, problems, fix)


def _description_problems(folder: Path, data_files: set[str]) -> list[str]:
    """What croissant.json says wrongly about the data files. Releases of earlier versions do not have that file."""
    path = folder / CROISSANT
    if not path.exists():
        return []
    listed = described_files(path)
    problems = [f"{CROISSANT} does not list {name}" for name in sorted(data_files - listed.keys())]
    problems += [f"{CROISSANT} lists {name}, which does not exist" for name in sorted(listed.keys() - data_files)]
    return problems + [
        f"{CROISSANT} has another hash for {name}"
        for name in sorted(listed.keys() & data_files)
        if listed[name] != sha256(folder / name)
    ]


def _hash(contents: Contents, name: str) -> str | None:
    try:
        return frame_hash(pl.read_parquet(RELEASE.path(contents.run) / name), name=f"released {name}")
    except Exception:  # polars raises many types for damaged files
        return None
