"""What annotators see: the fields and questions of an Argilla dataset, built from the taxonomy."""

from __future__ import annotations

from typing import Any

from marginalia.annotation.client.annotator_words import words
from marginalia.annotation.client.guidelines import guidelines
from marginalia.annotation.config import AnnotationSection
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import one_line

RECORD, VOTES = "record", "votes"  # names of fields
LABELS, UNSURE, NOTE = "labels", "unsure", "note"  # names of questions
SEVERITY = "severity-"  # with a label's id: the name of the question how severe the label is
NONE = "none"  # the option that no category applies; a reserved id, so never a label's
MOST_LABELS = 500  # with `none`: the default of the server's ARGILLA_LABEL_SELECTION_OPTIONS_MAX_ITEMS


def label_options(taxonomy: Taxonomy) -> dict[str, str]:
    """The options of the label question: id → name, a label after its parent, `none` last. Raises InputError for more
    labels than Argilla allows."""
    if len(taxonomy.labels) + 1 > MOST_LABELS:
        raise InputError(
            f"taxonomy '{taxonomy.id}' has {len(taxonomy.labels)} labels; Argilla allows {MOST_LABELS - 1}"
        )
    return {**{label.id: one_line(label.name) for label, _ in taxonomy.listed}, NONE: one_line(taxonomy.none.name)}


def severity_question(label: str) -> str:
    """The name of the question how severe the label with this id is."""
    return f"{SEVERITY}{label}"


def dataset_settings(taxonomy: Taxonomy, section: AnnotationSection, *, adjudication: bool = False) -> Any:
    """The SDK's `Settings`; call this inside `Connection.sdk`. The record is a chat; the questions are one required
    multi-label question and, optionally, how severe each label is, an unsure mark and a note.

    Texts are shown unchanged (`use_markdown=False`), because records are untrusted. An adjudication also shows the
    votes, as counts, and needs one answer per record."""
    import argilla as rg

    fields: list[Any] = [rg.ChatField(name=RECORD, title="Record", use_markdown=False)]
    if adjudication:
        fields.append(rg.TextField(name=VOTES, title="How annotators voted", use_markdown=False, required=False))
    labels = label_options(taxonomy)
    said = words(taxonomy)
    questions: list[Any] = [
        rg.MultiLabelQuestion(
            name=LABELS,
            title=said.which,
            description=said.which_help,
            labels=labels,
            visible_labels=len(labels) if len(labels) >= 3 else None,
            required=True,
        )
    ]
    levels = {str(level): name for level, name in enumerate(section.severity, start=1)}
    for label, _ in taxonomy.listed if levels else []:
        title = said.how_severe.format(label=one_line(label.name))
        questions.append(rg.LabelQuestion(name=severity_question(label.id), title=title, labels=levels, required=False))
    if section.unsure:
        options = {"sure": said.sure, "unsure": said.unsure}
        questions.append(rg.LabelQuestion(name=UNSURE, title=said.is_sure, labels=options, required=False))
    if section.note:
        questions.append(rg.TextQuestion(name=NOTE, title=said.note, required=False, use_markdown=False))
    needed = 1 if adjudication else section.annotators
    return rg.Settings(
        guidelines=guidelines(taxonomy, preface=section.guidelines),
        fields=fields,
        questions=questions,
        distribution=rg.TaskDistribution(min_submitted=needed),
        allow_extra_metadata=False,
    )
