"""The code that runs in a Ray actor: one scorer that turns blocks of records into journal lines."""

from __future__ import annotations

import json
import os
import socket
import traceback
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.unexpected_errors import frames
from marginalia.scoring.engines.portable_request import work_in
from marginalia.scoring.score_files import journal_entry, origin_of, record_key
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.scorer import Scorer

INPUT = pa.schema(
    {
        "id": pa.string(),
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "journal_key": pa.string(),  # the key of the record's line in the journal, null when it has none
    }
)
OUTPUT = pa.schema(
    {
        "id": pa.string(),
        "entry": pa.string(),  # the journal line as JSON, null for a record that is already in the journal
        "origin": pa.string(),  # in the first row of a block: what scored it, as JSON
        "failure": pa.string(),  # in the only row of a block without results: the error, as JSON
    }
)


class ScoringActor:
    """Scores blocks of records. The scorer is loaded at the first block and not in the constructor: its errors then
    reach the user as messages of this package, not as a failed actor of Ray."""

    def __init__(self, request: ScoreRequest, folder: str) -> None:
        self._request = request
        self._folder = folder
        self._scorer: Scorer | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        """Scores a table with the schema INPUT; returns one with the schema OUTPUT."""
        try:
            rows = self._rows(block.to_pylist())
        except Exception as error:
            if not isinstance(error, MarginaliaError) and "CUDA" in str(error):
                # the device cannot be used any more in this process; Ray starts another actor and retries the block
                traceback.print_exc()  # to the worker's log
                os._exit(1)
            rows = [_failure(error)]
        return pa.Table.from_pylist(rows, schema=OUTPUT)

    def _rows(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._scorer is None:
            work_in(self._folder)
            self._scorer = Scorer.from_request(self._request)
        scorer = self._scorer
        origin = origin_of(scorer)
        keys = {record["id"]: record_key(origin.fingerprint, record["messages"]) for record in records}
        todo = [(record["id"], record["messages"]) for record in records if record["journal_key"] != keys[record["id"]]]
        rows = [{"id": record["id"]} for record in records if record["journal_key"] == keys[record["id"]]]
        for results in scorer.score_batches(todo):
            for result in results:
                entry = journal_entry(result, keys[result.record_id], origin.rows)
                rows.append({"id": result.record_id, "entry": json.dumps(entry)})
        if todo and not scorer.notes:
            scorer.measure(todo)
        rows[0]["origin"] = json.dumps(asdict(origin_of(scorer)))  # computed again: scoring may have added notes
        return rows


def _failure(error: Exception) -> dict[str, str]:
    failure: dict[str, Any] = {"kind": type(error).__name__, "message": str(error), "node": socket.gethostname()}
    if not isinstance(error, MarginaliaError):
        failure |= {"frames": frames(error)}
    return {"failure": json.dumps(failure)}
