"""The progress of a run: each stage with its age, what is stale and why, and the next command. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from marginalia.pipeline.core.artifacts import ANSWERS, GOLD, IMPORT_SETTINGS, SUGGESTED_MAPPING
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.run_log import read_log
from marginalia.pipeline.core.stage_order import STAGES, load_stage
from marginalia.pipeline.core.stage_runner import manifest_path, read_manifest, staleness
from marginalia.pipeline.core.stage_summary import counted
from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.storage.run_lock import lock_holder
from marginalia.schemas.terminal import table, wrapped

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
    """The stages of a run. `working` describes the process that holds the run's lock, `next` is the command that
    continues the run and `because` its reason; each can be None. `report` is the path of the report once all stages are
    complete. `str()` is the table that `marginalia status` prints."""

    run: str
    working: str | None
    stages: list[StageState]
    next: str | None
    because: str | None
    report: str | None

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` prints."""
        rows = [{**asdict(stage), "finished_at": _iso(stage.finished_at)} for stage in self.stages]
        following = {"next": self.next, "because": self.because, "report": self.report}
        return {"run": self.run, "working": self.working, "stages": rows, **following}

    def __str__(self) -> str:
        rows = []
        for stage in self.stages:
            when = "" if stage.age_seconds is None else _ago(stage.age_seconds)
            details = "; ".join(part for part in (stage.why, counted(stage.counts, SHOWN)) if part)
            rows.append((stage.stage, stage.state, when, details))
        lines = [f"{self.run}" + (f": in use by {self.working}" if self.working else "")]
        lines.append(table(["stage", "state", "finished", "result"], rows))
        if self.next is not None:
            lines.append(f"next: {self.next}")
        elif self.report is not None:
            lines.append(f"all stages are complete; the report: {self.report}")
        return "\n".join([*lines, *([wrapped(f"  {self.because}", hanging=0)] if self.because else [])])


@dataclass(frozen=True)
class MissingAnswers:
    """Answers that people still have to give in Argilla; `count` None: not known, because of `problem`."""

    count: int | None
    problem: str | None = None

    def __str__(self) -> str:
        if self.count is None:
            return f"how many answers are missing is not known: {self.problem}"
        return "1 answer is missing" if self.count == 1 else f"{self.count:,} answers are missing"


def overview(run: Run, missing: MissingAnswers | None = None) -> Overview:
    """The stages that this run needs, in the order of the data. `missing`: what its annotators still have to do; None
    when nothing was pushed."""
    working, last_events = lock_holder(run.folder), _last_events(run)
    stages: list[StageState] = []
    waits_for: str | None = None  # the first stage that must run before the stages after it can be up to date
    for name in _needed_stages(run):
        stage = _state(run, name, last_events.get(name), working, waits_for)
        stages.append(stage)
        if waits_for is None and stage.state in (*TO_DO, "running") and STAGES[name].waited_for:
            waits_for = name
    todo = next((stage for stage in stages if stage.state in TO_DO), None)
    report = run.path("report.html") if todo is None and working is None else None
    command, because = None, None
    if working is not None:
        because = f"wait until {working} has finished"
    elif todo is not None:
        command, because = next_command(run, todo, missing, tried=last_events.get(todo.stage) is not None)
    return Overview(str(run.folder), working, stages, command, because, None if report is None else str(report))


def next_after(run: Run, stage: str) -> str | None:
    """The command that usually follows a complete `stage`; None after the last. Reads only manifests, so that it is
    fast in large runs; `overview` also finds what is stale."""
    names = _needed_stages(run)
    later = names[names.index(stage) + 1 :] if stage in names else []
    name = next((name for name in later if name != "adjudicate" or _undecided(run)), None)
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


def next_command(run: Run, todo: StageState, missing: MissingAnswers | None, *, tried: bool) -> tuple[str, str]:
    """The command for the first stage that is to be done, and the reason. `tried`: the stage was called before."""
    manifest = _manifest(run, todo.stage)
    path = manifest_path(run, todo.stage)
    if manifest is None and path.exists():  # damaged; without --force the stage would refuse to run
        if todo.stage == "publish":  # has no --force
            return f"rm {path}", f"it is damaged; then: {run.command('publish')}"
        return f"{run.command(todo.stage)} --force", f"{path} is damaged: {todo.why}"
    if todo.stage == "import" and not tried:
        return _first_import(run)
    if todo.stage == "pull" or (todo.stage == "score" and manifest is None and missing is not None and missing.count):
        if missing is not None and missing.count == 0:
            return run.command("pull"), "people have given all answers"
        return run.command("pull"), f"{missing or 'people answer in Argilla first'}; {_for_annotators(run)}"
    command, because = run.command(todo.stage), _reason(todo)
    if todo.state == "incomplete" and manifest is not None:
        how = next(item.how for item in manifest.missing if item.blocks)
        command, because = (how, because) if how.startswith("marginalia ") else (command, f"{because}; {how}")
    if todo.stage == "plan" and todo.state == "not run":
        because += f"; to use records of your own instead: marginalia import FILE --run {run.folder} --mapping MAPPING"
    return command, because


def _reason(todo: StageState) -> str:
    if todo.state == "not run":
        return f"{todo.stage} has not run yet"
    if todo.state == "broken off":
        return f"{todo.stage} was interrupted; it continues where it stopped"
    return f"{todo.stage} is {'out of date' if todo.state == 'stale' else 'incomplete'}: {todo.why}"


def _first_import(run: Run) -> tuple[str, str]:
    mapping = run.path(SUGGESTED_MAPPING)
    if not mapping.exists():
        return (
            f"{run.command('import')} --suggest",
            f"it writes {mapping}, which says what the columns mean, for you to check",
        )
    return (
        f"{run.command('import')} --mapping {mapping}",
        "once you have checked the mapping; with --preview it shows the records and writes nothing",
    )


def _for_annotators(run: Run) -> str:
    """Where people answer, and where their accounts are."""
    url = run.config.annotation.url
    if url is not None:
        return f"pull them when people have answered at {url}"
    return f"pull them when people have answered; address and log-ins: marginalia argilla up --run {run.folder}"


def _ago(seconds: float) -> str:
    """`3 min ago`, or that the clock has been set back since."""
    if seconds < 0:
        return "in the future: check the clock"
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), (1, "s"))
    return f"{seconds / size:.0f} {unit} ago"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
