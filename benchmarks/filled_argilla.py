"""Writes records and answers directly into a local Argilla's database; 100,000 of them over HTTP would take an hour."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4


def fill(
    database: Path,
    dataset_id: str,
    fields: Sequence[dict[str, Any]],
    answers: Sequence[tuple[str, dict[str, Any]]] = (),
) -> list[str]:
    """Adds records `b0`, `b1` … with these fields to a published dataset, and submitted responses to each.

    answers: (user id, values) of each response. All are dated a day back. The server may be running. Returns the
    records' ids on the server."""
    now = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d %H:%M:%S.%f}"
    ids = [uuid4().hex for _ in fields]
    dataset = UUID(dataset_id).hex
    records = [
        (record, json.dumps(shown), f"b{at}", dataset, now, now, "{}", "pending")
        for at, (record, shown) in enumerate(zip(ids, fields, strict=True))
    ]
    responses = [
        (uuid4().hex, json.dumps(values), "submitted", record, UUID(user).hex, now, now)
        for record in ids
        for user, values in answers
    ]
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        into = "records (id, fields, external_id, dataset_id, inserted_at, updated_at, metadata, status)"
        connection.executemany(f"INSERT INTO {into} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", records)
        into = 'responses (id, "values", status, record_id, user_id, inserted_at, updated_at)'
        connection.executemany(f"INSERT INTO {into} VALUES (?, ?, ?, ?, ?, ?, ?)", responses)
        connection.execute("UPDATE records SET updated_at = ? WHERE dataset_id = ?", (now, dataset))  # undoes a trigger
    return [str(UUID(record)) for record in ids]
