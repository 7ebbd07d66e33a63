"""import: converts an existing data set to prompts.parquet and, when its labels are gold, gold.parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import yaml

from marginalia.pipeline.core.artifacts import GOLD, PROMPTS
from marginalia.pipeline.core.artifacts import IMPORT_SETTINGS as SETTINGS
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, manifest_path, read_manifest
from marginalia.pipeline.importing.column_mapping import HUB, Mapping, load_mapping, mapping_path
from marginalia.pipeline.importing.hub_source import SNAPSHOT, fetch
from marginalia.pipeline.importing.imported_tables import gold_table, prompt_table
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.errors import InputError
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.storage.files import read_text, write_text
from marginalia.schemas.storage.overwriting import refuse_overwriting
from marginalia.schemas.storage.run_lock import run_lock

COPY = "copy it out of the run folder, then import the copy"


def prepare(run: Run, source: str | None, mapping: str | None) -> None:
    """Writes import.yaml: the mapping file with the source in front. Call it before the stage runs.

    `source`: a JSONL or Parquet file, or `hub:owner/name`, which is downloaded and pinned to its commit; None keeps the
    source of import.yaml. `mapping`: the name of a shipped mapping or a file; None keeps import.yaml or, without one,
    takes the shipped `records` (columns id, text or messages, labels). Raises InputError when the run has generated
    records or reconciled gold, or when there is no source."""
    _refuse_other_origins(run)
    settings = run.path(SETTINGS)
    if source is None and not settings.exists():
        raise InputError(
            f"{run.folder} has no {SETTINGS}", hint=f"marginalia import FILE --run {run.folder} --mapping NAME"
        )
    if mapping is None:
        path = settings if settings.exists() else mapping_path("records")
    else:
        path = mapping_path(mapping)
    loaded = load_mapping(path, run.taxonomy)
    source = source or loaded.source
    if source is None:
        raise InputError(f"{settings}: source is not set", hint=f"marginalia import FILE --run {run.folder}")
    if not source.startswith(HUB):
        if source != loaded.source:
            source = _stored_path(run, Path(source))
        written = (PROMPTS.path(run), GOLD.path(run), manifest_path(run, "import"))
        refuse_overwriting(written, (run.path(source), mapping), hint=COPY)
        text = _with_source(read_text(path), source)
    else:
        hub = loaded.hub
        if not run.path(SNAPSHOT).exists() or hub.revision is None or source != loaded.source:
            commit = fetch(source.removeprefix(HUB), hub, run.path(SNAPSHOT))
            hub = hub.model_copy(update={"revision": commit})
        text = _with_source(_without_key(read_text(path), "hub"), source)
        text += yaml.safe_dump({"hub": hub.model_dump()}, sort_keys=False)
    with run_lock(run.folder, "marginalia import"):
        if not settings.exists() or read_text(settings) != text:
            write_text(settings, text)


def _stored_path(run: Run, path: Path) -> str:
    """The path as import.yaml has it: relative for a file inside the run folder, which may be moved, else absolute."""
    if not path.exists():
        raise InputError.at(path, "no such file", hint=f"a .jsonl or .parquet file, or {HUB}owner/name")
    resolved = path.resolve()
    root = run.folder.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else str(resolved)


def _with_source(text: str, source: str) -> str:
    head = yaml.safe_dump({"source": source}, allow_unicode=True, width=10_000)
    return head + _without_key(text, "source")


def _without_key(text: str, key: str) -> str:
    """YAML text without one top-level key; comments and everything else are unchanged."""
    lines, inside = [], False
    for line in text.split("\n"):
        if line.startswith(f"{key}:"):
            inside = True
        elif inside and line[:1].strip():
            inside = False
        if not inside:
            lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"


def _refuse_other_origins(run: Run) -> None:
    """Raises InputError when the run's records or gold were made by another stage."""
    for stage, name in ((PROMPTS.stage, PROMPTS.name), (GOLD.stage, GOLD.name)):
        if manifest_path(run, stage).exists():
            raise InputError(
                f"{run.folder}: its {name} comes from {stage}; an import would replace it",
                hint="import into a new run: marginalia new NAME",
            )


def _settings(run: Run) -> Mapping:
    return load_mapping(run.path(SETTINGS), run.taxonomy)


def _source(run: Run, mapping: Mapping) -> str:
    if mapping.source is None:
        raise InputError.at(run.path(SETTINGS), "source is not set", hint="marginalia import FILE --run …")
    return SNAPSHOT if mapping.repository else mapping.source


def _inputs(run: Run) -> list[str]:
    if not run.path(SETTINGS).exists():
        return [SETTINGS]
    return [SETTINGS, _source(run, _settings(run))]


def _outputs(run: Run) -> list[str]:
    if not run.path(SETTINGS).exists():
        return [PROMPTS.name]
    mapping = _settings(run)
    gold = mapping.labels is not None and mapping.labels.kind == "gold"
    return [PROMPTS.name, *([GOLD.name] if gold else [])]


def _work(run: Run) -> StageOutcome:
    _refuse_other_origins(run)
    mapping = _settings(run)
    path = run.path(_source(run, mapping))
    result = convert(read_rows(path), mapping, run.taxonomy, str(path))
    gold = GOLD.name in _outputs(run)
    origin = f"{mapping.repository}@{mapping.hub.revision}" if mapping.repository else path.name
    modified = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    prompts = prompt_table(result.records, f"imported: {mapping.title} ({origin})", modified, intended=not gold)
    PROMPTS.write(run, prompts)
    before = read_manifest(run, "import")
    warnings: list[str] = []
    if gold and (unlabelled := result.counts["unlabelled"]):
        are = "is" if unlabelled == 1 else "are"
        warnings.append(
            f"{unlabelled:,} of {len(result.records):,} records {are} not labelled and not counted in any result; if a "
            "blank cell means that no category applies, add blank: none to labels in the mapping"
        )
    if gold:
        table = gold_table(result.records, run.taxonomy.ids, run.config.reconcile.splits, run.config.seed)
        GOLD.write(run, table)
        equal = equal_texts(table)
        result.counts.update(equal.counts)
        warnings += equal.warnings
    elif before is not None and GOLD.name in before.outputs:
        GOLD.path(run).unlink(missing_ok=True)  # from an earlier import with another mapping
    rows = result.counts.pop("rows")
    return StageOutcome(
        counts_in={"rows": rows},
        counts_out={name: n for name, n in sorted(result.counts.items()) if n or name == "records"},
        facts={
            "source": mapping.source,
            "title": mapping.title,
            "labels": "gold" if gold else "intended",
            "revision": mapping.hub.revision,
            "ignored_values": dict(sorted(result.ignored.items())),
        },
        warnings=warnings,
    )


STAGE = Stage(
    name="import",
    inputs=_inputs,
    outputs=_outputs,
    sections=("reconcile",),
    work=_work,
)
