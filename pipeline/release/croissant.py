"""croissant.json: the files and columns of a release for programs, in the Croissant format 1.1 of MLCommons with its
vocabulary for responsible AI, RAI 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import polars as pl

from marginalia.pipeline.config.release import ReleaseSection
from marginalia.pipeline.release.card_sentences import USES, agreement_sentence, labelled_by, limits
from marginalia.pipeline.release.dataset_card import CardFacts, citation, metadata, origin, title
from marginalia.pipeline.release.release_tables import MODELS, config_of
from marginalia.pipeline.release.release_versions import gold_of
from marginalia.pipeline.report.as_text import plural
from marginalia.schemas.errors import ArtifactError
from marginalia.schemas.storage.files import sha256

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
HUB = "https://huggingface.co"
PARQUET = "application/x-parquet"  # not the registered name, but the one that the package mlcroissant and the Hub use
# the context that the specification recommends (appendix 1), and `path`, `replace`, `repeated` and `samplingRate`,
# without which the package mlcroissant calls it non-standard
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    **{
        term: f"cr:{term}"
        for term in (
            *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes"),
            *("extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray"),
            *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "readLines", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "sdVersion", "separator", "source"),
            *("subField", "transform", "unArchive", "value"),
        )
    },
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
}
_ATOMIC = ((pl.Boolean(), "sc:Boolean"), (pl.String(), "sc:Text"), (pl.Float64(), "sc:Float"))
_ADDRESSES = {  # of the licences that data sets have most often; the Hub's id → SPDX
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "odc-by": "ODC-By-1.0",
    **{
        name: name.upper()
        for name in (
            "cc0-1.0",
            *(f"cc-{kind}-4.0" for kind in ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd")),
        )
    },
}


def croissant(section: ReleaseSection, facts: CardFacts, folder: Path) -> dict[str, Any]:
    """The content of croissant.json for the release whose tables are in `folder`. Properties that the config does not
    give (licence, repository, authors, date, statements of the owner) are absent, also where the format requires
    them."""
    card_metadata = metadata(section, facts)
    address = f"{HUB}/datasets/{section.repo_id}" if section.repo_id else None
    document = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "name": title(section, facts),
        "description": section.description or _description(facts),
        "conformsTo": CONFORMS_TO,
        "license": _license(section),
        "url": address,
        "creator": [{"@type": "sc:Organization", "name": author} for author in section.authors],
        "datePublished": section.date.isoformat() if section.date else None,
        "version": f"{facts.history.latest.version}.0.0",
        "inLanguage": list(facts.languages),
        "keywords": card_metadata["tags"],
        "citeAs": citation(section, facts),
        "isLiveDataset": False,
        **_responsible_ai(section, facts),
        "distribution": [_file(path, folder, section) for path in sorted(facts.tables)],
        "recordSet": [_record_set(path, facts.tables[path]) for path in sorted(facts.tables)],
    }
    return {name: value for name, value in document.items() if value not in (None, [], "")}


def described_files(path: Path) -> dict[str, str]:
    """Data file → SHA-256, as croissant.json lists them. Raises ArtifactError when it is not such a file."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["distribution"]
        return {str(file["@id"]): str(file["sha256"]) for file in files}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError.at(path, "not a Croissant description of files", hint="release it again") from error


def missing_properties(section: ReleaseSection) -> list[str]:
    """The settings without which croissant.json lacks a property that the format requires, except those that `publish`
    itself requires; each with what it says."""
    missing = {"release.authors (who made the data set)": not section.authors}
    missing["release.date (the date of publication)"] = section.date is None
    return [setting for setting, absent in missing.items() if absent]


def _description(facts: CardFacts) -> str:
    records = plural(gold_of(facts.tables).height, "record")
    labels = plural(len(facts.taxonomy.labels), "label")
    text = f"{records} ({facts.taxonomy.subject}), labelled with {labels} of the policy “{facts.taxonomy.title}”."
    return f"{text} {facts.taxonomy.content_notice.strip()}" if facts.taxonomy.content_notice else text


def _license(section: ReleaseSection) -> Any:
    if section.license_link:
        return section.license_link
    if section.license in _ADDRESSES:
        return f"https://spdx.org/licenses/{_ADDRESSES[section.license]}.html"
    return {"@type": "sc:CreativeWork", "name": section.license} if section.license else None


def _responsible_ai(section: ReleaseSection, facts: CardFacts) -> dict[str, Any]:
    source, sheet = origin(facts), section.datasheet
    annotators = gold_of(facts.tables)["n_annotators"].to_list()
    per_record = f"{min(annotators)} to {max(annotators)} per record, {fmean(annotators):.1f} on average"
    people = source.answered and not source.imported and not source.simulated
    collection = [
        *(f"{plural(n, 'record')} written by the language model {name}" for name, n in facts.sources.written.items()),
        *(f"{plural(n, 'record')} from {name}" for name, n in facts.sources.taken.items()),
    ]
    return {
        "rai:dataCollection": "; ".join(collection) or "Not recorded.",
        "rai:dataAnnotationProtocol": labelled_by(source),
        "rai:dataAnnotationPlatform": ["Argilla"] if people else [],
        "rai:machineAnnotationTools": ["Marginalia's simulated annotators"] if source.simulated else [],
        "rai:annotationsPerItem": per_record if source.answered and not source.simulated else None,
        "rai:dataAnnotationAnalysis": [agreement_sentence(facts.agreement)] if facts.agreement is not None else [],
        "rai:annotatorDemographics": [sheet.about_annotators]
        if sheet.about_annotators and not source.simulated
        else [],
        "rai:personalSensitiveInformation": [sheet.personal_data] if sheet.personal_data else [],
        "rai:dataLimitations": limits(source, facts.agreement, facts.evaluation),
        "rai:dataUseCases": list(USES),
        "rai:dataReleaseMaintenancePlan": [
            f"Version {facts.history.latest.version}; CHANGELOG.md lists what each version changed.",
            *([f"Report problems to {section.contact}."] if section.contact else []),
        ],
    }


def _file(path: str, folder: Path, section: ReleaseSection) -> dict[str, Any]:
    base = f"{section.endpoint or HUB}/datasets/{section.repo_id}/resolve/main/" if section.repo_id else ""
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": base + path,
        "contentSize": f"{(folder / path).stat().st_size} B",
        "encodingFormat": PARQUET,
        "sha256": sha256(folder / path),
    }


def _record_set(path: str, table: pl.DataFrame) -> dict[str, Any]:
    """The record set of one data file: `gold/test` for data/gold/test.parquet."""
    model = MODELS[config_of(path)]
    name = path.removeprefix("data/").removesuffix(".parquet")
    described = model.model_fields
    fields = []
    for column, dtype in table.schema.items():
        field = _field(f"{name}/{column}", column, dtype, path)
        fields.append({**field, "description": described[column].description or ""})
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"One row per {' × '.join(model.key)}; {plural(table.height, 'row')}.",
        "key": [{"@id": f"{name}/{column}"} for column in model.key],
        "field": [{key: value for key, value in field.items() if value != ""} for field in fields],
    }


def _field(identifier: str, column: str, dtype: pl.DataType, path: str, json_path: str = "") -> dict[str, Any]:
    """The field of a column, or with `json_path` of a part of it."""
    field: dict[str, Any] = {"@type": "cr:Field", "@id": identifier, "name": identifier}
    if isinstance(dtype, pl.List):
        inner = cast("pl.DataType", dtype.inner)
        if isinstance(inner, pl.Struct):
            parts = [
                _field(f"{identifier}/{part.name}", column, cast("pl.DataType", part.dtype), path, f"[*].{part.name}")
                for part in inner.fields
            ]
            return {**field, "isArray": True, "arrayShape": "-1", "subField": parts}
        return {**_field(identifier, column, inner, path), "isArray": True, "arrayShape": "-1"}
    source: dict[str, Any] = {"fileObject": {"@id": path}, "extract": {"column": column}}
    if json_path:
        source["transform"] = {"jsonPath": json_path}
    kind = next((name for atomic, name in _ATOMIC if dtype == atomic), "sc:Integer")
    return {**field, "dataType": kind, "source": source}
