"""How a data set was made, step by step, for its card: the counts of the run's manifests, in words for readers who do
not know the pipeline. Counts without such words are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marginalia.pipeline.report.as_text import plural
from marginalia.schemas.manifest_json import Manifest

# stage → (the step, count of its manifest → (singular, plural)); stages that are not here say nothing to a reader
_STEPS: Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]] = {
    "import": (
        "import",
        {
            "rows": ("row read", "rows read"),
            "records": ("record", "records"),
            "answers": ("answer of an annotator", "answers of annotators"),
            "unlabelled": ("record without labels", "records without labels"),
            "partly_labelled": ("record judged on some labels", "records judged on some labels"),
            "duplicates": ("duplicate left out", "duplicates left out"),
            "unusable": ("unusable row left out", "unusable rows left out"),
        },
    ),
    "plan": ("planning", {"planned": ("text planned", "texts planned")}),
    "generate": (
        "writing the texts",
        {
            "accepted": ("text accepted", "texts accepted"),
            "included": ("text included from a file", "texts included from a file"),
            "rejected attempts": ("attempt rejected", "attempts rejected"),
            "open": ("planned text not written", "planned texts not written"),
        },
    ),
    "pull": ("annotation", {"answers": ("answer", "answers"), "discarded": ("of them skipped", "of them skipped")}),
    "reconcile": (
        "combining the answers",
        {
            "final": ("record with settled labels", "records with settled labels"),
            "needs_answers": ("record with too few answers", "records with too few answers"),
            "needs_adjudication": ("record waiting for an expert", "records waiting for an expert"),
            "adjudicated": ("record decided by an expert", "records decided by experts"),
        },
    ),
    "score": ("scoring with the guards", {}),
    "evaluate": ("evaluation of the guards", {"records_judged": ("record used", "records used")}),
}
_SCORED = {"scored by ": "scored by", "failed with ": "not scored by"}


@dataclass(frozen=True)
class ProcessRow:
    """One step. `models`: name → revision, empty where it is not known."""

    step: str
    result: str
    models: Mapping[str, str]


def process_rows(manifests: Sequence[Manifest]) -> list[ProcessRow]:
    """One row per step that says something to a reader, in the order of `manifests`."""
    rows = [_process_row(manifest) for manifest in manifests if manifest.stage in _STEPS]
    return [row for row in rows if row.result]


def _process_row(manifest: Manifest) -> ProcessRow:
    step, words = _STEPS[manifest.stage]
    counts = {**manifest.counts_in, **manifest.counts_out}
    results = [plural(counts[name], *forms) for name, forms in words.items() if counts.get(name)]
    results += [
        f"{plural(n, 'record')} {in_words} {name.removeprefix(prefix)}"
        for name, n in manifest.counts_out.items()
        for prefix, in_words in _SCORED.items()
        if manifest.stage == "score" and name.startswith(prefix) and n
    ]
    if tokens := sum(manifest.tokens.values()):
        results.append(plural(tokens, "token"))
    return ProcessRow(step, ", ".join(results), manifest.models)


def unsettled(status: str, n: int) -> str:
    """Records of gold.parquet with this status, in words: "1 record with too few answers"."""
    return plural(n, *_STEPS["reconcile"][1][status])
