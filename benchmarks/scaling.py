"""Speed of `python -m scoring` with the demo guard, with either engine, and the time for ten million records at that
speed: `make bench-scaling`.

Each job is a separate process. It runs twice with different numbers of records; the rate comes from the difference, so
start-up time does not count. The last line of output is one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marginalia.schemas.input_records import read_rows
from marginalia.schemas.storage.files import write_jsonl

EXAMPLES = Path(__file__).parents[1] / "pipeline" / "demo" / "examples.jsonl"
TEN_MILLION = 10_000_000
COMMAND = [sys.executable, "-m", "scoring", "--model", "bundled-guard", "--guard", "support-tickets"]


def write_records(path: Path, count: int) -> Path:
    """The demo's messages, repeated with a number appended, so that all are different."""
    texts = [row["text"] for _, row in read_rows(EXAMPLES)]
    write_jsonl(path, ({"id": f"r{n}", "text": f"{texts[n % len(texts)]} ({n})"} for n in range(count)))
    return path


def job(folder: Path, count: int, options: Sequence[str]) -> tuple[float, int]:
    """(seconds, peak memory in MB) of one job; the memory of Ray's own processes is not included."""
    records = write_records(folder / f"{count}.jsonl", count)
    out = folder / f"{count}.parquet"
    started = time.perf_counter()
    process = subprocess.Popen([*COMMAND, str(records), "--out", str(out), *options], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the job failed with wait status {status}")
    return time.perf_counter() - started, usage.ru_maxrss // 1024


def rate(records: int, options: Sequence[str]) -> dict[str, Any]:
    """Speed, memory and disk space of a job with these options, from one with a quarter of the records and one with
    all."""
    with tempfile.TemporaryDirectory() as folder:
        few, _ = job(Path(folder), records // 4, options)
        many, memory = job(Path(folder), records, options)
        size = (Path(folder) / f"{records}.parquet").stat().st_size
    per_second = (records - records // 4) / (many - few)
    return {
        "records_per_second": round(per_second, 2),
        "start_up_seconds": round(many - records / per_second, 1),
        "driver_mb": memory,
        "parquet_bytes_per_record": round(size / records),
        "days_for_ten_million": round(TEN_MILLION / per_second / 86_400, 1),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400, help="of the larger job (default: %(default)s)")
    parser.add_argument("--tolerance", default="0.01", help="as in score (default: %(default)s)")
    options = parser.parse_args()
    settings = ["--estimator", "marginal", "--tolerance", options.tolerance]
    rates = {}
    for name, more in {
        "local float32": [],
        "local bfloat16": ["--dtype", "bfloat16"],
        "ray 2 actors float32": ["--engine", "ray", "--actors", "2"],
    }.items():
        rates[name] = rate(options.records, [*settings, *more])
        print(f"{name}: {rates[name]}")
    print(json.dumps({"records": options.records, "tolerance": float(options.tolerance), **rates}))


if __name__ == "__main__":
    main()
