"""import: converts an existing data set to prompts.parquet and, when people gave its labels, gold.parquet (final
labels) or annotations.parquet (the answers of several people)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from marginalia.annotation.client.pseudonyms import read_key, write_key
from marginalia.pipeline.core.artifacts import ANSWERS, GOLD, PROMPTS, PSEUDONYM_KEY
from marginalia.pipeline.core.artifacts import IMPORT_SETTINGS as SETTINGS
from marginalia.pipeline.core.imported_files import keep_made
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import Stage, StageOutcome, manifest_path, read_manifest
from marginalia.pipeline.importing.column_mapping import HUB, Mapping, load_mapping, mapping_path
from marginalia.pipeline.importing.hub_source import SNAPSHOT, fetch
from marginalia.pipeline.importing.import_source import check_sources, open_source, source_names, stored_source
from marginalia.pipeline.importing.imported_tables import answer_table, gold_table, prompt_table, with_people
from marginalia.pipeline.importing.label_warnings import label_warnings
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.errors import InputError
from marginalia.schemas.progress import progress
from marginalia.schemas.storage.files import read_text, write_text
from marginalia.schemas.storage.overwriting import refuse_overwriting
from marginalia.schemas.storage.run_lock import run_lock

COPY = "copy it out of the run folder, then import the copy"


class ResolvedImport(NamedTuple):
    """What an import reads: its mapping file, the mapping with the source as import.yaml has it, and whether the
    mapping file already named this source."""

    path: Path
    mapping: Mapping
    has_source: bool


def prepare(run: Run, source: str | Sequence[str] | None, mapping: str | None) -> None:
    """Writes import.yaml: the mapping file with the source in front. Call it before the stage runs.

    `source`, `mapping`: as for `resolve`. A data set on the Hub is downloaded and pinned to its commit. Raises
    InputError when the run has generated records or reconciled gold, and what `resolve` raises."""
    path, loaded, has_source = resolve(run, source, mapping)
    settings = run.path(SETTINGS)
    keep_made(run, _outputs_by(loaded), read_manifest(run, "import"))
    if loaded.repository is None:
        written = (*(artifact.path(run) for artifact in (PROMPTS, ANSWERS, GOLD)), manifest_path(run, "import"))
        refuse_overwriting(written, (*map(run.path, source_names(run, loaded)), mapping), hint=COPY)
        text = _with_source(read_text(path), loaded.source)
    else:
        hub = loaded.hub
        if not run.path(SNAPSHOT).exists() or hub.revision is None or not has_source:
            commit = fetch(loaded.repository, hub, run.path(SNAPSHOT))
            hub = hub.model_copy(update={"revision": commit})
        text = _with_source(_without_key(read_text(path), "hub"), loaded.source)
        text += yaml.safe_dump({"hub": hub.model_dump()}, sort_keys=False)
    with run_lock(run.folder, "marginalia import"):
        if not settings.exists() or read_text(settings) != text:
            write_text(settings, text)


def first_settings(run: Run, sources: Sequence[str]) -> str:
    """import.yaml of a run that will import these files: they are its source, and the mapping is the shipped `records`
    until another one is given. Raises InputError for a file that does not exist and for a data set on the Hub."""
    if hub := next((source for source in sources if source.startswith(HUB)), None):
        raise InputError(
            f"--data {hub}: expected files", hint=f"marginalia import {hub} --run {run.folder} --mapping NAME"
        )
    stored = [stored_source(run, source) for source in sources]
    return _with_source(read_text(mapping_path("records")), stored[0] if len(stored) == 1 else stored)


def resolve(run: Run, source: str | Sequence[str] | None, mapping: str | None) -> ResolvedImport:
    """The mapping of an import, with its source.

    `source`: files, patterns, or `hub:owner/name`; None or none keeps the source of import.yaml. `mapping`: the name of
    a shipped mapping or a file; None keeps import.yaml or, without one, takes the shipped `records` (columns id, text
    or messages, labels). Raises InputError when there is no source."""
    given = [source] if isinstance(source, str) else list(source or [])
    settings = run.path(SETTINGS)
    if not given and not settings.exists():
        raise InputError(
            f"{run.folder} has no {SETTINGS}", hint=f"marginalia import FILE --run {run.folder} --mapping NAME"
        )
    if mapping is None:
        path = settings if settings.exists() else mapping_path("records")
    else:
        path = mapping_path(mapping)
    loaded = load_mapping(path, run.taxonomy)
    sources = [one if one in loaded.sources else stored_source(run, one) for one in given] or loaded.sources
    if not sources and path != settings and settings.exists():
        sources = _settings(run).sources
    if not sources:
        raise InputError(f"{settings}: source is not set", hint=f"marginalia import FILE --run {run.folder}")
    check_sources(sources)
    with_source = loaded.model_copy(update={"source": sources[0] if len(sources) == 1 else sources})
    return ResolvedImport(path, with_source, sources == loaded.sources)


def _with_source(text: str, source: str | list[str] | None) -> str:
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


def _settings(run: Run) -> Mapping:
    return load_mapping(run.path(SETTINGS), run.taxonomy)


def _inputs(run: Run) -> list[str]:
    if not run.path(SETTINGS).exists():
        return [SETTINGS]
    return [SETTINGS, *source_names(run, _settings(run))]


def _outputs(run: Run) -> list[str]:
    return _outputs_by(_settings(run)) if run.path(SETTINGS).exists() else [PROMPTS.name]


def _outputs_by(mapping: Mapping) -> list[str]:
    """The files that an import by this mapping writes."""
    if mapping.annotators is not None:
        return [PROMPTS.name, ANSWERS.name]
    gold = mapping.labels is not None and mapping.labels.kind == "gold"
    return [PROMPTS.name, *([GOLD.name] if gold else [])]


def files_to_import(run: Run) -> list[str]:
    """The files that import.yaml names. Raises InputError when there is none."""
    if not run.path(SETTINGS).exists():
        raise InputError(f"{run.folder} has no {SETTINGS}", hint=f"marginalia import FILE --run {run.folder} --suggest")
    return [str(run.path(name)) for name in source_names(run, _settings(run))]


def detected(run: Run) -> list[str]:
    """How the files of the last import were read, where that had to be found out."""
    manifest = read_manifest(run, "import")
    return list(manifest.facts.get("detected", [])) if manifest else []


def _work(run: Run) -> StageOutcome:
    mapping = _settings(run)
    source = open_source(run, mapping)
    rows_read = progress(source.rows(), what="import", unit="row")
    result = convert(rows_read, source.mapping, run.taxonomy, source.name)
    outputs = _outputs_by(mapping)
    intended = outputs == [PROMPTS.name]
    prompts = prompt_table(
        result.records, f"imported: {mapping.title} ({source.origin})", source.modified, intended=intended
    )
    PROMPTS.write(run, prompts)
    facts: dict[str, Any] = {"labels": "intended" if intended else "gold"}
    warnings = label_warnings(result, mapping, run.taxonomy.ids)
    if ANSWERS.name in outputs:
        key = with_people(read_key(PSEUDONYM_KEY.path(run)), result.answers)
        write_key(PSEUDONYM_KEY.path(run), key)
        answers = answer_table(result.answers, key, source.modified)
        ANSWERS.write(run, answers)
        facts = {"labels": "answers", "annotators": answers["annotator"].n_unique()}
    if GOLD.name in outputs:
        table = gold_table(result.records, run.taxonomy.ids, run.config.reconcile.splits, run.config.seed)
        GOLD.write(run, table)
        equal = equal_texts(table)
        result.counts.update(equal.counts)
        warnings += equal.warnings
    _remove_former(run, outputs)
    rows = result.counts.pop("rows")
    return StageOutcome(
        counts_in={"rows": rows},
        counts_out={name: n for name, n in sorted(result.counts.items()) if n or name == "records"},
        facts={
            "source": mapping.source,
            "detected": [str(facts) for facts in source.files.facts if facts.is_guessed],
            "title": mapping.title,
            **facts,
            "revision": mapping.hub.revision,
            "ignored_values": dict(sorted(result.ignored.items())),
        },
        warnings=warnings,
    )


def _remove_former(run: Run, outputs: Sequence[str]) -> None:
    """Removes what an earlier import with another mapping wrote and this one does not."""
    before = read_manifest(run, "import")
    for artifact in (ANSWERS, GOLD):
        if before is not None and artifact.name in before.outputs and artifact.name not in outputs:
            artifact.path(run).unlink(missing_ok=True)


STAGE = Stage(
    name="import",
    inputs=_inputs,
    outputs=_outputs,
    sections=("reconcile",),
    work=_work,
)
