"""Checks the files of a run against the hashes in its manifests."""

from __future__ import annotations

from pathlib import Path

from marginalia.pipeline.core.artifacts import ARTIFACTS, GUARD, artifact_of
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_order import STAGES, load_stage
from marginalia.pipeline.core.stage_runner import config_hash, read_manifest
from marginalia.pipeline.verification.check_results import Verification
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.files import sha256

RESTORE = "restore it from a back-up"


def check_manifests(run: Run, verification: Verification) -> dict[str, Manifest]:
    """Adds the checks of all manifests; returns the readable ones, by stage."""
    manifests = {}
    names = {path.stem for path in run.path("manifests").glob("*.json")}
    for stage in [*(name for name in STAGES if name in names), *sorted(names - STAGES.keys())]:
        with verification.failing(stage, "manifest", f"{run.command(stage)} --force"):
            manifest = read_manifest(run, stage)
            if manifest is not None:
                manifests[stage] = manifest
                _check_files(run, manifest, verification)
    _check_unlisted(run, manifests, verification)
    _check_modes(run, verification)
    return manifests


def _check_files(run: Run, manifest: Manifest, verification: Verification) -> None:
    """Checks outputs first, because the stage that wrote a damaged file rebuilds it; a changed input makes it stale."""
    stage = manifest.stage
    damaged = [name for name in sorted(manifest.outputs) if _hash(run.path(name)) != manifest.outputs[name]]
    problems = [f"{name} is {_state(run.path(name))}" for name in damaged]
    fix = f"{run.command(stage)} --force"
    if any(artifact is not None and artifact.journal for artifact in map(artifact_of, damaged)):
        fix = f"{RESTORE}, or if a later {stage} was interrupted: {run.command(stage)}"
    verification.add(stage, "outputs", f"{len(manifest.outputs)} as written", problems, fix)
    if stage not in STAGES or load_stage(stage).live:
        return  # its inputs change while it works, so their hashes are not compared
    changed = [name for name in sorted(manifest.inputs) if _input_changed(run, name, manifest.inputs[name])]
    problems = [f"{name} has changed since {stage} read it" for name in changed]
    verification.add(stage, "inputs", f"{len(manifest.inputs)} as read", problems, run.command(stage))
    with verification.failing(stage, "config", run.command(stage)):
        same = manifest.config_sha256 == config_hash(load_stage(stage), run)
        problems = [] if same else ["config.yaml or the taxonomy has changed since the stage ran"]
        verification.add(stage, "config", "unchanged", problems, run.command(stage))


def _input_changed(run: Run, name: str, expected: str) -> bool:
    path = run.path(name)
    if Path(name).is_absolute() and not path.exists():
        return False  # the source of an import, outside the run folder, which users may delete
    return _hash(path) != expected


def _hash(path: Path) -> str | None:
    try:
        return sha256(path) if path.exists() else None
    except OSError:
        return None


def _state(path: Path) -> str:
    return "not what it wrote (its SHA-256 differs)" if path.exists() else "missing"


def _check_unlisted(run: Run, manifests: dict[str, Manifest], verification: Verification) -> None:
    """Finds artifacts that no manifest lists: their stage was killed before it finished, or somebody added them."""
    written = {name for manifest in manifests.values() for name in manifest.outputs}
    for artifact in [artifact for artifact in ARTIFACTS if artifact.named]:
        for path in sorted(run.folder.glob(artifact.name.replace(GUARD, "*"))):
            name = path.relative_to(run.folder).as_posix()
            if path.is_file() and name not in written and artifact_of(name) is artifact:
                maker = artifact.maker(run)
                with verification.failing(maker, "manifest", run.command(maker)):
                    verification.add(maker, "manifest", "", [f"no manifest lists {name}"], _fix(run, maker, name))


def _fix(run: Run, maker: str, name: str) -> str:
    """The command that rebuilds an unlisted file, or removes it if its stage would not write it in this run."""
    return run.command(maker) if name in load_stage(maker).outputs(run) else f"rm {run.path(name)}"


def _check_modes(run: Run, verification: Verification) -> None:
    private = [artifact.name for artifact in ARTIFACTS if artifact.private and artifact.exists(run)]
    exposed = [name for name in private if run.path(name).stat().st_mode & 0o077]
    if private:
        problems = [f"other users can read {name}" for name in exposed]
        paths = " ".join(str(run.path(name)) for name in exposed)
        verification.add(
            "run", "private files", f"{len(private)} readable by their owner only", problems, f"chmod 600 {paths}"
        )
