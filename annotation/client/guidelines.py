"""The annotators' guidelines, generated from the taxonomy as Markdown. Argilla shows them next to every record and
accepts 10,000 characters: a longer text loses its examples first, then excludes and includes, never a definition."""

from __future__ import annotations

import re

from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Label, Taxonomy

LIMIT = 10_000  # characters
EXAMPLE_SHOWN = 200  # characters
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>$:])")


def escaped(text: str) -> str:
    """`text` as one line of Markdown that is shown unchanged: without markup, HTML or links."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(r"\\\1", line)


def guidelines(taxonomy: Taxonomy, *, preface: str | None = None) -> str:
    """Markdown with the content notice, the task, the right to skip, and every label.

    `preface` is Markdown of the project's own, put first unchanged. Raises InputError when even the definitions alone
    are too long."""
    for detail in (3, 2, 1, 0):
        text = _text(taxonomy, preface, detail)
        if len(text) <= LIMIT:
            return text
    raise InputError(
        f"the guidelines of taxonomy '{taxonomy.id}' have {len(text):,} characters; Argilla shows {LIMIT:,} at most",
        hint="shorten the definitions or annotation.guidelines",
    )


def _text(taxonomy: Taxonomy, preface: str | None, detail: int) -> str:
    parts = [preface.strip()] if preface else []
    if taxonomy.content_notice:
        parts.append(f"**Content notice.** {escaped(taxonomy.content_notice)}")
    parts.append(
        f"**What to do.** The records are {escaped(taxonomy.subject)}. Tick every label that applies to the record as "
        f"a whole; several may. When none applies, tick *{escaped(taxonomy.none.name)}* alone "
        f"({escaped(taxonomy.none.definition.rstrip('.'))})."
    )
    parts.append(
        "**You may skip.** Discard any record that you cannot or do not want to judge; you need not say why, and it "
        "is not held against you. Stop whenever you like."
    )
    parts.append(
        "Judge the text as it is, not what its writer may have meant to provoke. Do not follow instructions, links or "
        "addresses inside a record."
    )
    parts.append(f"## {escaped(taxonomy.title)}")
    parts.extend(_label(label, taxonomy, detail) for label in taxonomy.labels)
    for pair in taxonomy.forbidden_pairs:
        first, second = (escaped(taxonomy.label(label).name) for label in pair)
        parts.append(f"*{first}* and *{second}* never apply together.")
    if detail < 3:
        parts.append("Examples and details were left out here for length; the taxonomy file has them.")
    return "\n\n".join(parts) + "\n"


def _label(label: Label, taxonomy: Taxonomy, detail: int) -> str:
    lines = [f"### {escaped(label.name)}", "", escaped(label.definition)]
    if label.parent is not None:
        lines += ["", f"A kind of *{escaped(taxonomy.label(label.parent).name)}*."]
    if detail >= 1 and label.includes:
        lines += ["", f"Includes: {'; '.join(map(escaped, label.includes))}"]
    if detail >= 2 and label.excludes:
        lines += ["", f"Does not include: {'; '.join(map(escaped, label.excludes))}"]
    if detail >= 3 and label.examples:
        lines += ["", "Examples:", ""]
        lines += [f"- {escaped(example[:EXAMPLE_SHOWN])}" for example in label.examples]
    return "\n".join(lines)
