"""Compares two runs: their settings, their metrics, and paired differences over the gold records that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from marginalia.pipeline.compare.compared_run import ComparedRun
from marginalia.pipeline.compare.comparison_model import Comparison, Differing, LabelRow, MetricRow, SharedGold
from marginalia.pipeline.compare.comparison_sentences import side_names
from marginalia.pipeline.compare.equal_recall_costs import equal_recall
from marginalia.pipeline.compare.label_choice import decide
from marginalia.pipeline.core.stage_runner import read_manifest
from marginalia.pipeline.evaluation.answer_format_gate import withheld_reason
from marginalia.pipeline.evaluation.paired_differences import (
    FORECAST,
    TUNED,
    VERDICT,
    PairedDifferences,
    finding,
    measured_on,
    tested_metric,
    with_simultaneous_intervals,
)
from marginalia.pipeline.report.as_text import percent, plural
from marginalia.pipeline.report.decision import precision_target
from marginalia.pipeline.report.report_data import format_warning
from marginalia.schemas.evaluation_json import Metric
from marginalia.scoring.measures.refitted_thresholds import METRICS as AT_OWN_THRESHOLDS

POOLED = (
    "macro_roc_auc",
    "micro_roc_auc",
    "macro_average_precision",
    "micro_average_precision",
    "micro_f1",
    "macro_f1",
    "hamming_loss",
    "subset_accuracy",
)
PER_LABEL = ("roc_auc", "average_precision", "f1")
VERSIONS = ("marginalia", "torch", "transformers")


def compare(a: ComparedRun, b: ComparedRun) -> Comparison:
    """The comparison that `marginalia compare` shows. Differences are b minus a. Nothing is tested if one of the guards
    did not keep its answer format, as in evaluation.json."""
    agreeing = {
        record for record, gold in a.records.items() if record in b.records and gold.agrees_with(b.records[record])
    }
    rows_of_b = b.judged.rows_by_record
    records = [record for record in a.judged.rows_by_record if record in rows_of_b and record in agreeing]
    labels = [label for label in a.table.labels if label in b.table.labels]
    config, seed = a.run.config.evaluate, a.evaluation.seed
    paired = PairedDifferences(a.judged, b.judged, records, config, seed) if records and labels else None
    common = a.records.keys() & b.records.keys()
    shared = SharedGold(
        same=a.fingerprints == b.fingerprints,
        records=len(agreeing),
        only_a=len(a.records) - len(common),
        only_b=len(b.records) - len(common),
        changed=len(common) - len(agreeing),
        judged=paired.records if paired else len(records),
        labels=labels,
    )
    names = {label.id: label.name for side in (b, a) for label in side.run.taxonomy.labels}
    warnings = list(_warnings(a, b, shared))
    return Comparison(
        a=a.summary(),
        b=b.summary(),
        differing=list(_differing_facts(a, b)),
        shared=shared,
        confidence=a.evaluation.confidence,
        metrics=list(_rows(a, b, paired)),
        labels=list(_label_rows(a, b, paired)),
        notes=[*warnings, *_notes(a, b, shared, paired)],
        warnings=len(warnings),
        decision=decide(a, b, paired, names),
        equal_recall=equal_recall(a, b, paired, names),
    )


def _rows(a: ComparedRun, b: ComparedRun, paired: PairedDifferences | None) -> Iterator[MetricRow]:
    verdict = dict.fromkeys([*a.estimator.verdict, *b.estimator.verdict])
    tuned = (f"{TUNED}{name}" for name in AT_OWN_THRESHOLDS)
    names = (*POOLED, *FORECAST, "ece", *tuned, *(f"{VERDICT}{name}" for name in verdict))
    differences = {name: paired.metric(name) if paired else None for name in names}
    withheld = any(withheld_reason(compared.guard.answer_format) is not None for compared in (a, b))
    tested = None if withheld else tested_metric(a.run.config.evaluate.primary, differences)
    if paired and tested and (metric := differences[tested]):
        (differences[tested],) = with_simultaneous_intervals(
            [metric],
            [paired.replicates(tested)],
            [paired.effective_records(tested)],
            a.run.config.evaluate.confidence,
        )
    for name, difference in differences.items():
        yield MetricRow(
            metric=name,
            on=measured_on(name),
            a=_own(a, name),
            b=_own(b, name),
            difference=difference,
            finding=finding(name, difference, tested=name == tested),
            tested=name == tested,
        )


def _own(compared: ComparedRun, name: str) -> Metric | None:
    """The metric in the run's own evaluation.json; None where it is not there."""
    if name in (*FORECAST, "ece"):
        return _calibration(compared, name)
    if name.startswith(TUNED):
        return compared.estimator.tuned.get(name.removeprefix(TUNED))
    if name.startswith(VERDICT):
        return compared.estimator.verdict.get(name.removeprefix(VERDICT))
    return compared.estimator.metrics[name]


def _calibration(compared: ComparedRun, name: str) -> Metric | None:
    raw = compared.estimator.calibration.raw
    return getattr(raw, name) if raw is not None else None


def _label_rows(a: ComparedRun, b: ComparedRun, paired: PairedDifferences | None) -> Iterator[LabelRow]:
    by_label = [{row.label: row.metrics for row in compared.estimator.labels} for compared in (a, b)]
    for label in dict.fromkeys([*by_label[0], *by_label[1]]):
        for name in PER_LABEL:
            first, second = (metrics[label][name] if label in metrics else None for metrics in by_label)
            difference = paired.label(label, name) if paired and label in paired.labels else None
            yield LabelRow(
                label=label,
                metric=name,
                on=measured_on(name),
                a=first,
                b=second,
                difference=difference,
                finding=finding(name, difference, tested=False),
            )


def _differing_facts(a: ComparedRun, b: ComparedRun) -> Iterator[Differing]:
    facts_a, facts_b = _facts(a), _facts(b)
    for name in dict.fromkeys([*facts_a, *facts_b]):
        if facts_a.get(name) != facts_b.get(name):
            yield Differing(what=name, a=facts_a.get(name), b=facts_b.get(name))


def _facts(compared: ComparedRun) -> dict[str, str]:
    """The settings and counts of a run that can differ, by name: guard, gold, taxonomy, config, versions."""
    gold, taxonomy = compared.evaluation.gold, compared.run.taxonomy
    facts: dict[str, Any] = {
        "guard": compared.guard.guard,
        "model": compared.model,
        "estimator": compared.estimator.estimator,
        "labels": ", ".join(taxonomy.ids),
        "taxonomy version": taxonomy.version,
        "gold records": gold.records,
        "gold records, final": gold.final,
        "gold records without a label": gold.safe,
        "gold records of which it is not known if a label applies": gold.not_judged.verdicts if gold.not_judged else 0,
        **{f"split {name}": n for name, n in gold.splits.items()},
        **{f"gold records with {label}": n for label, n in gold.positives.items()},
        **{
            f"gold records in which {label} was judged": gold.judged[label] if gold.judged else gold.final
            for label in gold.positives
        },
        "records judged": compared.estimator.n,
        "records left out": compared.guard.left_out,
    }
    for key, value in _flattened(compared.run.config.model_dump(mode="json")):
        facts[f"config {key}"] = value
    manifest = read_manifest(compared.run, "score")
    if manifest is not None:
        facts |= {f"revision of {name}": revision for name, revision in manifest.models.items()}
        facts |= {f"version of {name}": manifest.versions.get(name) for name in VERSIONS}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


def _flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flattened(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, item in enumerate(value):
            yield from _flattened(item, f"{prefix}[{number}]")
    else:
        yield prefix, value


def _warnings(a: ComparedRun, b: ComparedRun, shared: SharedGold) -> Iterator[str]:
    """What limits every number of the comparison."""
    for compared in {side.run.folder: side for side in (a, b)}.values():
        if compared.evaluation.simulated:
            yield f"{compared.run.name}: the annotators are SIMULATED, so no number is a result about people"
        if compared.stale is not None:
            yield f"{compared.run.name}: its evaluation is out of date: {compared.stale}"
    for name, compared in zip(side_names(a.summary(), b.summary()), (a, b), strict=True):
        if warning := format_warning(compared.guard, closing="; its numbers describe the rest"):
            yield f"{name}: {warning}"
    if not shared.judged:
        yield (
            "no gold record was judged in both runs, so there are no paired differences: metrics may differ only "
            "because the records do"
        )


def _notes(a: ComparedRun, b: ComparedRun, shared: SharedGold, paired: PairedDifferences | None) -> Iterator[str]:
    """What a reader of single numbers must know."""
    if shared.judged and not shared.same:
        yield (
            f"the gold is not the same: differences use the {plural(shared.judged, 'record')} with equal text and "
            "labels that both runs judged; columns a and b use each run's own records"
        )
    if paired and not paired.judged.all():
        cells = f"{int(paired.judged.sum()):,} of {paired.judged.size:,}"
        yield f"differences use the {cells} record × label values that were judged in both runs"
    for name, compared in zip(side_names(a.summary(), b.summary()), (a, b), strict=True):
        if labels := [label for label in compared.table.labels if label not in shared.labels]:
            yield f"only {name} has probabilities of {', '.join(labels)}; differences use the labels that both have"
    first, second = (compared.run.config.evaluate.primary for compared in (a, b))
    if first != second:
        yield f"the runs have different primary metrics, {first} and {second}; that of {a.run.name} is tested"
    targets = [precision_target(compared.estimator) for compared in (a, b)]
    if targets[0] != targets[1]:
        yield f"the runs promise different precision ({', '.join(map(percent, targets))}); that of {a.run.name} is used"
    if a.estimator.threshold != b.estimator.threshold:
        yield f"decisions use different thresholds: {a.estimator.threshold:g} and {b.estimator.threshold:g}"
