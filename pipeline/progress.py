"""What the terminal says of a stage."""

from __future__ import annotations

from pipeline.stage import Done


def describe(done: Done) -> str:
    """`plan: 60 planned (0.1 s; not run yet)`, or `plan: up to date (60 planned)`."""
    counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in done.manifest.counts_out.items())
    if done.status == "up to date":
        return f"{done.stage}: up to date ({counts})"
    return f"{done.stage}: {counts} ({_spent(done)}; {done.why})"


def _spent(done: Done) -> str:
    spent = f"{done.manifest.seconds:.1f} s"
    if tokens := sum(done.manifest.tokens.values()):
        spent += f", {tokens:,} tokens"
    currency = done.manifest.facts.get("currency") or ""
    return spent if done.manifest.cost is None else f"{spent}, cost {done.manifest.cost:.2f} {currency}".rstrip()
