"""The command line. Heavy packages are imported inside the commands, so that --help is fast."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from marginalia import __version__
from marginalia.pipeline.commands import run_commands, stage_commands
from marginalia.pipeline.commands.argilla import argilla
from marginalia.pipeline.commands.guards import explain, guards
from marginalia.pipeline.commands.import_command import EXAMPLE as IMPORT_EXAMPLE
from marginalia.pipeline.commands.import_command import import_records
from marginalia.pipeline.commands.profiles import profiles
from marginalia.pipeline.commands.shared_options import JsonOption, with_error_messages
from marginalia.pipeline.core.stage_order import STAGES
from marginalia.pipeline.paper.paper_command import EXAMPLE as PAPER_EXAMPLE
from marginalia.pipeline.paper.paper_command import paper
from marginalia.schemas.errors import InputError
from marginalia.schemas.exit_codes import run_command
from marginalia.schemas.terminal import json_for_stdout, replace_unknown_characters

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
app.add_typer(profiles, name="profile")
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
    """Say which of two runs or guards to use for which label.

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


def demo(fresh: Annotated[bool, typer.Option("--fresh", help="delete runs/demo and start over")] = False) -> None:
    """Run every stage offline on this machine. It uses small models and simulated annotators.

    Reads nothing. Writes runs/demo."""
    from marginalia.pipeline.demo.run_demo import run_demo

    run_demo(fresh=fresh)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="delete these models, and no other files")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the cached models, or delete them. The next use makes them again.

    Reads the folder MARGINALIA_CACHE (default: ~/.cache/marginalia). Writes nothing; --clear deletes."""
    from marginalia.pipeline.commands.cache_table import cache_data, cache_table
    from marginalia.scoring.models.model_cache import cached_models, clear_cache, model_cache

    folder = model_cache()
    if not clear:
        models = cached_models(folder)
        print(json_for_stdout(cache_data(folder, models)) if as_json else cache_table(folder, models))
        return
    entries, size = clear_cache(folder)
    if as_json:
        print(json_for_stdout({"folder": str(folder), "deleted": entries, "bytes": size}))
    else:
        print(f"{folder}: deleted {entries} {'model' if entries == 1 else 'models'}, {size / 1e6:,.0f} MB")


def _add(name: str, command: Callable[..., int | None], example: str) -> None:
    """Adds a command; `example` is a whole command. The help of a stage is in its entry, that of others in the
    docstring."""
    text = STAGES[name].help if name in STAGES else None
    app.command(name, help=text, epilog=f"Example: {example}")(with_error_messages(command))


_add("new", run_commands.new, "marginalia new refunds --taxonomy support-tickets")
_add("config", run_commands.config, "marginalia config --explain annotators")
_add("import", import_records, IMPORT_EXAMPLE)
_add("plan", stage_commands.plan, "marginalia plan --run runs/refunds --show")
_add("preview", stage_commands.preview, "marginalia preview --run runs/refunds")
_add("generate", stage_commands.generate, "marginalia generate --run runs/refunds --budget 5.00")
_add("push", stage_commands.push, "marginalia push --run runs/refunds --more 200")
_add("status", run_commands.status, "marginalia status --run runs/refunds --json")
_add(
    "simulate",
    run_commands.simulate,
    "marginalia simulate --run runs/refunds --miss 0.15 --overlap 1 --overlap 3 --overlap 5",
)
_add("pull", stage_commands.plain_stage("pull", sends_key=True), "marginalia pull --run runs/refunds")
_add("reconcile", stage_commands.plain_stage("reconcile"), "marginalia reconcile --run runs/refunds")
_add("adjudicate", stage_commands.plain_stage("adjudicate", sends_key=True), "marginalia adjudicate --run runs/refunds")
_add("score", stage_commands.score, "marginalia score --run runs/refunds --engine ray --address auto")
_add("merge", stage_commands.merge, "marginalia merge --run runs/refunds")
_add("evaluate", stage_commands.evaluate, "marginalia evaluate --run runs/refunds")
_add("audit", stage_commands.audit, "marginalia audit --run runs/refunds --push")
_add("report", stage_commands.plain_stage("report"), "marginalia report --run runs/refunds")
_add("compare", compare, "marginalia compare runs/before runs/after --out compare.html")
_add("release", stage_commands.plain_stage("release"), "marginalia release --run runs/refunds")
_add("publish", stage_commands.publish, "marginalia publish --run runs/refunds --push")
_add("paper", paper, PAPER_EXAMPLE)
_add("verify", run_commands.verify, "marginalia verify --run runs/refunds --json")
_add("repair", run_commands.repair, "marginalia repair --run runs/refunds")
_add("demo", demo, "marginalia demo")
_add("cache", cache, "marginalia cache --clear")


if __name__ == "__main__":
    main()
