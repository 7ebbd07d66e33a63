"""How a stage runs: when it is stale, what it may read, and the manifest that it writes.

A stage reads files of earlier stages and writes its own, each completely or not at all. It does nothing when its
inputs, its config and its outputs are those in its manifest, and no missing item is to be tried again."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from marginalia.pipeline.core.artifacts import artifact_of
from marginalia.pipeline.core.imported_files import keep_imported, keep_made
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.run_log import LOG, log_event
from marginalia.schemas.errors import ArtifactError, InputError, MarginaliaError
from marginalia.schemas.manifest_json import Manifest, Missing
from marginalia.schemas.stop_signals import signal_name
from marginalia.schemas.storage.files import content_hash, read_model, remove_unfinished, sha256, write_json
from marginalia.schemas.storage.folders import recover_folder
from marginalia.schemas.storage.overwriting import refuse_overwriting
from marginalia.schemas.storage.run_lock import run_lock
from marginalia.schemas.unexpected_errors import frames, note_traceback

WRITTEN_TO = (".", "manifests", "scores")  # folders of a run in which a killed stage may leave unfinished files
UNEXPECTED = "unexpected error"  # in the log: the texts of such errors may contain data
PACKAGES = ("argilla", "datasets", "krippendorff", "openai", "polars", "torch", "transformers")


@dataclass(frozen=True)
class StageOutcome:
    """What a stage's work contributes to its manifest: the fields of the same names in `Manifest`."""

    counts_in: dict[str, int]
    counts_out: dict[str, int]
    tokens: dict[str, int] = field(default_factory=dict)
    cost: float | None = None
    models: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    missing: Sequence[Missing] = ()


@dataclass(frozen=True)
class Stage:
    """A stage. `inputs` and `outputs` are paths of files or folders inside the run folder; `work` does the work.

    `sections` are the config sections whose change makes the stage stale. A `live` stage depends on the state of a
    server (pull, adjudicate, publish …), so it runs whenever it is called. `changed_elsewhere` is asked when no file
    has changed: it gives the reason why the stage must run all the same, such as records that a server has lost, or
    None."""

    name: str
    inputs: Callable[[Run], Sequence[str]]
    outputs: Callable[[Run], Sequence[str]]
    sections: tuple[str, ...]
    work: Callable[[Run], StageOutcome]
    live: bool = False
    changed_elsewhere: Callable[[Run], str | None] = lambda run: None


@dataclass(frozen=True)
class StageRun:
    """The outcome of `run_stage`. `why` is the reason why the stage ran."""

    stage: str
    status: Literal["ran", "up to date"]
    why: str
    manifest: Manifest


def run_stage(stage: Stage, run: Run, *, force: bool = False) -> StageRun:
    """Runs `stage` if it is stale (with `force`, always) and writes its manifest.

    Raises ArtifactError when an input is missing or is not what its stage wrote, and LockedError when another process
    uses the run folder."""
    with run_lock(run.folder, f"marginalia {stage.name}"), _log_failure(stage, run):
        _remove_unfinished(stage, run)
        before = _own_manifest(stage, run, force=force)
        _refuse_replacing(stage, run, force=force)
        inputs = _checked_inputs(stage, run)
        why = "forced" if force else "always runs" if stage.live else _stale(stage, run, inputs, before)
        why = why or _reason_to_retry(before) or stage.changed_elsewhere(run)
        if why is None and before is not None:
            log_event(run, stage.name, "up to date")
            return StageRun(stage.name, "up to date", "", before)
        log_event(run, stage.name, "started", why=why)
        started = time.monotonic()
        outcome = stage.work(run)
        manifest = Manifest(
            stage=stage.name,
            inputs=inputs,
            outputs={name: sha256(run.path(name)) for name in stage.outputs(run)},
            config_sha256=config_hash(stage, run),
            counts_in=outcome.counts_in,
            counts_out=outcome.counts_out,
            seconds=round(time.monotonic() - started, 3),
            tokens=outcome.tokens,
            cost=outcome.cost,
            models=outcome.models,
            versions=_versions(),
            facts=outcome.facts,
            warnings=list(outcome.warnings),
            missing=list(outcome.missing),
            finished_at=_finished_at(run, stage),
        )
        write_json(manifest_path(run, stage.name), manifest.model_dump(mode="json"))
        _log_finished(run, manifest)
        return StageRun(stage.name, "ran", why or "", manifest)


def _refuse_replacing(stage: Stage, run: Run, *, force: bool) -> None:
    """Raises InputError when the stage would replace imported files, or an import files of another stage."""
    try:
        imported = read_manifest(run, "import")
    except MarginaliaError:  # reported by the import
        imported = None
    if stage.name == "import":
        keep_made(run, stage.outputs(run), imported)
    elif not force:
        keep_imported(run, stage.name, stage.outputs(run), imported)


def _remove_unfinished(stage: Stage, run: Run) -> None:
    """Removes unfinished files of a killed process or a failed write."""
    for folder in WRITTEN_TO:
        remove_unfinished(run.path(folder))
    for name in stage.outputs(run):
        if not Path(name).suffix:
            recover_folder(run.path(name))


@contextmanager
def _log_failure(stage: Stage, run: Run) -> Iterator[None]:
    """Notes in the run's log why a stage failed or was interrupted."""
    try:
        yield
    except MarginaliaError as error:
        log_event(run, stage.name, "failed", error=type(error).__name__, message=str(error))
        raise
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            _log_fault(stage, run, error)
            raise
        disk_error = InputError.at(
            error.filename or run.folder,
            f"cannot read or write: {error.strerror}",
            hint="free disk space or fix the permissions",
        )
        log_event(run, stage.name, "failed", error=type(error).__name__, message=str(disk_error))
        raise disk_error from error
    except KeyboardInterrupt as stop:
        log_event(run, stage.name, "interrupted", error=type(stop).__name__, signal=signal_name(stop))
        raise
    except BaseException as error:  # also polars' PanicException, which is not an Exception
        _log_fault(stage, run, error)
        raise


def _log_fault(stage: Stage, run: Run, error: BaseException) -> None:
    log_event(run, stage.name, "failed", error=type(error).__name__, message=UNEXPECTED, traceback=frames(error))
    note_traceback(error, run.path(LOG))


def _log_finished(run: Run, manifest: Manifest) -> None:
    counts = {"in": manifest.counts_in, "out": manifest.counts_out}
    spent = {"seconds": manifest.seconds, "tokens": manifest.tokens, "cost": manifest.cost}
    missing = {"missing": [item.what for item in manifest.missing]} if manifest.missing else {}
    log_event(run, manifest.stage, "finished", counts=counts, **spent, **missing)


def staleness(stage: Stage, run: Run) -> str | None:
    """Why `stage` is stale; None when its files are up to date. A live stage, or one with items to retry, runs all the
    same."""
    missing = [name for name in stage.inputs(run) if not run.path(name).exists()]
    if missing:
        return f"{missing[0]} does not exist yet"
    inputs = {name: sha256(run.path(name)) for name in stage.inputs(run)}
    return _stale(stage, run, inputs, read_manifest(run, stage.name))


def _stale(stage: Stage, run: Run, inputs: dict[str, str], before: Manifest | None) -> str | None:
    if before is None:
        return "not run yet"
    if before.config_sha256 != config_hash(stage, run):
        return f"config changed ({', '.join(stage.sections)}, seed, taxonomy or simulated)"
    for name in sorted(inputs.keys() - before.inputs.keys()):
        return f"{name} is a new input"
    for name in sorted(inputs):
        if inputs[name] != before.inputs[name]:
            return f"{name} changed"
    for name in sorted(before.inputs.keys() - inputs.keys()):
        return f"{name} is no longer an input"
    for name in stage.outputs(run):
        if not run.path(name).exists():
            return f"{name} is missing"
        if sha256(run.path(name)) != before.outputs.get(name):
            return f"{name} is not what the stage wrote"
    return None


def _reason_to_retry(before: Manifest | None) -> str | None:
    """Why the stage runs although nothing has changed; None when it does not."""
    retry = before is not None and any(item.retry for item in before.missing)
    return "retries what was missing" if retry else None


def config_hash(stage: Stage, run: Run) -> str:
    """Hash of all settings that can change the stage's result: its sections, seed, simulated, and the taxonomy."""
    sections = {name: getattr(run.config, name).model_dump(mode="json") for name in stage.sections}
    general = {"seed": run.config.seed, "simulated": run.config.simulated}
    return content_hash({**sections, **general, "taxonomy": run.taxonomy.model_dump(mode="json")})


def _checked_inputs(stage: Stage, run: Run) -> dict[str, str]:
    hashes = {}
    written = [*map(run.path, stage.outputs(run)), manifest_path(run, stage.name)]
    hint = f"copy it to another path, and name that one in {run.folder}"
    refuse_overwriting(written, map(run.path, stage.inputs(run)), hint=hint)
    for name in stage.inputs(run):
        path = run.path(name)
        if not path.exists():
            artifact = artifact_of(name)
            raise ArtifactError.at(
                path, f"no such file; {stage.name} reads it", hint=artifact.command(run) if artifact else None
            )
        hashes[name] = sha256(path)
        writer = _last_writer(run, name)
        if writer is not None and writer.outputs[name] != hashes[name]:
            problem = f"is not what {writer.stage} wrote (its SHA-256 differs)"
            raise ArtifactError.at(path, problem, hint=f"{run.command(writer.stage)} --force")
    return hashes


def _own_manifest(stage: Stage, run: Run, *, force: bool) -> Manifest | None:
    """The stage's manifest. With `force`, one that cannot be read is renamed, so that a forced run replaces it."""
    try:
        return read_manifest(run, stage.name)
    except MarginaliaError:
        if not force:
            raise
        path = manifest_path(run, stage.name)
        path.replace(path.with_suffix(".damaged"))
        return None


def _finished_at(run: Run, stage: Stage) -> datetime:
    """Now; or, when the clock has been set back, a moment after the manifests of other stages with the same outputs:
    the last writer of a file is the stage with the latest manifest."""
    moment, own = datetime.now(UTC), set(stage.outputs(run))
    for path in run.path("manifests").glob("*.json"):
        if path.stem == stage.name:
            continue
        try:
            other = read_manifest(run, path.stem)
        except MarginaliaError:
            continue  # reported by the stage that needs it
        if other is not None and own & other.outputs.keys():
            moment = max(moment, other.finished_at + timedelta(milliseconds=1))
    return moment


def _last_writer(run: Run, name: str) -> Manifest | None:
    """The manifest of the stage that last wrote this file; None when no stage has."""
    manifests = [read_manifest(run, path.stem) for path in sorted(run.path("manifests").glob("*.json"))]
    writers = [manifest for manifest in manifests if manifest is not None and name in manifest.outputs]
    return max(writers, key=lambda manifest: manifest.finished_at, default=None)


def manifest_path(run: Run, stage: str) -> Path:
    """Where the manifest of a stage is."""
    return run.path(f"manifests/{stage}.json")


def read_manifest(run: Run, stage: str) -> Manifest | None:
    """The stage's manifest, or None when it has not run. Raises ArtifactError or InputError when it is damaged."""
    path = manifest_path(run, stage)
    rebuild = f"{run.command(stage)} --force" if stage != "publish" else f"{run.command(stage)}, after deleting it"
    return read_model(path, Manifest, made_by=rebuild) if path.exists() else None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ["marginalia", *PACKAGES]:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
