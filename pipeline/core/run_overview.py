"""The progress of a run: each stage with its age, what is stale and why, and the next command. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from marginalia.pipeline.core.artifacts import ANSWERS, GOLD, IMPORT_SETTINGS
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.run_log import read_log
from marginalia.pipeline.core.stage_order import STAGES, load_stage
from marginalia.pipeline.core.stage_runner import manifest_path, read_manifest, staleness
from marginalia.pipeline.core.stage_summary import counted
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.run_lock import lock_holder

State = Literal["up to date", "incomplete", "stale", "not run", "broken off", "running", "not needed"]
TO_DO: tuple[State, ...] = ("incomplete", "stale", "not run", "broken off")
GENERATION_STAGES = ("plan", "generate")
ANNOTATION_STAGES = ("push", "pull", "reconcile", "adjudicate")
SHOWN = 3  # counts per stage
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class StageState:
    """`why` says what is stale or missing. `finished_at`, `seconds` and `counts` are of the last finished call."""

    stage: str
    state: State
    why: str | None
    finished_at: datetime | None
    age_seconds: float | None
    seconds: float | None
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Overview:
    """The stages of a run. `working` describes the process that holds the run's lock, `next` is the next command; both
    can be None. `str()` is the table that `marginalia status` prints."""

    run: str
    working: str | None
    stages: list[StageState]
    next: str | None

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` prints."""
        rows = [{**asdict(stage), "finished_at": _iso(stage.finished_at)} for stage in self.stages]
        return {"run": self.run, "working": self.working, "stages": rows, "next": self.next}

    def __str__(self) -> str:
        lines = [f"{self.run}" + (f": in use by {self.working}" if self.working else "")]
        for stage in self.stages:
            age = "" if stage.age_seconds is None else _ago(stage.age_seconds)
            details = "; ".join(part for part in (stage.why, counted(stage.counts, SHOWN)) if part)
            lines.append(f"  {stage.stage:10}  {stage.state:10}  {age:>10}  {details}".rstrip())
        lines.append(f"next: {self.next}" if self.next else "next: nothing, all stages are complete")
        if self.stages[0].stage == "plan" and self.stages[0].state == "not run":
            lines.append(f"or, with your own records: marginalia import FILE --run {self.run} --mapping MAPPING")
        return "\n".join(lines)


def overview(run: Run) -> Overview:
    """The stages that this run needs, in the order of the data."""
    working, last_events = lock_holder(run.folder), _last_events(run)
    stages: list[StageState] = []
    waits_for: str | None = None  # the first stage that must run before the stages after it can be up to date
    for name in _needed_stages(run):
        stage = _state(run, name, last_events.get(name), working, waits_for)
        stages.append(stage)
        if waits_for is None and stage.state in (*TO_DO, "running") and STAGES[name].waited_for:
            waits_for = name
    todo = next((stage for stage in stages if stage.state in TO_DO), None)
    return Overview(str(run.folder), working, stages, _command(run, todo) if todo is not None else None)


def next_after(run: Run, stage: str) -> str | None:
    """The command that usually follows a complete `stage`; None after the last. Reads only manifests, so that it is
    fast in large runs; `overview` also finds what is stale."""
    names = _needed_stages(run)
    later = names[names.index(stage) + 1 :] if stage in names else []
    name = next((name for name in later if name != "adjudicate" or _undecided(run)), None)
    if name == "pull":
        return _annotate_first(run)
    return run.command(name) if name is not None else None


def _needed_stages(run: Run) -> list[str]:
    """Imported records are not generated, with imported answers they are only reconciled, and with imported gold they
    are not annotated at all."""
    names = [name for name in STAGES if name != "audit"]  # optional in every run
    if (imported := _manifest(run, "import")) is None and not run.path(IMPORT_SETTINGS).exists():
        names.remove("import")
    else:
        names = [name for name in names if name not in GENERATION_STAGES]
        if imported is not None and GOLD.name in imported.outputs:
            names = [name for name in names if name not in ANNOTATION_STAGES]
        elif imported is not None and ANSWERS.name in imported.outputs:
            names = [name for name in names if name not in ANNOTATION_STAGES or name == "reconcile"]
    return names


def _state(run: Run, name: str, last_event: str | None, working: str | None, waits_for: str | None) -> StageState:
    manifest = _manifest(run, name)
    state: State
    why: str | None = None
    if working is not None and last_event == "started" and f"(marginalia {name}," in working:
        state = "running"
    elif name == "adjudicate" and not _undecided(run):
        state = "not needed"
    else:
        try:
            why = staleness(load_stage(name), run)
        except MarginaliaError as error:
            why = str(error)
        state = "up to date" if why is None else "stale"
        if why is None and waits_for is not None:
            state, why = "stale", f"{waits_for} must run first"
        if why is None and manifest is not None and manifest.missing:
            missing = next((item for item in manifest.missing if item.blocks), manifest.missing[0])
            state, why = "incomplete" if missing.blocks else state, missing.what
        if not STAGES[name].waited_for and manifest is not None:
            state, why = "up to date", None  # they read the state of a server, which no file shows
        if manifest is None:
            state, why = "not run", why if why != "not run yet" else None
        if last_event == "started":
            state, why = "broken off", "the last call was interrupted; run the same command to continue"
    finished = manifest.finished_at if manifest is not None else None
    return StageState(
        stage=name,
        state=state,
        why=why,
        finished_at=finished,
        age_seconds=None if finished is None else round((datetime.now(UTC) - finished).total_seconds(), 1),
        seconds=manifest.seconds if manifest is not None else None,
        counts=manifest.counts_out if manifest is not None else {},
    )


def _undecided(run: Run) -> int:
    """The number of records that wait for an expert."""
    manifest = _manifest(run, "reconcile")
    return manifest.counts_out.get("needs_adjudication", 0) if manifest is not None else 0


def _last_events(run: Run) -> dict[str, str]:
    return {entry["stage"]: entry["event"] for entry in read_log(run.folder)}


def _manifest(run: Run, stage: str) -> Manifest | None:
    try:
        return read_manifest(run, stage)
    except MarginaliaError:
        return None  # staleness reports the damage


def _command(run: Run, todo: StageState) -> str:
    manifest = _manifest(run, todo.stage)
    path = manifest_path(run, todo.stage)
    if manifest is None and path.exists():  # damaged; without --force the stage would refuse to run
        forced = f"{run.command(todo.stage)} --force"
        return forced if todo.stage != "publish" else f"delete {path}, then: {run.command(todo.stage)}"
    if todo.state == "incomplete" and manifest is not None:
        return next(item.how for item in manifest.missing if item.blocks)
    if todo.stage == "pull" and manifest is None:
        return _annotate_first(run)
    return run.command(todo.stage)


def _annotate_first(run: Run) -> str:
    return f"annotate in Argilla (marginalia argilla up --run {run.folder}), then: {run.command('pull')}"


def _ago(seconds: float) -> str:
    """`3 min ago`, or that the clock has been set back since."""
    if seconds < 0:
        return "in the future: check the clock"
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), (1, "s"))
    return f"{seconds / size:.0f} {unit} ago"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
