"""The scoring command's `merge`: merges the shards that `--shard` wrote."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from marginalia.scoring import COMMAND
from marginalia.scoring.command_summary import summary

EXAMPLE = f"""example:
  {COMMAND} merge records.jsonl --out scores.parquet

RECORDS and OUT are those of the `--shard i/n` jobs. Checks that all shards exist, were scored with the same model,
guard and settings, and contain exactly these records. Writes the same tables as one job without --shard.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command. Exit codes are those of scoring."""
    parser = argparse.ArgumentParser(
        prog=f"{COMMAND} merge",
        description="Merges the shards of a table of scores.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("records", type=Path, metavar="RECORDS", help="the whole file of records")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="the Parquet file to write")
    options = parser.parse_args(arguments)
    # imported late: --help must not wait for polars
    from marginalia.schemas.input_records import read_records_to_score
    from marginalia.schemas.storage.overwriting import refuse_overwriting
    from marginalia.schemas.storage.run_lock import run_lock
    from marginalia.scoring.engines.shards import Shard, merge_shards
    from marginalia.scoring.score_files import written_files

    def command(shard: Shard) -> str:
        return f"{COMMAND} {options.records} … --out {options.out} --shard {shard}"

    refuse_overwriting(written_files(options.out), [options.records], hint="choose another name for --out")
    records = read_records_to_score(options.records).records
    with run_lock(options.out.parent, f"{COMMAND} merge"):
        merged = merge_shards(options.out, records, command)
    for note in merged.notes:
        print(f"note: {note}", file=sys.stderr)
    failed = merged.table.filter(merged.table["error"].is_not_null())["record_id"]
    shards = [Shard(number, merged.facts.of) for number in range(1, merged.facts.of + 1)]
    to_repeat = ", ".join(f"--shard {shard}" for shard in shards if any(map(shard.holds, failed)))
    again = f"score these shards again, then merge: {to_repeat}"
    return summary(options.out, merged.table, merged.facts.estimators, len(merged.facts.rows), again=again)
