"""The annotators' guidelines, generated from the taxonomy as Markdown. Argilla shows them next to every record and
accepts 10,000 characters: a longer text loses its examples first, then excludes, includes and the paragraph on keys,
never a definition."""

from __future__ import annotations

import re

from marginalia.annotation.client.annotator_words import words
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Label, Taxonomy

LIMIT = 10_000  # characters
EXAMPLE_SHOWN = 200  # characters
SEARCHED = 15  # options; from this number on Argilla shows a search for them
DEEPEST = 6  # level of a heading in Markdown
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
    for detail in (3, 2, 1, 0, -1):
        text = _text(taxonomy, preface, detail)
        if len(text) <= LIMIT:
            return text
    raise InputError(
        f"the guidelines of taxonomy '{taxonomy.id}' have {len(text):,} characters; Argilla shows {LIMIT:,} at most",
        hint="shorten the definitions or annotation.guidelines",
    )


def _text(taxonomy: Taxonomy, preface: str | None, detail: int) -> str:
    said = words(taxonomy)
    none = {"none": escaped(taxonomy.none.name), "none_definition": escaped(taxonomy.none.definition.rstrip("."))}
    parts = [preface.strip()] if preface else []
    if taxonomy.content_notice:
        parts.append(f"**{said.content_notice}** {escaped(taxonomy.content_notice)}")
    parts.append(said.task.format(subject=escaped(taxonomy.subject), **none))
    parts += [said.skip, said.judge]
    options = len(taxonomy.labels) + 1
    if options > 9 and detail >= 0:
        keys = said.keys.format(first="1".zfill(len(str(options))))
        parts.append(f"{keys} {said.search}" if options >= SEARCHED else keys)
    parts.append(f"## {escaped(taxonomy.title)}")
    parts.extend(_label(label, depth, taxonomy, detail) for label, depth in taxonomy.listed)
    for pair in taxonomy.forbidden_pairs:
        first, second = (escaped(taxonomy.label(label).name) for label in pair)
        parts.append(said.never_together.format(first=first, second=second))
    if detail < 3:
        parts.append(said.left_out)
    return "\n\n".join(parts) + "\n"


def _label(label: Label, depth: int, taxonomy: Taxonomy, detail: int) -> str:
    said = words(taxonomy)
    heading = "#" * min(3 + depth, DEEPEST)  # under that of its parent
    lines = [f"{heading} {escaped(label.name)}", "", escaped(label.definition)]
    if label.parent is not None:
        lines += ["", said.kind_of.format(parent=escaped(taxonomy.label(label.parent).name))]
    if detail >= 1 and label.includes:
        lines += ["", f"{said.includes} {'; '.join(map(escaped, label.includes))}"]
    if detail >= 2 and label.excludes:
        lines += ["", f"{said.excludes} {'; '.join(map(escaped, label.excludes))}"]
    if detail >= 3 and label.examples:
        lines += ["", said.examples, ""]
        lines += [f"- {escaped(example[:EXAMPLE_SHOWN])}" for example in label.examples]
    return "\n".join(lines)
