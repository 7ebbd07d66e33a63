"""The command line. Heavy packages are imported inside the commands, so that --help is fast."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from marginalia import __version__
from marginalia.pipeline.commands.argilla import argilla
from marginalia.pipeline.commands.guards import explain, guards
from marginalia.pipeline.commands.import_command import EXAMPLE as IMPORT_EXAMPLE
from marginalia.pipeline.commands.import_command import import_records
from marginalia.pipeline.commands.shared_options import (
    ApproveKeyOption,
    ForceOption,
    RunOption,
    open_folder,
    with_error_messages,
)
from marginalia.pipeline.commands.shared_options import exit_code as _exit_code
from marginalia.pipeline.commands.shared_options import run_and_print as _run
from marginalia.pipeline.core.stage_order import STAGES, load_stage
from marginalia.pipeline.paper.paper_command import EXAMPLE as PAPER_EXAMPLE
from marginalia.pipeline.paper.paper_command import paper
from marginalia.schemas.errors import InputError
from marginalia.schemas.exit_codes import run_command
from marginalia.schemas.terminal import json_for_stdout, replace_unknown_characters

MOST_RECORDS = 1_000_000_000  # that an option may ask for
MOST_ANNOTATORS = 100  # per record, in a forecast

app = typer.Typer(
    name="marginalia",
    help="Generate texts for a policy taxonomy, have people label them, and score generative guard models against "
    "these labels with one probability per label.",
    epilog="Example: marginalia new refunds --taxonomy support-tickets && marginalia plan --run runs/refunds",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(argilla, name="argilla")
app.add_typer(guards, name="guards")
app.command(
    "explain",
    help="Say why a record's labels got their probabilities. First in words, then as the tree of its answers.",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(explain)


def _show_version(requested: bool) -> None:
    if requested:
        print(f"marginalia {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of the command `marginalia`."""
    replace_unknown_characters()
    sys.exit(run_command(app))


def _add_stage(name: str, *, sends_key: bool = False) -> None:
    def command(run: RunOption, force: ForceOption = False) -> int:
        return _run(load_stage(name), open_folder(run), force=force)

    def command_with_key(run: RunOption, force: ForceOption = False, approve_key_host: ApproveKeyOption = None) -> int:
        return _run(load_stage(name), open_folder(run, approve_key_host), force=force)

    add = app.command(name, help=STAGES[name].help, epilog=f"Example: marginalia {name} --run runs/refunds")
    add(with_error_messages(command_with_key) if sends_key else with_error_messages(command))


@app.command(epilog="Example: marginalia new refunds --taxonomy support-tickets")
@with_error_messages
def new(
    name: Annotated[str, typer.Argument(help="the run's name; its folder is runs/NAME")],
    taxonomy: Annotated[str, typer.Option(help="a shipped taxonomy's name, or a YAML file")],
) -> None:
    """Create a run folder. It has a commented config and its own copy of a taxonomy.

    Reads a taxonomy. Writes runs/NAME/config.yaml and runs/NAME/taxonomy.yaml."""
    from marginalia.pipeline.commands.new_run import new_run
    from marginalia.pipeline.core.run import RUNS

    folder = new_run(name, taxonomy, root=RUNS)
    print(f"{folder}: edit {folder}/config.yaml, then: marginalia plan --run {folder}")
    print(f"or, with your own records: marginalia import FILE --run {folder} --mapping MAPPING")


@app.command(epilog="Example: marginalia config --explain annotators")
@with_error_messages
def config(
    key: Annotated[str | None, typer.Argument(help="with --explain: the key to describe", metavar="KEY")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="describe this key; without one, list all")] = False,
    run: Annotated[Path | None, typer.Option("--run", help="check this run's config", metavar="FOLDER")] = None,
) -> None:
    """Explain config keys or check a run's config. --explain without a key lists all keys.

    Reads the config.yaml of --run and the files that it names. Loads no model. Writes nothing."""
    from marginalia.pipeline.commands.new_run import explain as explanation

    if (explain or key is not None) == (run is not None):
        raise InputError("give either --explain [KEY] or --run FOLDER", hint="marginalia config --help")
    if explain or key is not None:
        print(explanation(key))
    elif run is not None:
        from marginalia.pipeline.evaluation.score_stage import check_guards

        opened = open_folder(run)
        taxonomy = opened.taxonomy
        check_guards(opened)
        print(f"{run / 'config.yaml'}: valid; taxonomy {taxonomy.id} with {len(taxonomy.ids)} labels")


app.command("import", help=STAGES["import"].help, epilog=IMPORT_EXAMPLE)(with_error_messages(import_records))


@app.command(help=STAGES["plan"].help, epilog="Example: marginalia plan --run runs/refunds --show")
@with_error_messages
def plan(
    run: RunOption,
    force: ForceOption = False,
    show: Annotated[bool, typer.Option("--show", help="print how many texts each label and pair gets")] = False,
) -> int:
    """The command `plan`."""
    opened = open_folder(run)
    code = _run(load_stage("plan"), opened, force=force)
    if show:
        from marginalia.pipeline.core.artifacts import PLAN
        from marginalia.pipeline.generation.plan_coverage import coverage

        print(coverage(PLAN.read(opened), opened.taxonomy))
    return code


@app.command(epilog="Example: marginalia preview --run runs/refunds")
@with_error_messages
def preview(
    run: RunOption,
    records: Annotated[int, typer.Option(min=1, max=100, help="how many of the planned texts to write")] = 5,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """Write and show the first planned texts. generate uses these answers, so they are paid for only once.

    Reads config.yaml and the taxonomy. Writes plan.parquet and the journal responses.jsonl."""
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.generation.generate_stage import preview as write_first_texts

    opened = open_folder(run, approve_key_host)
    run_stage(load_stage("plan"), opened)
    result = write_first_texts(opened, records)
    print(result)
    return _exit_code(result.missing)


@app.command(help=STAGES["generate"].help, epilog="Example: marginalia generate --run runs/refunds --budget 5.00")
@with_error_messages
def generate(
    run: RunOption,
    force: ForceOption = False,
    budget: Annotated[
        float | None,
        typer.Option(
            help="stop before the answers cost more than this, in the currency of generate.prices; "
            "overrides generate.budget"
        ),
    ] = None,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `generate`."""
    from marginalia.pipeline.generation.generate_stage import with_budget

    opened = open_folder(run, approve_key_host)
    return _run(load_stage("generate"), opened if budget is None else with_budget(opened, budget), force=force)


@app.command(help=STAGES["push"].help, epilog="Example: marginalia push --run runs/refunds --more 200")
@with_error_messages
def push(
    run: RunOption,
    force: ForceOption = False,
    more: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_RECORDS, help="send this many further records, where annotation.first limits them"
        ),
    ] = 0,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `push`."""
    from marginalia.pipeline.annotating.push_stage import stage

    return _run(stage(more=more), open_folder(run, approve_key_host), force=force)


@app.command(epilog="Example: marginalia status --run runs/refunds --json")
@with_error_messages
def status(
    run: RunOption,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    watch: Annotated[
        int | None, typer.Option(min=1, help="show the annotators' progress again every this many seconds")
    ] = None,
    approve_key_host: ApproveKeyOption = None,
) -> None:
    """Show a run's progress and the next command. For each stage, it says what is stale and why.

    Reads the run folder, and the datasets in Argilla if there are any. Writes nothing."""
    from marginalia.pipeline.annotating.annotation_status import annotation, follow
    from marginalia.pipeline.core.run_overview import overview

    opened = open_folder(run, approve_key_host)
    if watch is not None:
        follow(opened, watch)
    stages, progress = overview(opened), annotation(opened)
    data = {**stages.data, **progress.data}
    print(json_for_stdout(data) if as_json else f"{stages}\n{progress}".rstrip())


@app.command(epilog="Example: marginalia simulate --run runs/refunds --miss 0.15 --overlap 1 --overlap 3 --overlap 5")
@with_error_messages
def simulate(
    run: RunOption,
    overlap: Annotated[
        list[int] | None,
        typer.Option(help="annotators per record; repeat to compare; default: 1, 2, 3, 5 and 7", metavar="N"),
    ] = None,
    miss: Annotated[
        list[float] | None,
        typer.Option(
            help="probability of missing a label that applies; repeat to give each annotator a value; default: 0.15",
            metavar="P",
        ),
    ] = None,
    false_alarm: Annotated[
        list[float] | None,
        typer.Option(
            help="probability of selecting a label that does not apply; repeat it like --miss; default: 0.02",
            metavar="P",
        ),
    ] = None,
    skip: Annotated[float, typer.Option(help="probability of skipping a record", metavar="P")] = 0.02,
    records: Annotated[
        int, typer.Option(min=1, max=MOST_RECORDS, help="records to simulate, at most", metavar="N")
    ] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Forecast label quality before you annotate. It simulates annotators with the error rates that you give.

    Reads plan.parquet or prompts.parquet. Writes nothing."""
    from marginalia.pipeline.annotating.quality_forecast import forecast, profiles_of, table

    overlaps = overlap or [1, 2, 3, 5, 7]
    if not 1 <= min(overlaps) <= max(overlaps) <= MOST_ANNOTATORS:
        given = ", ".join(map(str, overlaps))
        raise InputError(f"--overlap takes numbers from 1 to {MOST_ANNOTATORS}, saw {given[:80]}")
    opened = open_folder(run)
    profiles = profiles_of(miss or [0.15], false_alarm or [0.02], skip)
    forecasts = forecast(opened, profiles, opened.config.simulation.expert, overlaps, records=records)
    print(json_for_stdout([row.model_dump() for row in forecasts]) if as_json else table(forecasts))


_add_stage("pull", sends_key=True)
_add_stage("reconcile")
_add_stage("adjudicate", sends_key=True)


@app.command(
    help=STAGES["score"].help, epilog="Example: marginalia score --run runs/refunds --engine ray --address auto"
)
@with_error_messages
def score(
    run: RunOption,
    force: ForceOption = False,
    engine: Annotated[
        str | None, typer.Option(help="local, or ray for a pool of models; overrides score.engine")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="head of a Ray cluster; overrides score.ray.address", metavar="HOST:PORT")
    ] = None,
    actors: Annotated[int | None, typer.Option(help="models loaded at once; overrides score.ray.actors")] = None,
    actor_cpus: Annotated[int | None, typer.Option(help="CPU cores per model; overrides score.ray.cpus")] = None,
    actor_gpus: Annotated[float | None, typer.Option(help="GPUs per model; overrides score.ray.gpus")] = None,
    shard: Annotated[
        str | None, typer.Option(help="score only part I of N; run marginalia merge after all parts", metavar="I/N")
    ] = None,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `score`."""
    from marginalia.pipeline.evaluation.score_stage import STAGE, missing_in_shard, score_shard, with_engine_options

    ray = {"address": address, "actors": actors, "cpus": actor_cpus, "gpus": actor_gpus}
    opened = with_engine_options(open_folder(run, approve_key_host), engine, ray)
    if shard is None:
        return _run(STAGE, opened, force=force)
    from marginalia.scoring.engines.shards import parse_shard

    part = parse_shard(shard)
    for line in score_shard(opened, part):
        print(line)
    return _exit_code(missing_in_shard(opened, part))


@app.command(epilog="Example: marginalia merge --run runs/refunds")
@with_error_messages
def merge(run: RunOption, force: ForceOption = False) -> int:
    """Merge the results of score --shard. The files are those that score writes without shards.

    Reads gold.parquet and the shards in scores/. Writes scores/GUARD.parquet and scores/GUARD.records.parquet."""
    from marginalia.pipeline.evaluation.score_stage import MERGE

    return _run(MERGE, open_folder(run), force=force)


_add_stage("evaluate")


@app.command(help=STAGES["audit"].help, epilog="Example: marginalia audit --run runs/refunds --push")
@with_error_messages
def audit(
    run: RunOption,
    guard: Annotated[str | None, typer.Option(help="the guard whose scores are used; default: the run's first")] = None,
    estimator: Annotated[str, typer.Option(help="the estimator of its probabilities")] = "marginal",
    top: Annotated[int, typer.Option(min=1, max=MOST_RECORDS, help="disputed records to list, at most")] = 50,
    control: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_RECORDS, help="records drawn at random from all others, to estimate the error rate of gold"
        ),
    ] = 50,
    push: Annotated[
        bool, typer.Option("--push", help="send these records to the experts, who do not see the guard's answer")
    ] = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `audit`."""
    from marginalia.pipeline.annotating.audit_stage import listing, stage
    from marginalia.pipeline.core.stage_runner import run_stage

    opened = open_folder(run, approve_key_host)
    done = run_stage(stage(guard=guard, estimator=estimator, top=top, control=control, push=push), opened)
    print(listing(opened))
    return _exit_code(done.manifest.missing)


_add_stage("report")


@app.command(epilog="Example: marginalia compare runs/before runs/after --out compare.html")
@with_error_messages
def compare(
    a: Annotated[Path, typer.Argument(help="the first run")],
    b: Annotated[Path, typer.Argument(help="the second run; differences are b minus a")],
    guard_a: Annotated[str | None, typer.Option(help="a's guard; default: its first")] = None,
    guard_b: Annotated[str | None, typer.Option(help="b's guard; default: its first")] = None,
    estimator_a: Annotated[str | None, typer.Option(help="a's estimator; default: the recommended one")] = None,
    estimator_b: Annotated[str | None, typer.Option(help="b's estimator; default: the recommended one")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    out: Annotated[Path | None, typer.Option(help="also write a self-contained HTML page", metavar="FILE")] = None,
) -> None:
    """Compare two evaluated runs or two guards: which one to use for which label, and what each costs.

    Reads the files of both runs. Writes nothing without --out."""
    from marginalia.pipeline.compare.compare_runs import compare as compare_runs
    from marginalia.pipeline.compare.compared_run import load_compared_run
    from marginalia.pipeline.compare.comparison_page import build_comparison
    from marginalia.pipeline.compare.comparison_text import comparison_table
    from marginalia.pipeline.core.artifacts import files_of
    from marginalia.schemas.storage.files import write_text
    from marginalia.schemas.storage.overwriting import refuse_overwriting

    if out is not None and out.suffix != ".html":
        raise InputError(f"--out {out}: expected a file name that ends in .html")
    runs = load_compared_run(a, guard_a, estimator_a), load_compared_run(b, guard_b, estimator_b)
    if out is not None:
        files = [path for compared in runs for path in files_of(compared.run)]
        refuse_overwriting([out], files, hint="choose another name for --out")
    comparison = compare_runs(*runs)
    if out is not None:
        names = {label.id: label.name for compared in runs for label in compared.run.taxonomy.labels}
        write_text(out, build_comparison(comparison, names))
    print(json_for_stdout(json.loads(comparison.model_dump_json())) if as_json else comparison_table(comparison))
    if out is not None:
        print(f"written: {out}", file=sys.stderr)


_add_stage("release")


@app.command(help=STAGES["publish"].help, epilog="Example: marginalia publish --run runs/refunds --push")
@with_error_messages
def publish(
    run: RunOption,
    push: Annotated[bool, typer.Option("--push", help="upload; without it nothing leaves the machine")] = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `publish`."""
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.release.publish_stage import describe, stage

    manifest = run_stage(stage(push=push), open_folder(run, approve_key_host)).manifest
    print(describe(manifest.facts))
    return _exit_code(manifest.missing)


app.command("paper", epilog=PAPER_EXAMPLE)(with_error_messages(paper))


@app.command(epilog="Example: marginalia verify --run runs/refunds --json")
@with_error_messages
def verify(
    run: RunOption,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> int:
    """Check a whole run. Hashes, schemas, journals and counts must agree; the exit code is 2 when they do not.

    Reads the run folder. Writes nothing."""
    from marginalia.pipeline.verification.verify import verify as check_run

    checks = check_run(open_folder(run))
    print(json_for_stdout(checks.data) if as_json else checks)
    return 2 if checks.failed else 0


@app.command(epilog="Example: marginalia repair --run runs/refunds")
@with_error_messages
def repair(run: RunOption) -> None:
    """Move unreadable lines out of a run's journals. They are kept in JOURNAL.damaged, nothing is deleted.

    Reads and writes the journals: annotations.jsonl, responses.jsonl, checks.jsonl, scores/*.journal.jsonl."""
    from marginalia.pipeline.verification.journal_repair import repair_journals

    print("\n".join(map(str, repair_journals(open_folder(run)))) or "no journals yet")


@app.command(epilog="Example: marginalia demo")
@with_error_messages
def demo(fresh: Annotated[bool, typer.Option("--fresh", help="delete runs/demo and start over")] = False) -> None:
    """Run every stage offline on this machine. It uses small models and simulated annotators.

    Reads nothing. Writes runs/demo."""
    from marginalia.pipeline.demo.run_demo import run_demo

    run_demo(fresh=fresh)


@app.command(epilog="Example: marginalia cache --clear")
@with_error_messages
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="delete these models, and no other files")] = False,
) -> None:
    """Show the cached models, or delete them. The next use makes them again.

    Reads the folder MARGINALIA_CACHE (default: ~/.cache/marginalia). Writes nothing; --clear deletes."""
    from marginalia.pipeline.commands.cache_table import cache_table
    from marginalia.scoring.models.model_cache import clear_cache, model_cache

    folder = model_cache()
    if clear:
        entries, size = clear_cache(folder)
        print(f"{folder}: deleted {entries} {'model' if entries == 1 else 'models'}, {size / 1e6:,.0f} MB")
    else:
        print(cache_table(folder))


if __name__ == "__main__":
    main()
