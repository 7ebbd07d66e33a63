"""How far a run is: every stage with its age, what is stale and why, and the next command. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from marginalia.pipeline.core.artifacts import GOLD, IMPORT_SETTINGS
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.run_log import read_log
from marginalia.pipeline.core.stage_order import STAGES, load_stage
from marginalia.pipeline.core.stage_runner import read_manifest, staleness
from marginalia.pipeline.core.stage_summary import counted
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.run_lock import lock_holder

State = Literal["up to date", "incomplete", "stale", "not run", "broken off", "running", "not needed"]
TO_DO: tuple[State, ...] = ("incomplete", "stale", "not run", "broken off")
WRITTEN = ("plan", "generate")
ANNOTATED = ("push", "pull", "reconcile", "adjudicate")
SHOWN = 3  # counts of a stage
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class StageState:
    """`why` says what is stale or missing; `finished_at` and `counts` are of the last run that ended."""

    stage: str
    state: State
    why: str | None
    finished_at: datetime | None
    age_seconds: float | None
    seconds: float | None
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Overview:
    run: str
    working: str | None  # the process that holds the run's lock
    stages: list[StageState]
    next: str | None

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` prints."""
        rows = [{**asdict(one), "finished_at": _iso(one.finished_at)} for one in self.stages]
        return {"run": self.run, "working": self.working, "stages": rows, "next": self.next}

    def __str__(self) -> str:
        lines = [f"{self.run}" + (f": {self.working} is working here" if self.working else "")]
        for one in self.stages:
            age = "" if one.age_seconds is None else f"{_duration(one.age_seconds)} ago"
            said = "; ".join(part for part in (one.why, counted(one.counts, SHOWN)) if part)
            lines.append(f"  {one.stage:10}  {one.state:10}  {age:>10}  {said}".rstrip())
        lines.append(f"next: {self.next}" if self.next else "next: nothing is left to do")
        if self.stages[0].stage == "plan" and self.stages[0].state == "not run":
            lines.append(f"or, with records of your own: marginalia import FILE --run {self.run} --mapping MAPPING")
        return "\n".join(lines)


def overview(run: Run) -> Overview:
    """The stages that this run needs, in the order of the data."""
    working, log = lock_holder(run.folder), _last_events(run)
    found: list[StageState] = []
    behind: str | None = None  # the first stage that must run before those after it can be up to date
    for name in _line(run):
        one = _state(run, name, log.get(name), working, behind)
        found.append(one)
        if behind is None and one.state in (*TO_DO, "running") and STAGES[name].waited_for:
            behind = name
    todo = next((one for one in found if one.state in TO_DO), None)
    return Overview(str(run.folder), working, found, _command(run, todo) if todo is not None else None)


def _line(run: Run) -> list[str]:
    """Without the stages of the other origin: what is imported is not generated, and gold may come with it."""
    names = [name for name in STAGES if name != "audit"]  # no run needs one
    if (imported := _manifest(run, "import")) is None and not run.path(IMPORT_SETTINGS).exists():
        names.remove("import")
    else:
        names = [name for name in names if name not in WRITTEN]
        if imported is not None and GOLD.name in imported.outputs:
            names = [name for name in names if name not in ANNOTATED]
    return names


def _state(run: Run, name: str, event: str | None, working: str | None, behind: str | None) -> StageState:
    manifest = _manifest(run, name)
    state: State
    why: str | None = None
    if working is not None and event == "started" and f"(marginalia {name}," in working:
        state = "running"
    elif name == "adjudicate" and not _undecided(run):
        state = "not needed"
    else:
        try:
            why = staleness(load_stage(name), run)
        except MarginaliaError as error:
            why = str(error)
        state = "up to date" if why is None else "stale"
        if why is None and behind is not None:
            state, why = "stale", f"after {behind}"
        if why is None and manifest is not None and manifest.missing:
            first = next((one for one in manifest.missing if one.blocks), manifest.missing[0])
            state, why = "incomplete" if first.blocks else state, first.what
        if not STAGES[name].waited_for and manifest is not None:
            state, why = "up to date", None  # what they read was the state of a moment
        if manifest is None:
            state, why = "not run", why if why != "not run yet" else None
        if event == "started":
            state, why = "broken off", "the last call did not end; the same command goes on"
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
    """Records that wait for an expert."""
    manifest = _manifest(run, "reconcile")
    return manifest.counts_out.get("needs_adjudication", 0) if manifest is not None else 0


def _last_events(run: Run) -> dict[str, str]:
    return {entry["stage"]: entry["event"] for entry in read_log(run.folder)}


def _manifest(run: Run, stage: str) -> Manifest | None:
    try:
        return read_manifest(run, stage)
    except MarginaliaError:
        return None  # staleness tells of it


def _command(run: Run, todo: StageState) -> str:
    manifest = _manifest(run, todo.stage)
    if todo.state == "incomplete" and manifest is not None:
        return next(one.how for one in manifest.missing if one.blocks)
    if todo.stage == "pull" and manifest is None:
        return f"people annotate (marginalia argilla up --run {run.folder}), then {run.command(todo.stage)}"
    return run.command(todo.stage)


def _duration(seconds: float) -> str:
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), (1, "s"))
    return f"{seconds / size:.0f} {unit}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
