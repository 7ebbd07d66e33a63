"""What annotators see: an Argilla dataset's fields and questions, made from the taxonomy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotation.client.guidelines import guidelines
from annotation.config import AnnotationSection
from schemas.errors import InputError
from schemas.taxonomy import Taxonomy

RECORD, VOTES = "record", "votes"  # fields
LABELS, UNSURE, NOTE = "labels", "unsure", "note"  # questions
SEVERITY = "severity-"  # and a label's id: the question how severe it is
NONE = "none"  # the option that no category applies; a reserved id, so never a label's
MOST_LABELS = 500  # ARGILLA_LABEL_SELECTION_OPTIONS_MAX_ITEMS of a server as it comes


def offered(taxonomy: Taxonomy) -> dict[str, str]:
    """The answers to the label question: id → name, `none` last."""
    if len(taxonomy.labels) + 1 > MOST_LABELS:
        raise InputError(f"taxonomy '{taxonomy.id}' has {len(taxonomy.labels)} labels; Argilla takes {MOST_LABELS - 1}")
    return {**{label.id: label.name for label in taxonomy.labels}, NONE: taxonomy.none.name}


def severity_question(label: str) -> str:
    """The name of the question how severe the label with this id is."""
    return f"{SEVERITY}{label}"


def dataset_settings(taxonomy: Taxonomy, section: AnnotationSection, *, adjudication: bool = False) -> dict[str, Any]:
    """`head`, `fields` and `questions` as Argilla's API takes them: the record as a chat, one required multi-label
    question, how severe each label is, an unsure mark, a note.

    Every text is shown as it is (`use_markdown`: false): records are untrusted. An adjudication shows the votes, too,
    as counts, and needs one answer a record."""
    fields = [_part(RECORD, "Record", {"type": "chat", "use_markdown": False}, required=True)]
    if adjudication:
        fields.append(_part(VOTES, "How annotators voted", {"type": "text", "use_markdown": False}))
    head = {
        "guidelines": guidelines(taxonomy, preface=section.guidelines),
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1 if adjudication else section.annotators},
    }
    return {"head": head, "fields": fields, "questions": list(_questions(taxonomy, section))}


def _questions(taxonomy: Taxonomy, section: AnnotationSection) -> Iterator[dict[str, Any]]:
    labels = offered(taxonomy)
    shown = len(labels) if len(labels) >= 3 else None  # Argilla refuses fewer
    ticks = {"type": "multi_label_selection", "options": _options(labels), "visible_options": shown}
    yield {
        **_part(LABELS, "Which labels apply?", {**ticks, "options_order": "natural"}, required=True),
        "description": "Tick all that apply. The guidelines define every label; you may discard any record.",
    }
    levels = {str(level): name for level, name in enumerate(section.severity, start=1)}
    for label in taxonomy.labels if levels else []:
        yield _one_of(severity_question(label.id), f"If you ticked “{label.name}”: how severe is it?", levels)
    if section.unsure:
        yield _one_of(UNSURE, "Are you sure?", {"sure": "Sure", "unsure": "Unsure"})
    if section.note:
        yield _part(NOTE, "Anything to note?", {"type": "text", "use_markdown": False})


def _one_of(name: str, title: str, answers: dict[str, str]) -> dict[str, Any]:
    return _part(name, title, {"type": "label_selection", "options": _options(answers), "visible_options": None})


def _options(answers: dict[str, str]) -> list[dict[str, str]]:
    return [{"value": value, "text": text} for value, text in answers.items()]


def _part(name: str, title: str, settings: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "title": title, "required": required, "settings": settings}
