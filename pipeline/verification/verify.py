"""`marginalia verify`: checks a whole run, from the plan to the release. Reads everything and writes nothing."""

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
    """Runs all checks.

    Raises InputError if no stage has run yet, and LockedError while another process works in the run folder."""
    verification = Verification(str(run.folder))
    # a folder that cannot be written to (an archive) cannot be locked, and nobody works in it
    with run_lock(run.folder, "marginalia verify") if os.access(run.folder, os.W_OK) else nullcontext():
        manifests = check_manifests(run, verification)
        contents = read_contents(run, manifests, verification)
        for check in (check_generation, check_annotation, check_gold, check_scores, check_evaluation, check_release):
            check(contents, verification)
    order = list(STAGES)
    verification.checks.sort(key=lambda check: order.index(check.stage) if check.stage in order else len(order))
    if not verification.checks:
        raise InputError(f"{run.folder}: nothing to verify: no stage has run yet", hint=run.command("plan"))
    return verification
