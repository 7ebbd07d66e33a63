"""Imported files stay as they are: no other stage replaces them unless it is forced, and an import does not replace
what another stage made."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from marginalia.pipeline.core.artifacts import ANSWERS, GOLD, PROMPTS, Artifact
from marginalia.pipeline.core.run import Run
from marginalia.schemas.errors import InputError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.files import sha256

NEW_RUN = "use a new run (marginalia new NAME)"


def is_imported(run: Run, artifact: Artifact, imported: Manifest | None) -> bool:
    """Whether the file is the one that the import wrote. `imported`: the manifest of the stage import."""
    path = run.path(artifact.name)
    return imported is not None and path.is_file() and imported.outputs.get(artifact.name) == sha256(path)


def is_answers_imported(manifests: Iterable[Manifest]) -> bool:
    """Whether the answers of a run with these manifests were imported rather than pulled from Argilla."""
    writers = [manifest for manifest in manifests if ANSWERS.name in manifest.outputs]
    return bool(writers) and max(writers, key=lambda manifest: manifest.finished_at).stage == "import"


def keep_imported(run: Run, stage: str, outputs: Collection[str], imported: Manifest | None) -> None:
    """Raises InputError when the stage would replace imported records, answers, or gold that has labels: an import
    would not be allowed to bring them back. push does not replace answers itself, but asks for answers that would."""
    if imported is None:
        return
    unlabelled = imported.counts_out.get("unlabelled", 0) == imported.counts_out.get("records")
    for artifact in (PROMPTS, ANSWERS, GOLD):
        if artifact.name not in outputs or (artifact is GOLD and unlabelled):
            continue
        if is_imported(run, artifact, imported):
            problem = f"{run.folder}: its {artifact.name} was imported; {stage} would replace it"
            raise InputError(problem, hint=f"{NEW_RUN}, or to replace it: {run.command(stage)} --force")
    if stage == "push" and is_imported(run, ANSWERS, imported):
        problem = f"{run.folder}: its {ANSWERS.name} was imported, and new answers cannot be added to it"
        hint = f"next: {run.command('reconcile')}; for new answers {NEW_RUN}, or to replace the imported ones: "
        raise InputError(problem, hint=f"{hint}{run.command('push')} --force, then {run.command('pull')} --force")


def keep_made(run: Run, outputs: Collection[str], imported: Manifest | None) -> None:
    """Raises InputError when an import with these outputs would replace records, answers or gold of another stage. Gold
    that was reconciled from imported answers may become stale: reconcile makes it again."""
    answers_again = ANSWERS.name in outputs and imported is not None and ANSWERS.name in imported.outputs
    for artifact in (PROMPTS, ANSWERS, GOLD):
        if (artifact is ANSWERS and ANSWERS.name not in outputs) or (artifact is GOLD and answers_again):
            continue
        if run.path(f"manifests/{artifact.stage}.json").exists():
            raise InputError(
                f"{run.folder}: its {artifact.name} comes from {artifact.stage}; an import would replace it",
                hint="import into a new run: marginalia new NAME",
            )
