"""The rows of the tables of bad input: the files in the folder, the command, its exit code and all of its stderr."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.scoring.command import main as scoring
from marginalia.scoring.guard import SHIPPED as GUARDS

Files = dict[str, Any]
# name, files, command, exit code, message
Row = tuple[str, Files, str, int, str]
SCORING = "--model nothing --guard instruct --taxonomy support-tickets --out o.parquet"
SHIPPED = ", ".join(path.stem for path in sorted(GUARDS.glob("*.yaml")))  # guards, as messages list them
GOOD = {"id": "a", "text": "My parcel is late", "labels": ["late_delivery"]}


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(folder: Path, files: Files) -> None:
    """Writes text, bytes, or a frame (as Parquet) for each name; None deletes the file."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, pl.DataFrame):
            content.write_parquet(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


def run_command(command: str) -> tuple[int, str]:
    """Exit code and stderr of a command, run in this process. `scoring RECORDS …` is `python -m marginalia.scoring`
    with the options that it requires; all other commands are marginalia's."""
    name, *words = command.split()
    if name != "scoring":
        done = CliRunner().invoke(app, [name, *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stderr
    required = SCORING.split()
    for option, value in zip(required[::2], required[1::2], strict=True):
        words += [] if option in words else [option, value]
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        code = scoring(words)
    return code, stderr.getvalue()


def check(folder: Path, row: Row) -> None:
    """`folder` is the working folder, which messages contain as `{folder}`. The run runs/r has a config."""
    _, files, command, code, message = row
    write(folder, {"runs/r/config.yaml": "taxonomy: support-tickets\n"})
    write(folder, files)
    assert run_command(command) == (code, f"error: {message}\n".replace("{folder}", str(folder)))


def names(rows: list[Row]) -> list[str]:
    return [name for name, *_ in rows]
