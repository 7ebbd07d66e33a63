"""Stage publish: uploads the release folder to the Hugging Face Hub. A dry run unless asked to push."""

from __future__ import annotations

import os
from typing import Any

from marginalia.annotation.client.pseudonyms import KEY_FILE, read_key
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, manifest_path, read_manifest, staleness
from marginalia.pipeline.release.hub_repository import HubRepository
from marginalia.pipeline.release.release_checks import (
    file_sizes,
    latest_version,
    missing_settings,
    refuse_leaks,
    unfilled_settings,
)
from marginalia.pipeline.release.release_stage import STAGE as RELEASE
from marginalia.pipeline.report.as_text import plural
from marginalia.schemas.errors import ArtifactError, InputError
from marginalia.schemas.key_approval import check_key_approved, is_official_hub
from marginalia.schemas.terminal import table, wrapped

SHORT_NUMBER = 5  # digits


def stage(*, push: bool) -> Stage:
    """The stage. With `push` it uploads, otherwise it is a dry run."""
    return Stage(
        name="publish",
        inputs=lambda run: ["release"],
        outputs=lambda run: [],
        sections=("release",),
        work=lambda run: _work(run, push=push),
        live=True,
    )


STAGE = stage(push=False)


def _work(run: Run, *, push: bool) -> StageOutcome:
    section, folder = run.config.release, run.path("release")
    reason = staleness(RELEASE, run) if manifest_path(run, "release").exists() else "it has no manifest"
    if reason is not None:
        raise ArtifactError.at(folder, f"the release is out of date: {reason}", hint=run.command("release"))
    refuse_leaks(folder, annotator_names(run), section.reviewed_records)
    missing = missing_settings(section)
    unfilled = unfilled_settings(section, simulated=run.config.simulated)
    files = file_sizes(folder)
    version, content = latest_version(folder)
    last_manifest = read_manifest(run, "publish")
    earlier: list[dict[str, Any]] = list(last_manifest.facts.get("published", [])) if last_manifest else []
    facts: dict[str, Any] = {
        "dry_run": not push,
        "repo_id": section.repo_id,
        "private": section.private,
        "gated": section.gated,
        "license": section.license,
        "version": version,
        "files": files,
        "bytes": sum(file["bytes"] for file in files),
        "missing": missing,
        "unfilled": unfilled,
        "published": earlier,
    }
    if push:
        if missing:
            raise InputError(f"{run.folder / 'config.yaml'}: {'; '.join(missing)}", hint="publish needs both")
        published_commit = HubRepository(section, _token(run)).publish(folder, f"Version {version} ({content[:16]})")
        entry = {
            "repo_id": section.repo_id,
            "version": version,
            "commit": published_commit.commit,
            "url": published_commit.url,
        }
        facts["published"] = earlier if entry in earlier else [*earlier, entry]
        facts["attempts"] = published_commit.attempts
    counts = {"uploaded": len(files)} if push else {"files in a dry run": len(files)}
    return StageOutcome(
        counts_in={"files": len(files)},
        counts_out=counts,
        facts=facts,
    )


def annotator_names(run: Run) -> list[str]:
    """Every log-in and account id of annotators in the run's config and pseudonym key, except short numbers: imported
    answers may be by annotator 17, and a release has many numbers that say nothing about them."""
    annotators = read_key(run.path(KEY_FILE)).people
    account_names = [name for annotator in annotators for name in (annotator.username, *annotator.user_ids)]
    names = [*run.config.annotation.team, *run.config.annotation.experts, *account_names]
    return [name for name in names if not (name.isdecimal() and len(name) <= SHORT_NUMBER)]


def describe(facts: dict[str, Any]) -> str:
    """What the stage did or would do, as text for the terminal. `facts` are those of its manifest."""
    unfilled = [f"  not filled in: {setting}" for setting in facts["unfilled"]]
    if not facts["dry_run"]:
        outcome = "nothing had changed" if facts["attempts"] == 0 else f"version {facts['version']}"
        return "\n".join([f"published {facts['repo_id']}: {outcome}, {facts['published'][-1]['url']}", *unfilled])
    lines = [
        "dry run: nothing was uploaded; --push uploads these files",
        f"  repository: {facts['repo_id'] or 'not set'} ({'private' if facts['private'] else 'PUBLIC'}, "
        f"access {facts['gated']}, licence {facts['license'] or 'not set'})",
        f"  version: {facts['version']}",
    ]
    rows = [(f"{file['bytes']:,}", file["path"]) for file in facts["files"]]
    lines.append(table(["bytes", "file"], [*rows, (f"{facts['bytes']:,}", f"in {plural(len(rows), 'file')}")]))
    lines += unfilled
    return wrapped("\n".join([*lines, *(f"  --push would be refused: {reason}" for reason in facts["missing"])]))


def _token(run: Run) -> str:
    """The token of the environment, or for the official Hub the one that is stored on this machine."""
    from huggingface_hub import HfApi, get_token

    section, endpoint = run.config.release, HfApi(endpoint=run.config.release.endpoint, token=False).endpoint
    token = os.environ.get(section.token_env, "").strip()
    if token:
        check_key_approved(section.token_env, endpoint, allow_http=section.allow_http, setting="release.allow_http")
        return token
    official = is_official_hub(endpoint)
    if official and (stored := get_token()):
        return stored
    raise InputError(
        f"no token for the Hub: the environment variable {section.token_env} is not set"
        + ("" if official else f"; the token stored on this machine is not sent to {endpoint}"),
        hint="create a token with write access on the Hub and export it",
    )
