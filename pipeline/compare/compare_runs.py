"""Two runs side by side: what differs, their metrics, and paired differences over the gold that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from marginalia.pipeline.compare.compared_run import ComparedRun
from marginalia.pipeline.compare.comparison_model import Comparison, Differing, LabelRow, MetricRow, SharedGold
from marginalia.pipeline.core.stage_runner import read_manifest
from marginalia.pipeline.evaluation.paired_differences import (
    FORECAST,
    TUNED,
    VERDICT,
    Paired,
    finding,
    hold_at_once,
    split_of,
    tested_metric,
)
from marginalia.schemas.evaluation_json import Metric

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
OWN_THRESHOLDS = ("micro_f1", "macro_f1", "hamming_loss")
PER_LABEL = ("roc_auc", "average_precision", "f1")
VERSIONS = ("marginalia", "torch", "transformers")


def compare(a: ComparedRun, b: ComparedRun) -> Comparison:
    """Everything that the command shows. Differences are b less a."""
    shared, records = _shared(a, b)
    config, seed = a.run.config.evaluate, a.evaluation.seed
    paired = Paired(a.judged, b.judged, records, config, seed) if records and shared.labels else None
    return Comparison(
        a=a.summary(),
        b=b.summary(),
        differing=list(_differing(a, b)),
        shared=shared,
        confidence=a.evaluation.confidence,
        metrics=list(_rows(a, b, paired)),
        labels=list(_label_rows(a, b, paired)),
        notes=list(_notes(a, b, shared)),
    )


def _shared(a: ComparedRun, b: ComparedRun) -> tuple[SharedGold, list[str]]:
    """The gold that both have, and the records that both judged, in the order of a."""
    ours, theirs = a.fingerprints, b.fingerprints
    both = ours.keys() & theirs.keys()
    equal = {record for record in both if ours[record] == theirs[record]}
    judged_b = b.judged.places
    records = [record for record in a.judged.places if record in judged_b and record in equal]
    shared = SharedGold(
        same=ours == theirs,
        records=len(equal),
        only_a=len(ours) - len(both),
        only_b=len(theirs) - len(both),
        changed=len(both) - len(equal),
        judged=len(records),
        labels=[label for label in a.table.labels if label in b.table.labels],
    )
    return shared, records


def _rows(a: ComparedRun, b: ComparedRun, paired: Paired | None) -> Iterator[MetricRow]:
    verdict = dict.fromkeys([*a.estimator.verdict, *b.estimator.verdict])
    tuned = (f"{TUNED}{name}" for name in OWN_THRESHOLDS)
    names = (*POOLED, *FORECAST, "ece", *tuned, *(f"{VERDICT}{name}" for name in verdict))
    found = {name: paired.metric(name) if paired else None for name in names}
    tested = tested_metric(a.run.config.evaluate.primary, found)
    if paired and tested and (metric := found[tested]):
        replicates, size = paired.replicates(tested), paired.size(tested)
        (found[tested],) = hold_at_once([metric], [replicates], [size], a.run.config.evaluate.confidence)
    for name, difference in found.items():
        yield MetricRow(
            metric=name,
            on=split_of(name),
            a=_own(a, name),
            b=_own(b, name),
            difference=difference,
            finding=finding(name, difference, tested=name == tested),
            tested=name == tested,
        )


def _own(side: ComparedRun, name: str) -> Metric | None:
    """The metric in the run's own evaluation."""
    if name in (*FORECAST, "ece"):
        return _calibration(side, name)
    if name.startswith(TUNED):
        return side.estimator.tuned.get(name.removeprefix(TUNED))
    if name.startswith(VERDICT):
        return side.estimator.verdict.get(name.removeprefix(VERDICT))
    return side.estimator.metrics[name]


def _calibration(side: ComparedRun, name: str) -> Metric | None:
    raw = side.estimator.calibration.raw
    return getattr(raw, name) if raw is not None else None


def _label_rows(a: ComparedRun, b: ComparedRun, paired: Paired | None) -> Iterator[LabelRow]:
    pages = [{page.label: page.metrics for page in side.estimator.labels} for side in (a, b)]
    for label in dict.fromkeys([*pages[0], *pages[1]]):
        for name in PER_LABEL:
            first, second = (page[label][name] if label in page else None for page in pages)
            found = paired.label(label, name) if paired and label in paired.labels else None
            yield LabelRow(
                label=label,
                metric=name,
                on=split_of(name),
                a=first,
                b=second,
                difference=found,
                finding=finding(name, found, tested=False),
            )


def _differing(a: ComparedRun, b: ComparedRun) -> Iterator[Differing]:
    first, second = _facts(a), _facts(b)
    for what in dict.fromkeys([*first, *second]):
        if first.get(what) != second.get(what):
            yield Differing(what=what, a=first.get(what), b=second.get(what))


def _facts(side: ComparedRun) -> dict[str, str]:
    """Everything that may make two runs differ, by name: guard, gold, taxonomy, config, versions."""
    gold, taxonomy = side.evaluation.gold, side.run.taxonomy
    facts: dict[str, Any] = {
        "guard": side.page.guard,
        "model": side.model,
        "estimator": side.estimator.estimator,
        "labels": ", ".join(taxonomy.ids),
        "taxonomy version": taxonomy.version,
        "gold records": gold.records,
        "gold records, final": gold.final,
        "gold records without a label": gold.safe,
        **{f"split {name}": n for name, n in gold.splits.items()},
        **{f"gold records with {label}": n for label, n in gold.positives.items()},
        "records judged": side.estimator.n,
        "records left out": side.page.left_out,
    }
    for key, value in _flat(side.run.config.model_dump(mode="json")):
        facts[f"config {key}"] = value
    made = read_manifest(side.run, "score")
    if made is not None:
        facts |= {f"revision of {name}": revision for name, revision in made.models.items()}
        facts |= {f"version of {name}": made.versions.get(name) for name in VERSIONS}
    return {what: value if isinstance(value, str) else json.dumps(value) for what, value in facts.items()}


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, item in enumerate(value):
            yield from _flat(item, f"{prefix}[{number}]")
    else:
        yield prefix, value


def _notes(a: ComparedRun, b: ComparedRun, shared: SharedGold) -> Iterator[str]:
    for side in (a, b):
        if side.evaluation.simulated:
            yield f"{side.run.name}: SIMULATED annotators; no number is a result about people"
        if side.stale is not None:
            yield f"{side.run.name}: its evaluation is not of the run as it is now: {side.stale}"
    if not shared.judged:
        yield "no gold record is judged in both, so nothing is paired: differences may come of the records"
    elif not shared.same:
        yield (
            f"the gold is not the same: differences are over {shared.judged} records judged in both, of the same "
            f"text and labels; the columns of each run are over its own records"
        )
    only = {side.run.name: [one for one in side.table.labels if one not in shared.labels] for side in (a, b)}
    for name, labels in only.items():
        if labels:
            yield f"only {name} scores {', '.join(labels)}; differences are over the labels that both score"
    first, second = (side.run.config.evaluate.primary for side in (a, b))
    if first != second:
        yield f"the runs name different primary metrics, {first} and {second}; that of {a.run.name} is tested"
    if a.estimator.threshold != b.estimator.threshold:
        yield f"decisions are at different thresholds: {a.estimator.threshold:g} and {b.estimator.threshold:g}"
