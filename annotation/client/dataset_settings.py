"""What annotators see: an Argilla dataset's fields and questions, made from the taxonomy."""

from __future__ import annotations

from typing import Any

from marginalia.annotation.client.guidelines import guidelines
from marginalia.annotation.config import AnnotationSection
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy

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


def dataset_settings(taxonomy: Taxonomy, section: AnnotationSection, *, adjudication: bool = False) -> Any:
    """The SDK's `Settings`, made inside `Connection.sdk`: the record as a chat, one required multi-label question, how
    severe each label is, an unsure mark, a note.

    Every text is shown as it is (`use_markdown=False`): records are untrusted. An adjudication shows the votes, too,
    as counts, and needs one answer a record."""
    import argilla as rg

    fields: list[Any] = [rg.ChatField(name=RECORD, title="Record", use_markdown=False)]
    if adjudication:
        fields.append(rg.TextField(name=VOTES, title="How annotators voted", use_markdown=False, required=False))
    labels = offered(taxonomy)
    questions: list[Any] = [
        rg.MultiLabelQuestion(
            name=LABELS,
            title="Which labels apply?",
            description="Tick all that apply. The guidelines define every label; you may discard any record.",
            labels=labels,
            visible_labels=len(labels) if len(labels) >= 3 else None,
            required=True,
        )
    ]
    levels = {str(level): name for level, name in enumerate(section.severity, start=1)}
    for label in taxonomy.labels if levels else []:
        title = f"If you ticked “{label.name}”: how severe is it?"
        questions.append(rg.LabelQuestion(name=severity_question(label.id), title=title, labels=levels, required=False))
    if section.unsure:
        answers = {"sure": "Sure", "unsure": "Unsure"}
        questions.append(rg.LabelQuestion(name=UNSURE, title="Are you sure?", labels=answers, required=False))
    if section.note:
        questions.append(rg.TextQuestion(name=NOTE, title="Anything to note?", required=False, use_markdown=False))
    needed = 1 if adjudication else section.annotators
    return rg.Settings(
        guidelines=guidelines(taxonomy, preface=section.guidelines),
        fields=fields,
        questions=questions,
        distribution=rg.TaskDistribution(min_submitted=needed),
        allow_extra_metadata=False,
    )
