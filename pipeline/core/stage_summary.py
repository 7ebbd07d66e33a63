"""A stage's outcome as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from marginalia.pipeline.core.stage_runner import StageRun
from marginalia.schemas.manifest_json import Missing
from marginalia.schemas.terminal import wrapped

_PLURALS = {
    *("answers", "attempts", "bytes", "characters", "duplicates", "estimators", "files", "guards", "labels", "levels"),
    *("manifests", "questions", "records", "rows", "slots", "texts", "values"),
}
_IN_WORDS = {  # counts whose names in a manifest say nothing to a reader
    "answers_elsewhere": "answers to other records",
    "control_changed": "random records changed",
    "control_seen": "random records reviewed",
    "guard_changed": "disputed records changed",
    "guard_seen": "disputed records reviewed",
    "torn_bytes": "bytes of an incomplete journal line removed",
}


def describe(done: StageRun) -> str:
    """`plan: 60 planned (0.1 s; not run yet)`, or `plan: up to date (60 planned)`; then the warnings."""
    counts = counted(done.manifest.counts_out)
    status = f"up to date ({counts})" if done.status == "up to date" else f"{counts} ({_spent(done)}; {done.why})"
    return wrapped("\n".join([f"{done.stage}: {status}", *warning_lines(done.manifest.warnings)]))


def data_of(done: StageRun) -> dict[str, Any]:
    """What `--json` of a stage's command prints: its outcome, and what its manifest says about it."""
    kept = ("counts_in", "counts_out", "seconds", "tokens", "cost", "outputs", "facts", "warnings", "missing")
    manifest = done.manifest.model_dump(mode="json")
    return {
        "stage": done.stage,
        "status": done.status,
        "why": done.why or None,
        **{name: manifest[name] for name in kept},
    }


def warning_lines(warnings: Iterable[str]) -> list[str]:
    """One indented entry per warning; the further lines of a warning are indented below its first."""
    return ["  warning: " + warning.replace("\n", "\n    ") for warning in warnings]


def incomplete(missing: Iterable[Missing]) -> str:
    """What is missing and how to continue, two lines per item; empty when nothing is missing."""
    return "\n".join(f"incomplete: {item.what}\n  to continue: {item.how}" for item in missing)


def counted(counts: Mapping[str, int], most: int | None = None) -> str:
    """`3 accepted, 1 rejected attempt`: the counts of a manifest, the first `most` of them, in words."""
    shown = [(name, value) for name, value in counts.items() if value or name != "torn_bytes"]  # 0: nothing happened
    return ", ".join(f"{value:,} {_singular_or_plural(name, value)}" for name, value in shown[:most])


def _singular_or_plural(name: str, value: int) -> str:
    name = _IN_WORDS.get(name, name)
    if name.startswith("needs_"):  # a verb: 1 needs answers, 2 need answers
        return name.replace("needs_", "needs " if value == 1 else "need ", 1)
    words, number = [], value
    for word in name.replace("_", " ").split(" "):
        number = int(word) if word.isdecimal() else number  # a number in the name, such as "with 3 labels"
        words.append(word[:-1] if number == 1 and word in _PLURALS else word)
    return " ".join(words)


def _spent(done: StageRun) -> str:
    spent = f"{done.manifest.seconds:.1f} s"
    if tokens := sum(done.manifest.tokens.values()):
        spent += f", {tokens:,} tokens"
    currency = done.manifest.facts.get("currency") or ""
    return spent if done.manifest.cost is None else f"{spent}, cost {done.manifest.cost:.2f} {currency}".rstrip()
