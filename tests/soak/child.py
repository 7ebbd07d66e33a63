"""One stage in a process of its own, to be killed or to meet a fault. A fork server loads all of it once."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import torch

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.languages import other_language
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.retries import RetryPolicy

for _heavy in (
    "generation.acceptance.answer_acceptance",
    "generation.record_tables",
    "generation.endpoint.lazy_writer",
    *(f"annotating.{n}_stage" for n in ("push", "pull")),
):
    import_module(f"marginalia.pipeline.{_heavy}")
for _heavy in (
    "marginalia.scoring.score_files",
    "marginalia.scoring.models.local_model",
    "transformers.models.llama.modeling_llama",
):
    import_module(_heavy)
with catch_warnings():
    simplefilter("ignore")  # the SDK warns about its own use of pydantic
    import_module("argilla")
push, changes, pull = (
    import_module(f"marginalia.annotation.client.{name}")
    for name in ("push_records", "changed_records", "pull_answers")
)
other_language("The language model is loaded once for all.", "en")

SAID, ABSORBED = 20, 21  # exit codes: the fault was met and ended the stage with an error of ours; or it did not end it
_met = False


def work(stage: str, folder: str, fault: tuple[str, int] | None = None) -> None:
    """Runs the stage; `fault` is the k-th call that fails: fsync, replace or http, or full: no file beyond k bytes."""
    torch.set_num_threads(1)
    # small pages and writes: more moments at which the stage can be killed
    push.PAGE_SIZE, changes.PAGE_SIZE, pull.ENTRIES_PER_FSYNC = 20, 20, 15
    if fault is not None:
        _arm(*fault)
    try:
        run_stage(load_stage(stage), open_run(Path(folder)))
    except MarginaliaError as error:
        if fault is not None and _told(fault[0], str(error)):
            sys.exit(SAID)
        print(f"{stage} in {folder} after {fault}: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(ABSORBED if _met else 0)


def _told(kind: str, message: str) -> bool:
    words = ("does not answer", "no Argilla server runs") if kind == "http" else ("cannot write",)
    return any(word in message for word in words)


def _arm(kind: str, k: int) -> None:
    if kind == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (k, resource.RLIM_INFINITY))
    elif kind == "http":
        import httpx2

        from marginalia.schemas import http_client

        connection = import_module("marginalia.annotation.client.connection")
        connection.RETRIES, connection.POLICY = 1, RetryPolicy(first_backoff=0.0)
        error = httpx2.ConnectError("the network is down")
        _fail(http_client._Transport, "handle_request", k, error, ever_after=True)
    else:
        _fail(os, kind, k, OSError(errno.ENOSPC, "No space left on device"))


def _fail(owner: Any, name: str, k: int, error: Exception, *, ever_after: bool = False) -> None:
    real, calls = getattr(owner, name), 0

    def called(*arguments: Any, **named: Any) -> Any:
        global _met
        nonlocal calls
        calls += 1
        if calls == k or (ever_after and calls > k):
            _met = True
            raise error
        return real(*arguments, **named)

    setattr(owner, name, called)
