"""Speed and memory of generate against a loopback endpoint.

    python benchmarks/generate.py [--records 6400] [--slots 100000] [--latency 0.2] [--concurrency 64]

Two runs of the whole stage, each in a separate process. The first, with latency, is compared with the ideal duration of
a client without overhead, records × latency / concurrency; `overhead_ms` is its total processor time per record. The
second, without latency, measures the peak memory (of the process, with the interpreter) for many slots. The last line
of output is JSON: share_of_ideal, overhead_ms, peak_gib."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.loopback_llm import LoopbackLLM

_ROOT = Path(__file__).parents[1]
_TAXONOMY = "support-tickets"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="speed and memory of generate against a loopback endpoint")
    parser.add_argument("--records", type=int, default=6400, help="of the run with latency (default: %(default)s)")
    parser.add_argument(
        "--slots", type=int, default=100_000, help="records of the memory run; 0 skips it (default: %(default)s)"
    )
    parser.add_argument("--latency", type=float, default=0.2, help="seconds per answer (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at a time (default: %(default)s)")
    parser.add_argument("--inside", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _inside(Path(options.inside))
        return
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="marginalia-bench-") as scratch:
        with LoopbackLLM(latency=options.latency) as server:
            timed = _child(Path(scratch) / "timed", server.url, options.records, options.concurrency)
        ideal = options.records * options.latency / options.concurrency
        figures["share_of_ideal"] = round(ideal / timed["seconds"], 4)
        figures["overhead_ms"] = round(1000 * timed["cpu_seconds"] / options.records, 3)
        print(f"{options.records:,} records in {timed['seconds']:.2f} s; ideal {ideal:.2f} s; {timed}", flush=True)
        if options.slots:
            with LoopbackLLM(latency=0.0) as server:
                large = _child(Path(scratch) / "large", server.url, options.slots, options.concurrency)
            figures["peak_gib"] = round(large["peak_gib"], 3)
            print(f"{options.slots:,} slots in {large['seconds']:.1f} s; {large}", flush=True)
    print(json.dumps(figures))


def _child(folder: Path, url: str, records: int, concurrency: int) -> dict[str, Any]:
    """The figures of `_inside`, in a process of its own."""
    for run_folder, size in ((folder, records), (folder / "first", concurrency)):
        run_folder.mkdir(parents=True)
        config = {
            "taxonomy": _TAXONOMY,
            "plan": {"records": size},
            "generate": {"endpoint": {"base_url": url, "model": "loopback"}, "concurrency": concurrency},
        }
        (run_folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.generate", "--inside", str(folder)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _inside(folder: Path) -> None:
    """Runs the stage and prints its figures as JSON."""
    from marginalia.pipeline.core.run import open_run
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
    from marginalia.pipeline.generation.plan_stage import STAGE as PLAN

    # a small run loads imports and the language model first: they cost the same for any number of records
    for run in (open_run(folder / "first"), open_run(folder)):
        run_stage(PLAN, run)
    run_stage(GENERATE, open_run(folder / "first"))
    cpu, started = time.process_time(), time.monotonic()
    manifest = run_stage(GENERATE, run).manifest
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - started,
                "cpu_seconds": time.process_time() - cpu,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                **manifest.counts_out,
            }
        )
    )


if __name__ == "__main__":
    main()
