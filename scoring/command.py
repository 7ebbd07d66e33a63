"""`python -m scoring`: score a file of records with a guard model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from marginalia.schemas.errors import InputError, MarginaliaError, did_you_mean
from marginalia.schemas.extras import missing_extra
from marginalia.scoring.command_summary import summary
from marginalia.scoring.config import BASELINE_NAMES, ESTIMATOR_NAMES, EndpointOptions, ScoreSection, check_estimators
from marginalia.scoring.engines.command_options import add_engine_options, ray_options

if TYPE_CHECKING:
    import polars as pl

    from marginalia.scoring.calibrated_scores import ChosenMaps
    from marginalia.scoring.engines.scorer_recipe import ScorerRecipe
    from marginalia.scoring.engines.shards import Shard

ModelT = TypeVar("ModelT", bound=BaseModel)
NUMBERS = ("tolerance", "samples", "node_budget", "answer_tokens", "batch_records", "batch_tokens")
EXAMPLE = """example:
  python -m scoring records.jsonl --model bundled --guard instruct --taxonomy support-tickets --out scores.parquet
  python -m scoring records.jsonl --model ./Llama-Guard-3-8B --guard llama-guard-3 --out scores.parquet --dtype bfloat16

With --calibration runs/NAME/calibration.json the probabilities written are calibrated ones.

RECORDS is JSONL or Parquet with id and messages (or text). Writes OUT (record_id, estimator, label, probability,
lower, upper) and OUT's .records.parquet (one row a record). A job that was killed goes on where it stopped.
`python -m scoring explain --help` shows how to look at the answers of one record, `python -m scoring merge --help` how
the shards of several jobs (--shard) become one table.
"""

EXPLAIN_EXAMPLE = """example:
  python -m scoring explain records.jsonl --id r1 --model bundled --guard instruct --taxonomy support-tickets
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 done but some records could not be scored, 2 wrong input, 3 the model failed,
    130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    explains = words[:1] == ["explain"]
    try:
        if words[:1] == ["merge"]:
            from marginalia.scoring.merge_command import main as merge

            return merge(words[1:])
        options = _parser(explains).parse_args(words[explains:])
        return explain(options) if explains else run(options)
    except MarginaliaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error)) is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        return missing.exit_code
    except OSError as error:
        from marginalia.schemas.storage.files import of_the_system

        print(f"error: {of_the_system(error)}", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    # imported late: --help must not wait for torch
    from marginalia.schemas.input_records import read_records
    from marginalia.schemas.storage.files import cannot_write
    from marginalia.schemas.storage.run_lock import run_lock

    if options.out.suffix != ".parquet":
        raise InputError(f"--out {options.out}: expected a name that ends in .parquet")
    try:
        asked = check_estimators(options.estimator) if options.estimator else None
    except ValueError as error:
        raise InputError(f"--estimator: {error}") from error
    if options.shard is not None and options.calibration is not None:
        raise InputError("--calibration is not for shards", hint="score without --shard")
    _valid(ScoreSection, options, NUMBERS)
    chosen = _maps(options, asked)
    estimators = asked or (list(chosen.maps) if chosen else list(ESTIMATOR_NAMES))
    frame = read_records(options.records)
    if not options.out.parent.is_dir():
        raise InputError(f"--out {options.out}: there is no folder {options.out.parent}", hint="make it first")
    records = list(zip(frame["id"], frame["messages"].to_list(), strict=True))
    if options.shard is None:
        with run_lock(options.out.parent, "python -m scoring"):
            return _score(options, estimators, chosen, records)
    from marginalia.scoring.engines.shards import parse_shard, shard_path

    shard = parse_shard(options.shard)
    options.out = shard_path(options.out, shard)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(options.out.parent, error) from error
    with run_lock(options.out.parent, f"python -m scoring --shard {shard}"):
        return _score(options, estimators, chosen, [record for record in records if shard.holds(record[0])], shard)


def explain(options: argparse.Namespace) -> int:
    """Prints the tree of one record's answers."""
    from marginalia.schemas.input_records import read_records
    from marginalia.scoring.answer_tree import answer_tree

    records = dict(read_records(options.records).select("id", "messages").iter_rows())
    chosen = options.id or next(iter(records))
    if chosen not in records:
        raise InputError(f"{options.records}: no record '{chosen}'{did_you_mean(chosen, records)}")
    scorer = _recipe(options, list(ESTIMATOR_NAMES)).load()
    print(f"record {chosen}, guard {scorer.guard.name}, model {scorer.model.name}")
    for line in answer_tree(scorer.search(records[chosen]), smallest=options.smallest):
        print(line)
    return 0


def _score(
    options: argparse.Namespace,
    estimators: list[str],
    chosen: ChosenMaps | None,
    records: list[tuple[str, list[dict[str, str]]]],
    shard: Shard | None = None,
) -> int:
    from tqdm import tqdm

    from marginalia.scoring.engines.shards import finish_shard
    from marginalia.scoring.engines.start_engine import start
    from marginalia.scoring.score_files import journal_path, write_tables

    journal = journal_path(options.out)
    recipe = _recipe(options, estimators)
    job = start(recipe, records, journal, engine=options.engine, ray=ray_options(options))
    for _ in tqdm(job, total=len(records), unit="record", desc="score", disable=None):
        pass
    ids = [record_id for record_id, _ in records]
    table = write_tables(options.out, ids, estimators, _calibration(chosen))
    if shard is not None:
        finish_shard(options.out, shard, records, job.origin, estimators)
    for note in [*job.origin.notes, *(chosen.notes if chosen else [])]:
        print(f"note: {note}", file=sys.stderr)
    if not table["error"].count():
        journal.unlink()
    how = f", calibrated by {chosen.path}" if chosen else ""
    return summary(options.out, table, estimators, len(job.origin.rows), how)


def _calibration(chosen: ChosenMaps | None) -> Callable[[pl.DataFrame], pl.DataFrame] | None:
    """What becomes of the scores on their way from the journal, which keeps what the guard says, to the table."""
    if chosen is None:
        return None
    from marginalia.scoring.calibrated_scores import calibrate_scores

    return partial(calibrate_scores, chosen=chosen)


def _maps(options: argparse.Namespace, estimators: list[str] | None) -> ChosenMaps | None:
    """The maps of --calibration for this guard, checked before any model is loaded."""
    if options.calibration is None:
        return None
    from marginalia.schemas.taxonomy import load_taxonomy
    from marginalia.scoring.calibrated_scores import choose_maps
    from marginalia.scoring.guard import load_guard

    guard = load_guard(options.guard, load_taxonomy(options.taxonomy) if options.taxonomy else None)
    return choose_maps(
        options.calibration,
        guard=guard.name,
        rows=guard.rows,
        model=options.model,
        estimators=estimators,
        named=options.calibration_name,
    )


def _recipe(options: argparse.Namespace, estimators: list[str]) -> ScorerRecipe:
    from marginalia.scoring.engines.scorer_recipe import ScorerRecipe
    from marginalia.scoring.scorer import Settings

    return ScorerRecipe(
        options.model,
        options.guard,
        taxonomy=options.taxonomy,
        revision=options.revision,
        device=options.device,
        dtype=options.dtype,
        endpoint=_endpoint(options),
        settings=Settings(
            estimators=tuple(estimators),
            tolerance=options.tolerance,
            samples=options.samples,
            node_budget=options.node_budget,
            answer_tokens=options.answer_tokens,
            batch_records=options.batch_records,
            batch_tokens=options.batch_tokens,
        ),
    )


def _endpoint(options: argparse.Namespace) -> EndpointOptions:
    return _valid(EndpointOptions, options, EndpointOptions.model_fields)


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('expected a JSON object, such as {"min_p": 0}')
    return value


def _valid(model: type[ModelT], options: argparse.Namespace, names: Iterable[str]) -> ModelT:
    """The options of these names as the model; InputError names the one that is wrong, never its value: a key may
    stand there."""
    try:
        return model(**{name: getattr(options, name) for name in names})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        problem = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{option}: {problem}", hint="python -m scoring --help") from None


def _parser(explains: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scoring explain" if explains else "python -m scoring",
        description="The tree of one record's answers, with their masses."
        if explains
        else "One probability per label, with certified bounds, from a generative guard model.",
        epilog=EXPLAIN_EXAMPLE if explains else EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("records", type=Path, metavar="RECORDS", help="JSONL or Parquet")
    add(
        "--model",
        required=True,
        metavar="M",
        help="a folder, a .gguf file, 'bundled' (SmolLM2-135M-Instruct), 'bundled-guard' (the same, trained for "
        "guard support-tickets), a Hub id with --revision, or the URL of an OpenAI-compatible endpoint "
        "(or several, URL,URL: replicas)",
    )
    add("--guard", required=True, metavar="G", help="a name in scoring/guards, or the path of such a file")
    if explains:
        add("--id", metavar="ID", help="the record (default: the first)")
        add("--smallest", type=float, default=0.005, help="branches below this mass are summed up (default 0.005)")
    else:
        add("--out", required=True, type=Path, metavar="OUT", help="the Parquet file to write")
    add("--taxonomy", metavar="T", help="a shipped taxonomy or a YAML file, for guards that name none")
    names = f"{', '.join(ESTIMATOR_NAMES)}; only when asked for: {', '.join(BASELINE_NAMES)}"
    add("--estimator", nargs="+", action="extend", metavar="E", help=f"which to compute; default: {names}")
    if not explains:
        add(
            "--calibration",
            type=Path,
            metavar="FILE",
            help="write what this calibration.json makes of the probabilities",
        )
        add("--calibration-name", metavar="NAME", help="which of its guards, where it holds several of the same family")
    add("--samples", type=int, default=100, help="answers that monte_carlo samples per record (default 100)")
    add("--tolerance", type=float, default=1e-4, help="widest bounds wanted, upper − lower (default 0.0001)")
    add("--node-budget", type=int, default=256, help="answer prefixes evaluated per record at most (default 256)")
    add("--answer-tokens", type=int, default=24, help="length of an off-format greedy answer (default 24)")
    add("--revision", help="commit of a Hub model")
    add("--device", default="auto", help="cpu, cuda, cuda:1 … (default: a GPU where there is one)")
    add("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    add("--batch-records", type=int, default=16, help="records searched together at most (default 16)")
    add("--batch-tokens", type=int, default=4096, help="unshared prompt tokens in one batch (default 4096)")
    add = parser.add_argument_group("when --model is a URL").add_argument
    add("--tokenizer", metavar="T", help="the served model's: a folder, a .gguf file, 'bundled' or a Hub id")
    add("--endpoint-model", metavar="NAME", help="its name there (default: the only one that /models lists)")
    add("--api-key-env", metavar="VARIABLE", help="the environment variable that holds the key")
    add("--allow-http", action="store_true", help="send the key over plain http:// to another machine")
    add("--extra-body", type=_json_object, default={}, metavar="JSON", help="further keys of each request")
    add("--top-logprobs", type=int, default=20, metavar="K", help="log-probabilities asked for per step (default 20)")
    add("--concurrency", type=int, default=32, help="requests under way at once (default 32)")
    add("--retries", type=int, default=8, help="how often a request that failed in passing is repeated (default 8)")
    add("--timeout-seconds", type=float, default=120.0, help="for one request (default 120)")
    if not explains:
        add_engine_options(parser)
    return parser
