"""What runs in a Ray actor: one scorer, blocks of records in, journal lines out."""

from __future__ import annotations

import json
import os
import socket
import traceback
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from marginalia.schemas.errors import MarginaliaError, ModelError
from marginalia.scoring.engines.portable_request import work_in
from marginalia.scoring.score_files import journal_entry, origin_of, record_key
from marginalia.scoring.score_request import ScoreRequest
from marginalia.scoring.scorer import Scorer

INPUT = pa.schema(
    {
        "id": pa.string(),
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "held": pa.string(),  # the key of the record's line in the journal, null when it has none
    }
)
OUTPUT = pa.schema(
    {
        "id": pa.string(),
        "entry": pa.string(),  # the journal line as JSON, null for a record that the journal holds
        "origin": pa.string(),  # in the first row of a block: who scored it
        "failure": pa.string(),  # in the only row of a block without results: why no record can be scored here
    }
)


class ScoringActor:
    """Loads its scorer at the first block, so that a model that cannot be loaded is told in our own words."""

    def __init__(self, request: ScoreRequest, folder: str) -> None:
        self._request = request
        self._folder = folder
        self._scorer: Scorer | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        """A table like INPUT → a table like OUTPUT."""
        try:
            rows = self._rows(block.to_pylist())
        except MarginaliaError as error:
            rows = [_failure(error)]
        except Exception as error:
            traceback.print_exc()  # to the worker's log
            if "CUDA" in str(error):
                os._exit(1)  # the device is in no state to go on with; Ray starts another actor and asks again
            rows = [_failure(ModelError(f"{type(error).__name__}: {error}"))]
        return pa.Table.from_pylist(rows, schema=OUTPUT)

    def _rows(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._scorer is None:
            work_in(self._folder)
            self._scorer = Scorer.from_request(self._request)
        scorer = self._scorer
        origin = origin_of(scorer)
        wanted = {record["id"]: record_key(origin.fingerprint, record["messages"]) for record in records}
        todo = [(record["id"], record["messages"]) for record in records if record["held"] != wanted[record["id"]]]
        rows = [{"id": record["id"]} for record in records if record["held"] == wanted[record["id"]]]
        for results in scorer.score_batches(todo):
            for result in results:
                entry = journal_entry(result, wanted[result.record_id], origin.rows)
                rows.append({"id": result.record_id, "entry": json.dumps(entry)})
        if todo and not scorer.notes:
            scorer.measure(todo)
        rows[0]["origin"] = json.dumps(asdict(origin_of(scorer)))  # read again: notes grow while it scores
        return rows


def _failure(error: MarginaliaError) -> dict[str, str]:
    told = {"kind": type(error).__name__, "message": str(error), "node": socket.gethostname()}
    return {"failure": json.dumps(told)}
