"""Batches that do not fit into memory are halved until they do, whichever error the allocator raises."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.tiny import save

RECORDS = [(f"r{number}", [{"role": "user", "content": f"text number {number}"}]) for number in range(8)]
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: 12"),
    "python": MemoryError(),
}


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    save(tmp_path / "model", 1, sharpness=2.0)
    return Scorer.load(
        str(tmp_path / "model"), "instruct", taxonomy="support-tickets", settings=Settings(tolerance=0.1, node_budget=8)
    )


def fail_above(scorer: Scorer, records: int, error: Exception) -> Callable[[], list[Any]]:
    """Makes forward passes over more than `records` records raise; returns a call that lists the failed inputs that are
    still in memory."""
    inputs: list[weakref.ref[torch.Tensor]] = []

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        alive.append([reference for reference in inputs if reference() is not None])
        if ids.shape[0] > records:
            inputs.append(weakref.ref(ids))
            raise error.with_traceback(None)

    alive: list[list[Any]] = []
    scorer.model.runner.model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)  # type: ignore[attr-defined]
    return lambda: [reference for references in alive for reference in references]


@pytest.mark.parametrize("error", ERRORS)
def test_a_batch_too_large_is_halved(scorer: Scorer, error: str) -> None:
    expected = {result.record_id: result for result in scorer.score_records(RECORDS)}
    still_alive = fail_above(scorer, 2, ERRORS[error])
    results = {result.record_id: result for result in scorer.score_records(RECORDS)}
    assert results.keys() == expected.keys()
    for record_id, result in results.items():
        assert result.error is None
        for name, estimate in result.estimates.items():
            assert np.abs(estimate.probability - expected[record_id].estimates[name].probability).max() < 1e-5
    assert not still_alive()  # the failed attempt's memory is free while the halves run


def test_a_record_that_does_not_fit_alone_is_reported(scorer: Scorer) -> None:
    fail_above(scorer, 0, ERRORS["cpu"])
    results = list(scorer.score_records(RECORDS[:3]))
    assert [result.error for result in results] == ["out of memory, also alone in its batch"] * 3


def test_other_errors_are_raised(scorer: Scorer) -> None:
    fail_above(scorer, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(scorer.score_records(RECORDS[:1]))
