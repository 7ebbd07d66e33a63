"""score: gold.parquet → scores/GUARD.parquet and scores/GUARD.records.parquet, for every guard of the config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from marginalia.pipeline.core.artifacts import GOLD, SCORED_RECORDS, SCORES
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.run_log import log_event
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome
from marginalia.pipeline.core.stage_summary import warning_lines
from marginalia.schemas.errors import InputError
from marginalia.schemas.manifest_json import Missing
from marginalia.schemas.progress import progress
from marginalia.schemas.storage.files import cannot_write, read_frame
from marginalia.schemas.storage.run_lock import run_lock
from marginalia.schemas.storage.yaml_files import line_in
from marginalia.scoring.config import RAY_FLAGS, EngineName, GuardRun, RayOptions
from marginalia.scoring.label_categories import CategoriesError
from marginalia.scoring.models.model_reference import check_reference
from marginalia.scoring.score_request import GuardModel, ScoreRequest, SearchOptions, Settings, fields_of

if TYPE_CHECKING:
    import polars as pl

    from marginalia.scoring.engines.shards import Shard
    from marginalia.scoring.score_failures import Failure
    from marginalia.scoring.score_sources.source_guard import AnyGuard

Records = list[tuple[str, list[dict[str, str]]]]
ENGINE: TypeAdapter[EngineName] = TypeAdapter(EngineName)


def with_engine_options(run: Run, engine: str | None, ray: dict[str, Any]) -> Run:
    """The run with score.engine and score.ray replaced by the command line's options, where given.

    Raises InputError, naming the option, for a value that is not valid."""
    section = run.config.score
    given_ray_options = {name: value for name, value in ray.items() if value is not None}
    try:
        options = RayOptions.model_validate({**section.ray.model_dump(), **given_ray_options})
        chosen = ENGINE.validate_python(engine or section.engine)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = f"--{RAY_FLAGS[str(first['loc'][0])]}" if first["loc"] else "--engine"
        raise InputError(f"{option}: {first['msg']}", hint="marginalia score --help") from None
    score = section.model_copy(update={"engine": chosen, "ray": options})
    return replace(run, config=run.config.model_copy(update={"score": score}))


def _inputs(run: Run) -> list[str]:
    """gold.parquet, and the files of guards and categories that the run folder contains."""
    guards = run.config.score.guards
    named = [guard.guard for guard in guards] + [
        guard.categories for guard in guards if isinstance(guard.categories, str)
    ]
    return [GOLD.name, *dict.fromkeys(name for name in named if run.path(name).is_file())]


def _outputs(run: Run) -> list[str]:
    return [artifact.of(guard.name).name for guard in run.config.score.guards for artifact in (SCORES, SCORED_RECORDS)]


def _work(run: Run) -> StageOutcome:
    return _outcome(run, lambda guard, records: _score_guard(run, guard, records))


def merge(run: Run) -> StageOutcome:
    """Merges the shards of every guard, for `marginalia merge`."""
    return _outcome(run, lambda guard, records: _merge_guard(run, guard, records))


def score_shard(run: Run, shard: Shard) -> list[str]:
    """Scores one shard with every guard; returns lines for the terminal.

    Locks only this shard, so that other shards of the run can be scored at the same time."""
    from marginalia.scoring.engines.shards import shard_path

    lines = []
    _, records = _records(run)
    records_of_shard = [record for record in records if shard.holds(record[0])]
    for guard in run.config.score.guards:
        out = shard_path(SCORES.of(guard.name).path(run), shard)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(out.parent, error) from error
        with run_lock(out.parent, f"marginalia score --shard {shard}"):
            scored = _score_guard(run, guard, records_of_shard, shard)
        counts = f"{scored.facts['scored']} scored by {guard.name}, {scored.facts['failed']} failed"
        lines += [f"score --shard {shard}: {counts}", *warning_lines(scored.warnings)]
    return lines


def missing_in_shard(run: Run, shard: Shard) -> list[Missing]:
    """The records of the shard that `score_shard` could not score."""
    from marginalia.scoring.engines.shards import shard_path
    from marginalia.scoring.score_failures import failures_of
    from marginalia.scoring.score_files import journal_path, records_path

    command = f"{run.command('score')} --shard {shard}"
    ids = [record_id for record_id, _ in _records(run)[1] if shard.holds(record_id)]
    missing = []
    for guard in run.config.score.guards:
        out = shard_path(SCORES.of(guard.name).path(run), shard)
        table = read_frame(records_path(out), SCORED_RECORDS.row, made_by=command)
        missing += _missing(guard, len(ids), failures_of(table, ids, [journal_path(out)]), command)
    return missing


def _records(run: Run) -> tuple[int, Records]:
    gold = GOLD.read(run)
    if not run.config.score.guards:
        hint = "add one under score: guards: (marginalia config --explain guards)"
        raise InputError.at(run.path("config.yaml"), "no guard to score with", hint=hint)
    return gold.height, list(zip(gold["id"].to_list(), gold["messages"].to_list(), strict=True))


@dataclass(frozen=True)
class _Scored:
    """The result of one guard: its model's revision, facts and warnings for the manifest, and failed records."""

    revision: str
    facts: dict[str, Any]
    warnings: list[str]
    missing: list[Missing]


def _outcome(run: Run, scores: Callable[[GuardRun, Records], _Scored]) -> StageOutcome:
    height, records = _records(run)
    models: dict[str, str] = {}
    counts: dict[str, int] = {}
    facts: dict[str, Any] = {}
    warnings: list[str] = []
    missing: list[Missing] = []
    for guard in run.config.score.guards:
        scored = scores(guard, records)
        models[guard.model], facts[guard.name] = scored.revision, scored.facts
        warnings += scored.warnings
        missing += scored.missing
        counts[f"scored by {guard.name}"] = facts[guard.name]["scored"]
        counts[f"failed with {guard.name}"] = facts[guard.name]["failed"]
    return StageOutcome(
        counts_in={"gold": height}, counts_out=counts, models=models, facts=facts, warnings=warnings, missing=missing
    )


def _merge_guard(run: Run, guard: GuardRun, records: Records) -> _Scored:
    from marginalia.scoring.engines.shards import Shard, merge_shards, shard_path
    from marginalia.scoring.score_failures import failures_of
    from marginalia.scoring.score_files import journal_path

    out = SCORES.of(guard.name).path(run)
    merged = merge_shards(out, records, lambda shard: f"{run.command('score')} --shard {shard}")
    facts, warnings = _facts_and_warnings(run, guard, merged.notes, merged.table, len(records))
    facts["shards"] = merged.facts.of
    shards = [Shard(number, merged.facts.of) for number in range(1, merged.facts.of + 1)]
    journals = [journal_path(shard_path(out, shard)) for shard in shards]
    failures = failures_of(merged.table, [record_id for record_id, _ in records], journals)
    failed = [shard for shard in shards if any(shard.holds(failure.record_id) for failure in failures)]
    again = [f"{run.command('score')} --shard {shard}" for shard in failed]
    missing = _missing(guard, len(records), failures, ", then ".join([*again, run.command("merge")]))
    return _Scored(merged.facts.revision, facts, warnings, missing)


def _score_guard(run: Run, guard: GuardRun, records: Records, shard: Shard | None = None) -> _Scored:
    from marginalia.scoring.coverage_text import print_coverage
    from marginalia.scoring.engines.shards import finish_shard, shard_path
    from marginalia.scoring.engines.start_engine import start
    from marginalia.scoring.score_failures import failures_of
    from marginalia.scoring.score_files import journal_path, write_tables
    from marginalia.scoring.score_sources.source_guard import computed_estimators

    section = run.config.score
    request = _request(run, guard)
    loaded = _load_guard(run, guard)
    estimators = computed_estimators(loaded, section.estimators)
    print_coverage(guard.name, loaded.coverage)
    out = SCORES.of(guard.name).path(run)
    out = out if shard is None else shard_path(out, shard)
    job = start(
        request,
        records,
        journal_path(out),
        engine=section.engine,
        ray=section.ray,
        allow_http="score.guards.allow_http",
    )
    for _ in progress(job, total=len(records), unit="record", what=f"score {guard.name}"):
        pass
    ids = [record_id for record_id, _ in records]
    table = write_tables(out, ids, estimators)
    if shard is not None:
        finish_shard(out, shard, records, job.origin, estimators)
    if job.origin.notes:
        log_event(run, "score", "notes", guard=guard.name, notes=list(job.origin.notes))
    facts, warnings = _facts_and_warnings(run, guard, job.origin.notes, table, len(records))
    command = run.command("score") + (f" --shard {shard}" if shard is not None else "")
    missing = _missing(guard, len(ids), failures_of(table, ids, [journal_path(out)]), command)
    return _Scored(job.origin.revision, facts, warnings, missing)


def _missing(guard: GuardRun, records: int, failures: Sequence[Failure], command: str) -> list[Missing]:
    """The failures among `records` records, temporary ones first; `command` scores them again."""
    table = SCORED_RECORDS.of(guard.name).name
    after_a_fix = f"fix the causes (column error of {table}), then: {command}; evaluate leaves these records out"
    missing = []
    for temporary, verb, command_text in (
        (True, "were not", command),
        (False, "cannot be", after_a_fix),
    ):
        if group := [failure for failure in failures if failure.is_temporary == temporary]:
            text = f"{len(group):,} of {records:,} records {verb} scored by {guard.name}, the first "
            text += f"'{group[0].record_id}': {group[0].error}"
            missing.append(Missing(what=text, how=command_text, retry=True, blocks=temporary))
    return missing


def _facts_and_warnings(
    run: Run, guard: GuardRun, notes: Sequence[str], table: pl.DataFrame, records: int
) -> tuple[dict[str, Any], list[str]]:
    from marginalia.scoring.guard import guard_path
    from marginalia.scoring.score_sources.format_notes import format_notes

    scored = table.filter(table["error"].is_null())
    loaded = _load_guard(run, guard)
    off_format = format_notes(table, loaded, guard_path(guard.guard, relative_to=run.folder))
    facts = {
        "guard": loaded.name,
        **({"coverage": loaded.coverage.model_dump()} if loaded.coverage is not None else {}),
        "notes": list(notes),
        "scored": scored.height,
        "failed": records - scored.height,
        "median_nodes": scored["nodes"].median(),
        "median_forward_passes": scored["forward_passes"].median(),
        "seconds": round(float(table["seconds"].sum()), 1),
    }
    return facts, ["\n".join([f"{guard.name}: {off_format[0]}", *off_format[1:]])] if off_format else []


def _load_guard(run: Run, guard: GuardRun) -> AnyGuard:
    """The guard with the run's taxonomy. Raises InputError, with the line of config.yaml for wrong `categories`."""
    from marginalia.scoring.score_sources.source_guard import load_any_guard

    try:
        return load_any_guard(guard.guard, run.taxonomy, relative_to=run.folder, categories=guard.categories)
    except CategoriesError as error:
        index = run.config.score.guards.index(guard)
        raise error.located(run.path("config.yaml"), "score", "guards", index, "categories") from error


def check_guards(run: Run) -> None:
    """Raises InputError, with the line of config.yaml, for a guard whose file, categories or model does not exist.
    Loads no model and asks no server."""
    for guard in run.config.score.guards:
        _check_guard_name(run, guard)
        _load_guard(run, guard)
        if not guard.model.startswith(("http://", "https://")):
            with _located(run, guard, "model"):
                check_reference(guard.model, guard.revision)


@contextmanager
def _located(run: Run, guard: GuardRun, key: str) -> Iterator[None]:
    """Names the line of the guard's setting `key` in an InputError."""
    try:
        yield
    except InputError as error:
        config, index = run.path("config.yaml"), run.config.score.guards.index(guard)
        raise error.for_setting(config, key, line=line_in(config, "score", "guards", index, key)) from error


def _check_guard_name(run: Run, guard: GuardRun) -> None:
    from marginalia.scoring.guard import guard_path

    with _located(run, guard, "guard"):
        guard_path(guard.guard, relative_to=run.folder)


def _request(run: Run, guard: GuardRun) -> ScoreRequest:
    section = run.config.score
    _check_guard_name(run, guard)
    return ScoreRequest(
        **fields_of(GuardModel, guard),
        taxonomy=run.taxonomy,
        settings=Settings(**fields_of(SearchOptions, section), seed=run.config.seed),
        folder=run.folder,
    )


STAGE = Stage(
    name="score",
    inputs=_inputs,
    outputs=_outputs,
    sections=("score",),
    work=_work,
)
MERGE = replace(STAGE, work=merge)
