"""The command line. Imports little: --help must not wait for torch or polars."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marginalia import __version__
from marginalia.pipeline.commands.argilla import argilla
from marginalia.pipeline.commands.shared_options import ForceOption, RunOption, friendly, open_folder
from marginalia.pipeline.core.stage_order import STAGES, load_stage
from marginalia.pipeline.paper.paper_command import EXAMPLE as PAPER_EXAMPLE
from marginalia.pipeline.paper.paper_command import paper
from marginalia.schemas.errors import InputError
from marginalia.schemas.terminal import json_for_stdout, replace_unknown_characters

if TYPE_CHECKING:
    from marginalia.pipeline.core.run import Run
    from marginalia.pipeline.core.stage_runner import Stage
    from marginalia.schemas.manifest_json import Missing

app = typer.Typer(
    name="marginalia",
    help="From a policy taxonomy to a gold set that people labelled, and to one probability per label from any "
    "generative guard model.",
    epilog="Example: marginalia new refunds --taxonomy support-tickets && marginalia plan --run runs/refunds",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(argilla, name="argilla")


def _show_version(asked: bool) -> None:
    if asked:
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
    replace_unknown_characters()
    app()


def _run(stage: Stage, run: Run, *, force: bool) -> int:
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.core.stage_summary import describe

    done = run_stage(stage, run, force=force)
    print(describe(done))
    for name, facts in done.manifest.facts.items():  # of score and merge: by guard
        for note in facts.get("off_format", []) if isinstance(facts, dict) else []:
            print(f"{name}: {note}", file=sys.stderr)
    return _exit_code(done.manifest.missing)


def _exit_code(missing: Sequence[Missing]) -> int:
    """0 when nothing is missing; else says what is, and how to get it: 1."""
    from marginalia.pipeline.core.stage_summary import incomplete

    if missing:
        print(incomplete(missing), file=sys.stderr)
    return 1 if missing else 0


def _add_stage(name: str) -> None:
    @app.command(name, help=STAGES[name].help, epilog=f"Example: marginalia {name} --run runs/refunds")
    @friendly
    def command(run: RunOption, force: ForceOption = False) -> int:
        return _run(load_stage(name), open_folder(run), force=force)


@app.command(epilog="Example: marginalia new refunds --taxonomy support-tickets")
@friendly
def new(
    name: Annotated[str, typer.Argument(help="the run's name; its folder is runs/NAME")],
    taxonomy: Annotated[str, typer.Option(help="a shipped taxonomy's name, or a YAML file")],
) -> None:
    """Lay out a run: runs/NAME with a commented config.yaml and its own taxonomy.yaml."""
    from marginalia.pipeline.commands.new_run import new_run
    from marginalia.pipeline.core.run import RUNS

    folder = new_run(name, taxonomy, root=RUNS)
    print(f"{folder}: edit {folder}/config.yaml, then: marginalia plan --run {folder}")
    print(f"or, with records of your own: marginalia import FILE --run {folder} --mapping MAPPING")


@app.command(epilog="Example: marginalia config --explain annotators")
@friendly
def config(
    key: Annotated[str | None, typer.Argument(help="with --explain: the key", metavar="KEY")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="describe this key; without one, list all")] = False,
    run: Annotated[Path | None, typer.Option("--run", help="check this run's config", metavar="FOLDER")] = None,
) -> None:
    """Explain a key of config.yaml (or list all of them), or check a run's config."""
    from marginalia.pipeline.commands.new_run import explain as explanation

    if (explain or key is not None) == (run is not None):
        raise InputError("give either --explain [KEY] or --run FOLDER", hint="marginalia config --help")
    if explain or key is not None:
        print(explanation(key))
    elif run is not None:
        opened = open_folder(run)
        print(f"{run / 'config.yaml'}: in order; taxonomy {opened.taxonomy.id} with {len(opened.taxonomy.ids)} labels")


@app.command(
    "import",
    help=STAGES["import"].help,
    epilog="Example: marginalia import data.jsonl --run runs/paper --mapping paper-llama-guard-3",
)
@friendly
def import_records(
    run: RunOption,
    source: Annotated[
        str | None,
        typer.Argument(help="a JSONL or Parquet file, or hub:OWNER/NAME; default: what import.yaml in the run says"),
    ] = None,
    mapping: Annotated[str | None, typer.Option(help="a shipped mapping's name, or a YAML file")] = None,
    force: ForceOption = False,
) -> int:
    from marginalia.pipeline.importing.import_stage import STAGE, prepare

    opened = open_folder(run)
    prepare(opened, source, mapping)
    return _run(STAGE, opened, force=force)


@app.command(help=STAGES["plan"].help, epilog="Example: marginalia plan --run runs/refunds --show")
@friendly
def plan(
    run: RunOption,
    force: ForceOption = False,
    show: Annotated[bool, typer.Option("--show", help="print how labels and pairs are covered")] = False,
) -> int:
    opened = open_folder(run)
    code = _run(load_stage("plan"), opened, force=force)
    if show:
        from marginalia.pipeline.core.artifacts import PLAN
        from marginalia.pipeline.generation.plan_coverage import coverage

        print(coverage(PLAN.read(opened), opened.taxonomy))
    return code


@app.command(epilog="Example: marginalia preview --run runs/refunds")
@friendly
def preview(
    run: RunOption,
    records: Annotated[int, typer.Option(min=1, max=100, help="how many of the planned texts")] = 5,
) -> int:
    """Write the first few planned texts and show them; generate does not pay for them again."""
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.generation.generate_stage import preview as few

    opened = open_folder(run)
    run_stage(load_stage("plan"), opened)
    shown = few(opened, records)
    print(shown)
    return _exit_code(shown.missing)


@app.command(help=STAGES["generate"].help, epilog="Example: marginalia generate --run runs/refunds --budget 5.00")
@friendly
def generate(
    run: RunOption,
    force: ForceOption = False,
    budget: Annotated[
        float | None, typer.Option(help="stop cleanly before the answers cost more; in place of generate.budget")
    ] = None,
) -> int:
    from marginalia.pipeline.generation.generate_stage import with_budget

    opened = open_folder(run)
    return _run(load_stage("generate"), opened if budget is None else with_budget(opened, budget), force=force)


@app.command(help=STAGES["push"].help, epilog="Example: marginalia push --run runs/refunds --more 200")
@friendly
def push(
    run: RunOption,
    force: ForceOption = False,
    more: Annotated[int, typer.Option(min=0, help="so many records more than before, after annotation.first")] = 0,
) -> int:
    from marginalia.pipeline.annotating.push_stage import stage

    return _run(stage(more=more), open_folder(run), force=force)


@app.command(epilog="Example: marginalia status --run runs/refunds --json")
@friendly
def status(
    run: RunOption,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    watch: Annotated[int | None, typer.Option(min=1, help="show the annotators anew every so many seconds")] = None,
) -> None:
    """Show how far the run is: stages, what is stale, the next command, and the annotators' progress."""
    from marginalia.pipeline.annotating.annotation_status import annotation, follow
    from marginalia.pipeline.core.run_overview import overview

    opened = open_folder(run)
    if watch is not None:
        follow(opened, watch)
    found, people = overview(opened), annotation(opened)
    data = {**found.data, **people.data}
    print(json_for_stdout(data) if as_json else f"{found}\n{people}".rstrip())


@app.command(epilog="Example: marginalia simulate --run runs/refunds --miss 0.15 --overlap 1 --overlap 3 --overlap 5")
@friendly
def simulate(
    run: RunOption,
    overlap: Annotated[list[int] | None, typer.Option(help="annotators a record; repeat it to compare")] = None,
    miss: Annotated[
        list[float] | None,
        typer.Option(help="chance to leave out a label that applies; repeat it: one for each annotator"),
    ] = None,
    false_alarm: Annotated[
        list[float] | None, typer.Option(help="chance to tick a label that does not apply; may be repeated")
    ] = None,
    skip: Annotated[float, typer.Option(help="chance to skip a record")] = 0.02,
    records: Annotated[int, typer.Option(min=1, help="most records to simulate on")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Forecast gold with simulated annotators: how good it gets, and how many answers it takes."""
    from marginalia.pipeline.annotating.quality_forecast import forecast, profiles_of, table

    overlaps = overlap or [1, 2, 3, 5, 7]
    if min(overlaps) < 1:
        raise InputError(f"--overlap takes numbers from 1, saw {min(overlaps)}")
    opened = open_folder(run)
    profiles = profiles_of(miss or [0.15], false_alarm or [0.02], skip)
    found = forecast(opened, profiles, opened.config.simulation.expert, overlaps, records=records)
    print(json_for_stdout([one.model_dump() for one in found]) if as_json else table(found))


_add_stage("pull")
_add_stage("reconcile")
_add_stage("adjudicate")


@app.command(
    help=STAGES["score"].help, epilog="Example: marginalia score --run runs/refunds --engine ray --address auto"
)
@friendly
def score(
    run: RunOption,
    force: ForceOption = False,
    engine: Annotated[str | None, typer.Option(help="local, or ray: a pool of models; for score.engine")] = None,
    address: Annotated[
        str | None, typer.Option(help="a Ray cluster's head, for score.ray.address", metavar="HOST:PORT")
    ] = None,
    actors: Annotated[int | None, typer.Option(help="models loaded at once, for score.ray.actors")] = None,
    actor_cpus: Annotated[int | None, typer.Option(help="cores for each, for score.ray.cpus")] = None,
    actor_gpus: Annotated[float | None, typer.Option(help="GPUs for each, for score.ray.gpus")] = None,
    shard: Annotated[
        str | None, typer.Option(help="score the Ith of N parts only; marginalia merge follows", metavar="I/N")
    ] = None,
) -> int:
    from marginalia.pipeline.evaluation.score_stage import STAGE, missing_in_shard, score_shard, with_engine_options

    ray = {"address": address, "actors": actors, "cpus": actor_cpus, "gpus": actor_gpus}
    opened = with_engine_options(open_folder(run), engine, ray)
    if shard is None:
        return _run(STAGE, opened, force=force)
    from marginalia.scoring.engines.shards import parse_shard

    part = parse_shard(shard)
    for line in score_shard(opened, part):
        print(line)
    return _exit_code(missing_in_shard(opened, part))


@app.command(epilog="Example: marginalia merge --run runs/refunds")
@friendly
def merge(run: RunOption, force: ForceOption = False) -> int:
    """Put together what score --shard wrote: the files of one score without shards."""
    from marginalia.pipeline.evaluation.score_stage import MERGE

    return _run(MERGE, open_folder(run), force=force)


_add_stage("evaluate")


@app.command(help=STAGES["audit"].help, epilog="Example: marginalia audit --run runs/refunds --push")
@friendly
def audit(
    run: RunOption,
    guard: Annotated[str | None, typer.Option(help="whose word to take; default: the run's first guard")] = None,
    estimator: Annotated[str, typer.Option(help="which of its probabilities")] = "marginal",
    top: Annotated[int, typer.Option(min=1, help="disputed records to look at again, at most")] = 50,
    control: Annotated[
        int, typer.Option(min=0, help="records drawn at random from all others: they tell how much of gold is wrong")
    ] = 50,
    push: Annotated[bool, typer.Option("--push", help="put them before the experts, who do not see the guard")] = False,
) -> int:
    from marginalia.pipeline.annotating.audit_stage import listing, stage
    from marginalia.pipeline.core.stage_runner import run_stage

    opened = open_folder(run)
    done = run_stage(stage(guard=guard, estimator=estimator, top=top, control=control, push=push), opened)
    print(listing(opened))
    return _exit_code(done.manifest.missing)


_add_stage("report")


@app.command(epilog="Example: marginalia compare runs/before runs/after --out compare.html")
@friendly
def compare(
    a: Annotated[Path, typer.Argument(help="the run to compare with")],
    b: Annotated[Path, typer.Argument(help="the other run; differences are b minus a")],
    guard_a: Annotated[str | None, typer.Option(help="a's guard; default: its first")] = None,
    guard_b: Annotated[str | None, typer.Option(help="b's guard; default: its first")] = None,
    estimator_a: Annotated[str | None, typer.Option(help="a's estimator; default: the recommended one")] = None,
    estimator_b: Annotated[str | None, typer.Option(help="b's estimator; default: the recommended one")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    out: Annotated[Path | None, typer.Option(help="write a self-contained HTML page, too", metavar="FILE")] = None,
) -> None:
    """Compare two evaluated runs (or two guards of one): what differs, and whether the numbers clearly do."""
    from marginalia.pipeline.compare.compare_runs import compare as compare_runs
    from marginalia.pipeline.compare.compared_run import load_compared_run
    from marginalia.pipeline.compare.comparison_page import build_comparison
    from marginalia.pipeline.compare.comparison_text import comparison_table
    from marginalia.schemas.storage.files import write_text

    if out is not None and out.suffix != ".html":
        raise InputError(f"--out {out}: expected a name that ends in .html")
    runs = load_compared_run(a, guard_a, estimator_a), load_compared_run(b, guard_b, estimator_b)
    comparison = compare_runs(*runs)
    if out is not None:
        names = {label.id: label.name for compared in runs for label in compared.run.taxonomy.labels}
        write_text(out, build_comparison(comparison, names))
    print(json_for_stdout(json.loads(comparison.model_dump_json())) if as_json else comparison_table(comparison))
    if out is not None:
        print(f"written: {out}", file=sys.stderr)


_add_stage("release")


@app.command(help=STAGES["publish"].help, epilog="Example: marginalia publish --run runs/refunds --push")
@friendly
def publish(
    run: RunOption,
    push: Annotated[bool, typer.Option("--push", help="really upload; without it nothing leaves the machine")] = False,
) -> int:
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.release.publish_stage import describe, stage

    manifest = run_stage(stage(push=push), open_folder(run)).manifest
    print(describe(manifest.facts))
    return _exit_code(manifest.missing)


app.command("paper", epilog=PAPER_EXAMPLE)(friendly(paper))


@app.command(epilog="Example: marginalia verify --run runs/refunds --json")
@friendly
def verify(
    run: RunOption,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> int:
    """Check a whole run: hashes, schemas, journals, and counts from the plan to the release. Exit code 2 when not."""
    from marginalia.pipeline.verification.verify import verify as verified

    found = verified(open_folder(run))
    print(json_for_stdout(found.data) if as_json else found)
    return 2 if found.failed else 0


@app.command(epilog="Example: marginalia demo")
@friendly
def demo(fresh: Annotated[bool, typer.Option("--fresh", help="delete runs/demo and start over")] = False) -> None:
    """Run every stage on this machine, offline, with small real models and simulated annotators."""
    from marginalia.pipeline.demo.run_demo import run_demo

    run_demo(fresh=fresh)


if __name__ == "__main__":
    main()
