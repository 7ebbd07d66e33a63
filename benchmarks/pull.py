"""The cost of a second pull when little has changed: 100,000 answered records, of which 100 are edited.

    python -m benchmarks.pull                   # last line: JSON with answers, seconds and records read of each pull
    python -m benchmarks.pull --records 5000

It uses a local Argilla in a temporary folder. Records and answers are written directly into its database, edits are
made over HTTP."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.filled_argilla import fill
from marginalia.annotation.client.changed_records import Cursor
from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.dataset_settings import LABELS, RECORD
from marginalia.annotation.client.datasets import ensure_dataset
from marginalia.annotation.client.pull_answers import pull
from marginalia.annotation.config import AnnotationSection
from marginalia.annotation.server.server_control import accounts, add_annotators, down, up
from marginalia.annotation.server.server_home import DATABASE
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import content_hash
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy

BULK = 100  # answers per request that Argilla accepts


def filled(home: Path, owner: Connection, taxonomy: Taxonomy, records: int) -> tuple[Pushed, list[str]]:
    """(a dataset with that many records, each answered by `ann`; the records' ids on the server)."""
    dataset = ensure_dataset(owner, "bench", "bench", taxonomy, AnnotationSection(annotators=2))
    add_annotators(home, ["ann"], "bench")
    ann = next(user["id"] for user in owner.get("/users")["items"] if user["username"] == "ann")
    texts = [{RECORD: [{"role": "user", "content": f"text {at} " + "word " * 40}]} for at in range(records)]
    ids = fill(home / DATABASE, dataset.id, texts, [(ann, {LABELS: {"value": [taxonomy.ids[0]]}})])
    pushed = Pushed(
        url=owner.url,
        workspace="bench",
        dataset="bench",
        dataset_id=dataset.id,
        round="annotate",
        records=records,
        annotators=2,
        taxonomy=taxonomy.id,
        labels=taxonomy.ids,
        taxonomy_sha256=content_hash(taxonomy.model_dump(mode="json")),
        suggestions=False,
        pushed_at=datetime.now(UTC),
    )
    return pushed, ids


def timed(folder: Path, owner: Connection, pushed: Pushed, last: Cursor | None) -> tuple[Cursor, dict[str, float]]:
    """One pull since the cursor `last`: (the new cursor, its seconds and counts)."""
    started = time.perf_counter()
    files = folder / "annotations.jsonl", folder / "annotators.key.json"
    _, counts, cursor = pull(owner, [pushed], *files, datetime.now(UTC), last=last)
    seconds = round(time.perf_counter() - started, 2)
    return cursor, {"seconds": seconds, "records_read": counts.records_read, "edited": counts.edited}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--edits", type=int, default=100, help="answers edited before the second pull (default: 100)")
    options = parser.parse_args()
    taxonomy = load_taxonomy("support-tickets")
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name), Path(name) / "argilla"
        server = up(home)
        try:
            owner = Connection(server.url, accounts(home)[0].api_key, key_hint="the benchmark's")
            pushed, ids = filled(home, owner, taxonomy, options.records)
            cursor, first = timed(folder, owner, pushed, None)
            print(f"first pull of {options.records:,} answers: {first}", flush=True)
            key = next(account.api_key for account in accounts(home) if account.username == "ann")
            edit = {"status": "submitted", "values": {LABELS: {"value": [taxonomy.ids[1]]}}}
            with Connection(server.url, key, key_hint="the benchmark's") as ann:
                for start in range(0, options.edits, BULK):
                    items = [{"record_id": record, **edit} for record in ids[start : min(start + BULK, options.edits)]]
                    ann.post("/me/responses/bulk", {"items": items})
            cursor, second = timed(folder, owner, pushed, cursor)
            print(f"after {options.edits} edits: {second}", flush=True)
        finally:
            down(home)
    print(json.dumps({"answers": options.records, "first": first, "second": second}))


if __name__ == "__main__":
    main()
