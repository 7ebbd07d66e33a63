"""The commands that run a stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from marginalia.pipeline.commands.shared_options import (
    MOST_RECORDS,
    ApproveKeyOption,
    Details,
    ForceOption,
    JsonOption,
    RunOption,
    exit_code,
    open_folder,
    run_and_print,
)
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.schemas.terminal import json_for_stdout

if TYPE_CHECKING:
    from marginalia.pipeline.core.stage_runner import StageRun


def plain_stage(name: str, *, sends_key: bool = False) -> Callable[..., int]:
    """The command of a stage without options of its own. `sends_key`: it may send a key to a server."""

    def command(run: RunOption, force: ForceOption = False, as_json: JsonOption = False) -> int:
        return run_and_print(load_stage(name), open_folder(run), force=force, as_json=as_json)

    def command_with_key(
        run: RunOption,
        force: ForceOption = False,
        as_json: JsonOption = False,
        approve_key_host: ApproveKeyOption = None,
    ) -> int:
        return run_and_print(load_stage(name), open_folder(run, approve_key_host), force=force, as_json=as_json)

    return command_with_key if sends_key else command


def plan(
    run: RunOption,
    force: ForceOption = False,
    show: Annotated[bool, typer.Option("--show", help="print how many texts each label and pair gets")] = False,
    as_json: JsonOption = False,
) -> int:
    """The command `plan`."""

    def shown(done: StageRun) -> Details:
        from marginalia.pipeline.core.artifacts import PLAN
        from marginalia.pipeline.generation.plan_coverage import coverage

        covered = coverage(PLAN.read(opened), opened.taxonomy)
        return Details(["", str(covered)], {"coverage": covered.data})

    opened = open_folder(run)
    return run_and_print(load_stage("plan"), opened, force=force, as_json=as_json, details=shown if show else None)


def preview(
    run: RunOption,
    records: Annotated[int, typer.Option(min=1, max=100, help="how many of the planned texts to write")] = 5,
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """Write and show the first planned texts. generate uses these answers, so they are paid for only once.

    Reads config.yaml and the taxonomy. Writes plan.parquet and the journal responses.jsonl."""
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.generation.generate_stage import preview as write_first_texts

    opened = open_folder(run, approve_key_host)
    run_stage(load_stage("plan"), opened)
    result = write_first_texts(opened, records)
    print(json_for_stdout(result.data) if as_json else result)
    return exit_code(result.missing)


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
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `generate`."""
    from marginalia.pipeline.generation.generate_stage import with_budget

    opened = open_folder(run, approve_key_host)
    limited = opened if budget is None else with_budget(opened, budget)
    return run_and_print(load_stage("generate"), limited, force=force, as_json=as_json)


def push(
    run: RunOption,
    force: ForceOption = False,
    more: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_RECORDS, help="send this many further records, where annotation.first limits them"
        ),
    ] = 0,
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `push`."""
    from marginalia.pipeline.annotating.push_stage import stage

    return run_and_print(stage(more=more), open_folder(run, approve_key_host), force=force, as_json=as_json)


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
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `score`."""
    from marginalia.pipeline.evaluation.score_stage import STAGE, missing_in_shard, score_shard, with_engine_options

    ray = {"address": address, "actors": actors, "cpus": actor_cpus, "gpus": actor_gpus}
    opened = with_engine_options(open_folder(run, approve_key_host), engine, ray)
    if shard is None:
        return run_and_print(STAGE, opened, force=force, as_json=as_json)
    from marginalia.scoring.engines.shards import parse_shard

    part = parse_shard(shard)
    lines = score_shard(opened, part)
    missing = missing_in_shard(opened, part)
    if as_json:
        shown = [item.model_dump(mode="json") for item in missing]
        print(json_for_stdout({"shard": str(part), "results": list(lines), "missing": shown}))
    else:
        print(*lines, sep="\n")
    return exit_code(missing)


def merge(run: RunOption, force: ForceOption = False, as_json: JsonOption = False) -> int:
    """Merge the results of score --shard. The files are those that score writes without shards.

    Reads gold.parquet and the shards in scores/. Writes scores/GUARD.parquet and scores/GUARD.records.parquet."""
    from marginalia.pipeline.evaluation.score_stage import MERGE

    return run_and_print(MERGE, open_folder(run), force=force, as_json=as_json)


def evaluate(run: RunOption, force: ForceOption = False, as_json: JsonOption = False) -> int:
    """The command `evaluate`."""

    def summary(done: StageRun) -> Details:
        from marginalia.pipeline.core.artifacts import EVALUATION
        from marginalia.pipeline.report.terminal_summary import metrics_table

        return Details(filter(None, [metrics_table(EVALUATION.read(opened))]))

    opened = open_folder(run)
    return run_and_print(load_stage("evaluate"), opened, force=force, as_json=as_json, details=summary)


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
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `audit`."""
    from marginalia.pipeline.annotating.audit_stage import listed, listing, stage
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.core.stage_summary import data_of

    opened = open_folder(run, approve_key_host)
    done = run_stage(stage(guard=guard, estimator=estimator, top=top, control=control, push=push), opened)
    print(json_for_stdout({**data_of(done), **listed(opened)}) if as_json else listing(opened))
    return exit_code(done.manifest.missing)


def publish(
    run: RunOption,
    push: Annotated[bool, typer.Option("--push", help="upload; without it nothing leaves the machine")] = False,
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """The command `publish`."""
    from marginalia.pipeline.core.stage_runner import run_stage
    from marginalia.pipeline.core.stage_summary import data_of
    from marginalia.pipeline.release.publish_stage import describe, stage

    done = run_stage(stage(push=push), open_folder(run, approve_key_host))
    print(json_for_stdout(data_of(done)) if as_json else describe(done.manifest.facts))
    return exit_code(done.manifest.missing)
