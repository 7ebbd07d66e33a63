"""The data set card, README.md of a release: metadata that the Hub and `datasets` read, then a datasheet (Gebru et al.,
*Datasheets for Datasets*, 2021) filled from the run's files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from marginalia.pipeline.annotating.suspect_labels import ChangeRate
from marginalia.pipeline.config.release import ReleaseSection
from marginalia.pipeline.core.imported_files import is_answers_imported
from marginalia.pipeline.core.stage_summary import counted
from marginalia.pipeline.release.card_charts import Chart
from marginalia.pipeline.release.card_process import process_rows, unsettled
from marginalia.pipeline.release.card_results import result_rows
from marginalia.pipeline.release.card_sentences import (
    USES,
    DataOrigin,
    agreement_sentence,
    interval,
    labelled_by,
    limits,
)
from marginalia.pipeline.release.card_sources import RecordSources
from marginalia.pipeline.release.label_counts import label_counts
from marginalia.pipeline.release.markdown_escaping import bibtex, code, fenced, inline, link, paragraphs
from marginalia.pipeline.release.owner_statements import owner_statements
from marginalia.pipeline.release.release_tables import SPLITS, config_of, data_files
from marginalia.pipeline.release.release_versions import ReleaseHistory, gold_of
from marginalia.pipeline.report.as_text import plural
from marginalia.pipeline.report.gold_findings import anchoring_finding
from marginalia.pipeline.report.report_data import currency_of
from marginalia.schemas.agreement_json import Agreement, Estimate
from marginalia.schemas.equal_texts import equal_texts
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.taxonomy import Taxonomy

TEMPLATE = Path(__file__).parent / "card.md.j2"
# files whose words the card may contain: an annotator's log-in can be one of them
OWN_TEXTS = (
    TEMPLATE,
    *(TEMPLATE.with_name(f"{name}.py") for name in ("card_sentences", "card_process", "owner_statements")),
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class CardFacts:
    """The facts that the card shows.

    `tables`: path in the release → table. `manifests`: of the stages that ran, in stage order. `unsettled`: status →
    records of gold.parquet that the release leaves out. `sources`: where the released records come from.
    `audited_partly`: records chosen for the audit in which gold judged only some labels."""

    run: str
    taxonomy: Taxonomy
    tables: Mapping[str, pl.DataFrame]
    history: ReleaseHistory
    manifests: Sequence[Manifest]
    unsettled: Mapping[str, int]
    sources: RecordSources
    languages: Sequence[str]
    agreement: Agreement | None = None
    evaluation: Evaluation | None = None
    charts: Sequence[Chart] = ()
    documents: Sequence[str] = ()
    audit: Sequence[ChangeRate] = ()
    audited_partly: int = 0
    gold_errors: Estimate | None = None


def card(section: ReleaseSection, facts: CardFacts) -> str:
    """The text of README.md."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters.update(
        inline=inline,
        code=code,
        link=link,
        fenced=fenced,
        counted=_counted,
        plural=plural,
        thousands="{:,}".format,
        prose=lambda text: _prose(text, facts.evaluation),
        revisions=_revisions,
        interval=interval,
    )
    origin_of_data = origin(facts)
    anchoring = facts.agreement.anchoring if facts.agreement is not None else None
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        section=section,
        facts=facts,
        taxonomy=facts.taxonomy,
        title=title(section, facts),
        counts=label_counts(gold_of(facts.tables), facts.taxonomy),
        answers_judged=any(
            "judged" in facts.tables[path].columns for path in facts.tables if config_of(path) == "annotations"
        ),
        origin=origin_of_data,
        labelled_by=labelled_by(origin_of_data),
        agreement=agreement_sentence(facts.agreement) if facts.agreement is not None else "",
        anchored=anchoring_finding(anchoring.difference).sentence if anchoring is not None else "",
        limits=limits(origin_of_data, facts.agreement, facts.evaluation),
        uses=USES,
        statements=owner_statements(section, simulated=facts.history.simulated),
        process=process_rows(facts.manifests),
        unsettled=[unsettled(status, n) for status, n in facts.unsettled.items()],
        first_split=next(split for split in SPLITS[::-1] if _height(facts, f"data/gold/{split}.parquet")),
        splits={split: _height(facts, f"data/gold/{split}.parquet") for split in SPLITS},
        configs=_config_rows(facts),
        levels=facts.agreement.severity.levels if facts.agreement and facts.agreement.severity else [],
        cost=_cost(facts.manifests),
        currency=currency_of(facts.manifests) or "the currency of the run's config",
        equal=equal_texts(gold_of(facts.tables)),
        results=result_rows(facts.evaluation) if facts.evaluation is not None else [],
        citation=citation(section, facts),
        simulated=facts.history.simulated,
    )
    front_matter = yaml.safe_dump(metadata(section, facts), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front_matter}---\n\n{text}"


def metadata(section: ReleaseSection, facts: CardFacts) -> dict[str, Any]:
    """The YAML block of the card, as https://huggingface.co/docs/hub/datasets-cards describes it."""
    records = gold_of(facts.tables).height
    fields: dict[str, Any] = {
        "pretty_name": title(section, facts),
        "language": list(facts.languages),
        "license": section.license,
        "license_link": section.license_link,
        "task_categories": ["text-classification"],
        "task_ids": ["multi-label-classification"],
        "annotations_creators": [_annotations_creator(facts)],
        "size_categories": [next((name for limit, name in SIZES if records < limit), "n>1M")],
        "tags": ["marginalia", *(["simulated-annotators"] if facts.history.simulated else []), *section.tags],
        "configs": data_files(list(facts.tables)),
    }
    if section.gated != "open":
        fields["extra_gated_heading"] = "Access to this data set is granted on request"
        fields["extra_gated_prompt"] = paragraphs(gate_text(section, facts.taxonomy))  # the Hub shows it as Markdown
        fields["extra_gated_fields"] = {
            "Affiliation": "text",
            "What I will use it for": "text",
            "I will not use it to cause the harms it describes, nor try to identify annotators": "checkbox",
        }
    return {key: value for key, value in fields.items() if value is not None}


def gate_text(section: ReleaseSection, taxonomy: Taxonomy) -> str:
    """The terms that users accept before they get access."""
    return section.gate_text or " ".join(
        [
            *([taxonomy.content_notice.strip()] if taxonomy.content_notice else []),
            "The data set is for testing and calibrating classifiers. Do not republish it where others can get it "
            "without agreeing to these terms, and do not try to find out who the annotators are.",
        ]
    )


def origin(facts: CardFacts) -> DataOrigin:
    """What the sentences about texts and labels need to know."""
    counts = label_counts(gold_of(facts.tables), facts.taxonomy)
    rarest = min((row for row in counts.rows if row.id), key=lambda row: row.records)
    return DataOrigin(
        simulated=facts.history.simulated,
        answered="annotations" in _config_rows(facts),
        scored="scores" in _config_rows(facts),
        imported=is_answers_imported(facts.manifests),
        records=gold_of(facts.tables).height,
        partly=counts.partly,
        rarest=(rarest.name, rarest.records),
        languages=facts.languages,
        models=list(facts.sources.written),
        files=list(facts.sources.taken),
    )


def title(section: ReleaseSection, facts: CardFacts) -> str:
    """The title of the data set, from the config or else from the taxonomy and the run; marks simulated annotators."""
    simulated = " (simulated annotators)" if facts.history.simulated else ""
    return (section.title or f"{facts.taxonomy.title}: gold set of {facts.run}") + simulated


def _annotations_creator(facts: CardFacts) -> str:
    """One of the Hub's words: `found` for labels that were imported, because nothing is known about who gave them."""
    if facts.history.simulated:
        return "machine-generated"
    source = origin(facts)
    return "expert-generated" if source.answered and not source.imported else "found"


def _counted(counts: Mapping[str, int]) -> str:
    return inline(counted(counts))


def _prose(text: str, evaluation: Evaluation | None) -> str:
    """`text` as by `inline`, with names of estimators as code, so that they are not taken for words."""
    guards = evaluation.guards if evaluation is not None else []
    names = {estimator.estimator for guard in guards for estimator in guard.estimators if "_" in estimator.estimator}
    escaped = {inline(name): code(name) for name in sorted(names, key=len, reverse=True)}
    pattern = "|".join(map(re.escape, escaped))
    return re.sub(pattern, lambda match: escaped[match[0]], inline(text)) if pattern else inline(text)


def _revisions(models: Mapping[str, str]) -> str:
    return ", ".join(
        " ".join([inline(name), *([code(revision)] if revision else [])]) for name, revision in models.items()
    )


def _config_rows(facts: CardFacts) -> dict[str, int]:
    rows: dict[str, int] = {}
    for path, table in facts.tables.items():
        rows[config_of(path)] = rows.get(config_of(path), 0) + table.height
    return rows


def _height(facts: CardFacts, path: str) -> int:
    return facts.tables[path].height if path in facts.tables else 0


def _cost(manifests: Sequence[Manifest]) -> float | None:
    costs = [manifest.cost for manifest in manifests if manifest.cost is not None]
    return sum(costs) if costs else None


def citation(section: ReleaseSection, facts: CardFacts) -> str:
    """BibTeX, from the config or else from title, authors, date and repository."""
    if section.citation:
        return section.citation
    lines = [f"  title = {{{bibtex(title(section, facts))}}}", f"  version = {{{facts.history.latest.version}}}"]
    if section.authors:
        lines.insert(0, f"  author = {{{' and '.join(map(_author, section.authors))}}}")
    if section.repo_id:
        lines.append(f"  url = {{https://huggingface.co/datasets/{section.repo_id}}}")
    if section.date:
        lines.append(f"  year = {{{section.date.year}}}")
    key = "".join(letter for letter in facts.run if letter.isalnum()) or "dataset"
    return "\n".join([f"@misc{{{key},", ",\n".join(lines), "}"])


def _author(name: str) -> str:
    """The name for BibTeX, which divides names at the word "and" unless they are in braces."""
    escaped = bibtex(name)
    return f"{{{escaped}}}" if " and " in escaped else escaped
