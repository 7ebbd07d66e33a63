"""`marginalia verify`: is a run whole, from the plan to the release? Reads everything and writes nothing."""

from __future__ import annotations

import os
from contextlib import nullcontext

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_order import STAGES
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.counts_from_gold import check_evaluation, check_gold, check_scores
from marginalia.pipeline.verification.counts_to_answers import check_annotation, check_generation
from marginalia.pipeline.verification.manifest_hashes import check_manifests
from marginalia.pipeline.verification.release_contents import check_release
from marginalia.pipeline.verification.run_contents import read_contents
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.run_lock import run_lock


def verify(run: Run) -> Verification:
    """All checks of the run as it stands.

    Raises InputError when no stage has run yet, LockedError while another process works in the folder."""
    found = Verification(str(run.folder))
    # where nobody can write (an archive), nobody works either
    with run_lock(run.folder, "marginalia verify") if os.access(run.folder, os.W_OK) else nullcontext():
        manifests = check_manifests(run, found)
        contents = read_contents(run, manifests, found)
        for check in (check_generation, check_annotation, check_gold, check_scores, check_evaluation, check_release):
            check(contents, found)
    order = list(STAGES)
    found.checks.sort(key=lambda check: order.index(check.stage) if check.stage in order else len(order))
    if not found.checks:
        raise InputError(f"{run.folder}: no stage has run yet, there is nothing to verify", hint=run.command("plan"))
    return found
