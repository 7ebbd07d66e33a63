"""The command `python -m marginalia.scoring`: scores a file of records with a guard model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.exit_codes import run_command
from marginalia.schemas.key_approval import FLAG, FLAG_HELP, approve_hosts
from marginalia.schemas.progress import progress
from marginalia.schemas.terminal import json_for_stdout, replace_unknown_characters, wrapped
from marginalia.scoring import COMMAND
from marginalia.scoring.command_summary import summary
from marginalia.scoring.engines.command_options import add_engine_options, ray_options
from marginalia.scoring.guard_kinds import SOURCE_ESTIMATORS
from marginalia.scoring.request_options import add_request_options, request_of
from marginalia.scoring.score_request import ESTIMATOR_NAMES, ScoreRequest, check_estimators

if TYPE_CHECKING:
    import polars as pl

    from marginalia.schemas.input_records import RecordsToScore
    from marginalia.scoring.calibrated_scores import ChosenMaps
    from marginalia.scoring.engines.shards import Shard
    from marginalia.scoring.score_sources.source_guard import AnyGuard

EXAMPLE = f"""example:
  {COMMAND} records.jsonl --model bundled --guard instruct --taxonomy support-tickets --out scores.parquet
  {COMMAND} records.jsonl --model ./Llama-Guard-3-8B --guard llama-guard-3 --out scores.parquet --dtype bfloat16

With --calibration runs/NAME/calibration.json, calibrated probabilities are written.

RECORDS is CSV, JSON, JSONL or Parquet with id and messages (or text). Writes OUT (record_id, estimator, label,
probability, lower, upper) and its .records.parquet (one row per record). If a job is stopped, run the same command to
continue.
`{COMMAND} explain --help` shows how to inspect the answers of one record,
`{COMMAND} merge --help` how to merge the shards of several jobs (--shard) into one table.
"""

ALLOW_HTTP = "--allow-http"
EXPLAIN_HELP = """Say why a record's labels got their probabilities. First in words, then as the tree of its answers.

Reads RECORDS, a JSONL or Parquet file. Writes nothing."""
EXPLAIN_EXAMPLE = """Example: {program} records.jsonl --id r1 --model bundled-guard --guard support-tickets
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. The exit codes are those of schemas/exit_codes.py; 1: some records could not be scored."""
    replace_unknown_characters()
    words = list(sys.argv[1:] if arguments is None else arguments)
    subcommand = words[0] if words and words[0] in COMMANDS else ""
    return run_command(lambda: COMMANDS[subcommand](words[1:] if subcommand else words))


def _run_command(words: Sequence[str]) -> int:
    return run(_parser().parse_args(words))


def _explain_command(words: Sequence[str]) -> int:
    return explain(_parser(explains=True).parse_args(words))


def explain_as(program: str, words: Sequence[str]) -> int:
    """Runs `explain` as a command of another program, with its name in the help."""
    return explain(_parser(explains=True, program=program).parse_args(words))


def _merge_command(words: Sequence[str]) -> int:
    from marginalia.scoring.merge_command import main as merge

    return merge(words)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "": _run_command,
    "explain": _explain_command,
    "merge": _merge_command,
}


def run(options: argparse.Namespace) -> int:
    """Scores the records of the command's options. Returns the exit code; raises MarginaliaError."""
    # imported late: --help must not wait for torch
    from marginalia.schemas.input_records import read_records_to_score
    from marginalia.schemas.storage.files import cannot_write
    from marginalia.schemas.storage.run_lock import run_lock

    if options.out.suffix != ".parquet":
        raise InputError(f"--out {options.out}: expected a name that ends in .parquet")
    try:
        estimators = check_estimators(options.estimator) if options.estimator else None
    except ValueError as error:
        raise InputError(f"--estimator: {error}") from error
    _refuse_overwriting(options)
    if options.shard is not None and options.calibration is not None:
        raise InputError("--calibration cannot be used with --shard", hint="leave one of them out")
    approve_hosts(options.approve_key_host)
    request = request_of(options, estimators or ESTIMATOR_NAMES)
    maps = _maps(options, estimators)
    if maps is not None and estimators is None and not set(maps.maps) <= set(SOURCE_ESTIMATORS):
        request = request_of(options, list(maps.maps))
    records = read_records_to_score(options.records)
    if not options.out.parent.is_dir():
        raise InputError(f"--out {options.out}: no such folder: {options.out.parent}", hint="create it first")
    if options.shard is None:
        with run_lock(options.out.parent, COMMAND):
            return _score(options, request, maps, records)
    from marginalia.scoring.engines.shards import parse_shard, shard_path

    shard = parse_shard(options.shard)
    options.out = shard_path(options.out, shard)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(options.out.parent, error) from error
    with run_lock(options.out.parent, f"{COMMAND} --shard {shard}"):
        return _score(options, request, maps, records.part(shard.holds), shard)


def _refuse_overwriting(options: argparse.Namespace) -> None:
    """Raises InputError when --out or a file that is written next to it is an input of the command."""
    from marginalia.schemas.storage.overwriting import refuse_overwriting
    from marginalia.scoring.engines.shards import parse_shard, written_by_shard
    from marginalia.scoring.score_files import written_files

    named = (
        *(options.records, options.guard, options.taxonomy, options.categories),
        *(options.calibration, options.model, options.tokenizer),
    )
    outputs = written_files(options.out)
    if options.shard is not None:
        outputs = written_by_shard(options.out, parse_shard(options.shard))
    refuse_overwriting(outputs, named, hint="choose another name for --out")


def explain(options: argparse.Namespace) -> int:
    """Prints the tree of one record's answers. Returns the exit code; raises MarginaliaError."""
    from marginalia.schemas.input_records import read_records_to_score
    from marginalia.scoring.answer_explanation import explanation, explanation_data
    from marginalia.scoring.answer_tree import answer_tree, tree_data
    from marginalia.scoring.engines.start_engine import approve_endpoint_key
    from marginalia.scoring.scorer import Scorer

    found = read_records_to_score(options.records)
    records = dict(found.records)
    record_id = options.id or next(iter(records))
    if record_id not in records:
        raise InputError(f"{options.records}: no record '{record_id}'{did_you_mean(record_id, records)}")
    if record_id in found.unusable:
        raise InputError(found.unusable[record_id])
    request = request_of(options, ESTIMATOR_NAMES)
    approve_hosts(options.approve_key_host)
    approve_endpoint_key(request, allow_http=ALLOW_HTTP)
    scorer = Scorer.from_request(request)
    search = scorer.search(records[record_id])
    labels = [(category.code, category.id) for category in scorer.guard.categories]
    if options.json:
        of = {"record": record_id, "guard": scorer.guard.name, "model": scorer.model.name}
        tree = tree_data(search, smallest=options.smallest, labels=scorer.guard.labels)
        print(json_for_stdout({**of, **explanation_data(search, labels), "tree": tree}))
        return 0
    print(wrapped(f"record {record_id}, guard {scorer.guard.name}, model {scorer.model.name}"))
    for line in explanation(search, labels):
        print(wrapped(line))
    for line in answer_tree(search, smallest=options.smallest, labels=scorer.guard.labels):
        print(wrapped(line))
    return 0


def _score(
    options: argparse.Namespace,
    request: ScoreRequest,
    maps: ChosenMaps | None,
    records: RecordsToScore,
    shard: Shard | None = None,
) -> int:
    from marginalia.scoring.coverage_text import print_coverage
    from marginalia.scoring.engines.shards import finish_shard
    from marginalia.scoring.engines.start_engine import start
    from marginalia.scoring.guard import guard_path
    from marginalia.scoring.score_files import journal_failures, journal_path, write_tables
    from marginalia.scoring.score_sources.format_notes import format_notes
    from marginalia.scoring.score_sources.source_guard import computed_estimators

    guard = _guard(options)
    journal, estimators = journal_path(options.out), computed_estimators(guard, request.settings.estimators)
    if options.estimator and (other := set(options.estimator) - set(estimators)):
        raise InputError(
            f"--estimator {min(other)}: the guard {guard.name} only has {', '.join(estimators)}",
            hint="leave --estimator out",
        )
    print_coverage(guard.name, guard.coverage)
    usable = records.usable
    job = start(request, usable, journal, engine=options.engine, ray=ray_options(options), allow_http=ALLOW_HTTP)
    for _ in progress(job, total=len(usable), unit="record", what="score"):
        pass
    journal_failures(journal, records.unusable)
    ids = [record_id for record_id, _ in records.records]
    table = write_tables(options.out, ids, estimators, _calibration(maps))
    if shard is not None:
        finish_shard(options.out, shard, records.records, job.origin, estimators)
    off_format = format_notes(table, guard, guard_path(options.guard))
    for note in [*job.origin.notes, *(maps.notes if maps else []), *off_format]:
        print(f"note: {note}", file=sys.stderr)
    if not table["error"].count():
        journal.unlink()
    calibrated_by = f", calibrated by {maps.path}" if maps else ""
    return summary(options.out, table, estimators, len(job.origin.rows), calibrated_by)


def _calibration(maps: ChosenMaps | None) -> Callable[[pl.DataFrame], pl.DataFrame] | None:
    """The function that calibrates scores when they are written to the table. The journal keeps uncalibrated ones."""
    if maps is None:
        return None
    from marginalia.scoring.calibrated_scores import calibrate_scores

    return partial(calibrate_scores, chosen=maps)


def _maps(options: argparse.Namespace, estimators: list[str] | None) -> ChosenMaps | None:
    """The maps of --calibration for this guard. Called before a model is loaded, so that errors are reported early."""
    if options.calibration is None:
        return None
    from marginalia.scoring.calibrated_scores import choose_maps

    guard = _guard(options)
    return choose_maps(
        options.calibration,
        guard=guard.name,
        rows=guard.rows,
        coverage=guard.coverage,
        model=options.model,
        estimators=estimators,
        named=options.calibration_name,
    )


def _guard(options: argparse.Namespace) -> AnyGuard:
    from marginalia.schemas.taxonomy import load_taxonomy
    from marginalia.scoring.score_sources.source_guard import load_any_guard

    taxonomy = load_taxonomy(options.taxonomy) if options.taxonomy else None
    return load_any_guard(options.guard, taxonomy, categories=options.categories)


def _parser(explains: bool = False, program: str = f"{COMMAND} explain") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program if explains else COMMAND,
        description=EXPLAIN_HELP
        if explains
        else "Computes one probability per label, with certified bounds, from a generative guard model.",
        epilog=EXPLAIN_EXAMPLE.format(program=program) if explains else EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("records", type=Path, metavar="RECORDS", help="CSV, TSV, JSON, JSONL or Parquet, also .gz, .zst or .bz2")
    add_request_options(parser)
    add(FLAG, metavar="HOST", action="append", default=[], help=FLAG_HELP)
    if explains:
        add("--id", metavar="ID", help="the record (default: the first)")
        add(
            "--smallest",
            type=float,
            default=0.005,
            help="combine branches with a probability below this (default 0.005)",
        )
        add("--json", action="store_true", help="print JSON instead of text")
    else:
        add("--out", required=True, type=Path, metavar="OUT", help="the Parquet file to write")
        add(
            "--calibration",
            type=Path,
            metavar="FILE",
            help="write probabilities calibrated with this calibration.json",
        )
        add("--calibration-name", metavar="NAME", help="which of its guards, if it has several of the same family")
        add_engine_options(parser)
    return parser
