"""Are the files of a run what the manifests say?"""

from __future__ import annotations

from pathlib import Path

from marginalia.pipeline.core.artifacts import ARTIFACTS, GUARD, artifact_of
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_order import STAGES, load_stage
from marginalia.pipeline.core.stage_runner import config_hash, read_manifest
from marginalia.pipeline.verification.check_results import Verification
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.files import sha256

RESTORE = "restore it from a back-up"


def check_manifests(run: Run, found: Verification) -> dict[str, Manifest]:
    """Adds the checks of all manifests; returns those that can be read, by stage."""
    manifests = {}
    names = {path.stem for path in run.path("manifests").glob("*.json")}
    for stage in [*(name for name in STAGES if name in names), *sorted(names - STAGES.keys())]:
        with found.failing(stage, "manifest", f"{run.command(stage)} --force"):
            manifest = read_manifest(run, stage)
            if manifest is not None:
                manifests[stage] = manifest
                _check_files(run, manifest, found)
    _check_strays(run, manifests, found)
    _check_modes(run, found)
    return manifests


def _check_files(run: Run, manifest: Manifest, found: Verification) -> None:
    """Outputs first: a damaged file is mended by its own stage; an input that has changed makes the stage stale."""
    stage = manifest.stage
    damaged = [name for name in sorted(manifest.outputs) if _hash(run.path(name)) != manifest.outputs[name]]
    problems = [f"{name} is {_state(run.path(name))}" for name in damaged]
    mend = f"{run.command(stage)} --force"
    if any(one is not None and one.journal for one in map(artifact_of, damaged)):
        mend = f"{RESTORE}, or, when a later {stage} was broken off: {run.command(stage)}"
    found.add(stage, "outputs", f"{len(manifest.outputs)} as written", problems, mend)
    if stage not in STAGES or load_stage(stage).live:
        return  # what it read was the state of a moment
    changed = [name for name in sorted(manifest.inputs) if _input_changed(run, name, manifest.inputs[name])]
    problems = [f"{name} is not what {stage} read" for name in changed]
    found.add(stage, "inputs", f"{len(manifest.inputs)} as read", problems, run.command(stage))
    with found.failing(stage, "config", run.command(stage)):
        same = manifest.config_sha256 == config_hash(load_stage(stage), run)
        problems = [] if same else ["config.yaml or the taxonomy has changed since"]
        found.add(stage, "config", "as it was", problems, run.command(stage))


def _input_changed(run: Run, name: str, expected: str) -> bool:
    path = run.path(name)
    if Path(name).is_absolute() and not path.exists():
        return False  # the source of an import that lay outside the run and has been taken away
    return _hash(path) != expected


def _hash(path: Path) -> str | None:
    try:
        return sha256(path) if path.exists() else None
    except OSError:
        return None


def _state(path: Path) -> str:
    return "not what it wrote (its SHA-256 differs)" if path.exists() else "missing"


def _check_strays(run: Run, manifests: dict[str, Manifest], found: Verification) -> None:
    """An artifact that no manifest names: its stage was killed before the end, or somebody put it there."""
    written = {name for manifest in manifests.values() for name in manifest.outputs}
    for one in [one for one in ARTIFACTS if one.named]:
        for path in sorted(run.folder.glob(one.name.replace(GUARD, "*"))):
            name = path.relative_to(run.folder).as_posix()
            if path.is_file() and name not in written and artifact_of(name) is one:
                maker = one.maker(run)
                with found.failing(maker, "manifest", run.command(maker)):
                    found.add(maker, "manifest", "", [f"no manifest names {name}"], _mend(run, maker, name))


def _mend(run: Run, maker: str, name: str) -> str:
    """The command that writes a stray file again; where its stage would not write it, the one that removes it."""
    return run.command(maker) if name in load_stage(maker).outputs(run) else f"rm {run.path(name)}"


def _check_modes(run: Run, found: Verification) -> None:
    there = [one.name for one in ARTIFACTS if one.private and one.exists(run)]
    open_ones = [name for name in there if run.path(name).stat().st_mode & 0o077]
    if there:
        problems = [f"{name} can be read by others" for name in open_ones]
        paths = " ".join(str(run.path(name)) for name in open_ones)
        found.add("run", "private files", f"{len(there)} readable by their owner only", problems, f"chmod 600 {paths}")


def readable(run: Run, stage: str) -> Manifest | None:
    """The stage's manifest, or None when there is none that can be read."""
    try:
        return read_manifest(run, stage)
    except MarginaliaError:
        return None
