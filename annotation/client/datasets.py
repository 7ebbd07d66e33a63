"""Workspaces and datasets on the server: created if missing, and checked against the taxonomy before a push."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.dataset_settings import (
    LABELS,
    NOTE,
    UNSURE,
    dataset_settings,
    label_options,
    severity_question,
)
from marginalia.annotation.client.guidelines import guidelines
from marginalia.annotation.client.server_replies import (
    Created,
    DatasetInfo,
    Items,
    Me,
    Question,
    Total,
    User,
    Workspace,
    checked,
    get,
)
from marginalia.annotation.config import AnnotationSection
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.taxonomy import Taxonomy
from marginalia.schemas.text_checks import one_line

NEW_DATASET = "or set annotation.dataset to a new name to start annotation again"


@dataclass(frozen=True)
class Dataset:
    """A published Argilla dataset. `questions`: ids by name."""

    id: str
    name: str
    questions: dict[str, str]


def find_workspace(connection: Connection, name: str, *, make: bool) -> str:
    """The workspace's id; with `make`, an owner creates a missing one. Raises ServiceError when there is none."""
    for workspace in get(connection, Items[Workspace], "/me/workspaces").items:
        if workspace.name == name:
            return workspace.id
    if not make or connection.role != "owner":
        raise ServiceError(
            f"Argilla at {connection.url}: no workspace '{name}' for {connection.username} ({connection.role})",
            hint="check annotation.workspace, or use an owner's API key",
        )
    created = connection.post("/workspaces", {"name": name}, done=(409,))
    if created is None:
        return find_workspace(connection, name, make=False)
    return checked(connection, "POST /workspaces", created, Created).id


def add_members(connection: Connection, workspace_id: str, usernames: Sequence[str]) -> None:
    """Adds existing users to the workspace. Raises ServiceError, with their names, when some have no account."""
    if not usernames:
        return
    members = {user.username for user in get(connection, Items[User], f"/workspaces/{workspace_id}/users").items}
    new = [name for name in dict.fromkeys(usernames) if name not in members]
    if not new:
        return
    users = {user.username: user.id for user in get(connection, Items[User], "/users").items}
    unknown = [name for name in new if name not in users]
    if unknown:
        raise ServiceError(
            f"Argilla at {connection.url} has no user {', '.join(unknown)}",
            hint="create the accounts in Argilla, or correct annotation.team and annotation.experts",
        )
    for name in new:
        connection.post(f"/workspaces/{workspace_id}/users", {"user_id": users[name]}, done=(409,))


def missing_on_server(connection: Connection, dataset_id: str, records: int) -> str | None:
    """Why a push is needed: the dataset, or some of the `records` that it had after the last one, are not on the server
    any more. None when it has them. It is a matter of their number, so it costs two small requests."""
    if dataset_id not in {item.id for item in get(connection, Items[DatasetInfo], "/me/datasets").items}:
        return "the dataset is not on the server any more"
    found = get(connection, Total, f"/datasets/{dataset_id}/progress").total
    return f"{found:,} of {records:,} records are on the server" if found < records else None


def ensure_dataset(
    connection: Connection,
    workspace: str,
    name: str,
    taxonomy: Taxonomy,
    section: AnnotationSection,
    *,
    adjudication: bool = False,
) -> Dataset:
    """The dataset of that name with the taxonomy's settings, created if it is missing. `adjudication`: for experts.

    Raises InputError when it exists with other labels or optional questions: Argilla cannot change them, and answers to
    other labels mean something else."""
    workspace_id = find_workspace(connection, workspace, make=True)
    existing = _find(connection, workspace_id, name)
    if existing is not None and existing.status == "draft":  # from a push that was killed while it created the dataset
        connection.delete(f"/datasets/{existing.id}")
        existing = None
    if existing is None:
        get(connection, Me, "/me")  # Argilla's SDK is given this reply
        with connection.sdk():
            settings = dataset_settings(taxonomy, section, adjudication=adjudication).serialize()
        _create(connection, workspace_id, name, settings)
        existing = _find(connection, workspace_id, name)
        if existing is None or existing.status == "draft":
            raise ServiceError(
                f"Argilla at {connection.url} accepted the dataset '{name}' but does not list it",
                hint="run the command again",
            )
    questions = get(connection, Items[Question], f"/datasets/{existing.id}/questions").items
    _check_labels(name, questions, taxonomy)
    _check_optional(name, questions, taxonomy, section)
    _update(connection, existing, taxonomy, section, adjudication)
    return Dataset(existing.id, name, {question.name: question.id for question in questions})


def _create(connection: Connection, workspace_id: str, name: str, settings: dict[str, Any]) -> None:
    """Creates a draft, adds its fields and questions, and publishes it. Each call may be a repetition of one whose
    response was lost: `done` are the statuses that then mean success."""
    head = {part: settings[part] for part in ("guidelines", "allow_extra_metadata", "distribution")}
    head |= {"name": name, "workspace_id": workspace_id}
    reply = connection.post("/datasets", head, done=(409,))
    created: Created | DatasetInfo | None
    if reply is None:
        created = _find(connection, workspace_id, name)
    else:
        created = checked(connection, "POST /datasets", reply, Created)
    if created is None:
        return  # the caller checks that the dataset exists
    for collection in ("fields", "questions"):
        for part in settings[collection]:
            body = {name: value for name, value in part.items() if value is not None}
            connection.post(f"/datasets/{created.id}/{collection}", body, done=(409,))
    connection.put(f"/datasets/{created.id}/publish", None, done=(422,))


def _find(connection: Connection, workspace_id: str, name: str) -> DatasetInfo | None:
    datasets = get(connection, Items[DatasetInfo], "/me/datasets", workspace_id=workspace_id).items
    return next((dataset for dataset in datasets if dataset.name == name), None)


def _check_labels(name: str, questions: Sequence[Question], taxonomy: Taxonomy) -> None:
    """Raises InputError when the dataset's labels differ from the taxonomy's."""
    question = next((question for question in questions if question.name == LABELS), None)
    if question is None:
        raise InputError(
            f"the Argilla dataset '{name}' was not created by Marginalia: it has no question '{LABELS}'",
            hint="set annotation.dataset to another name",
        )
    on_server = {str(option.value): one_line(option.text or "") for option in question.settings.options}
    current = label_options(taxonomy)
    if on_server == current:
        return
    changes = [f"{label} was added" for label in current if label not in on_server]
    changes += [f"{label} was removed" for label in on_server if label not in current]
    changes += [
        f"{label} was renamed from '{on_server[label]}' to '{current[label]}'"
        for label in current
        if label in on_server and on_server[label] != current[label]
    ]
    raise InputError(
        f"the taxonomy '{taxonomy.id}' changed after the records were pushed to '{name}': {'; '.join(changes)}. "
        "Existing answers are to the old labels",
        hint=f"restore the old labels, {NEW_DATASET}",
    )


def _check_optional(name: str, questions: Sequence[Question], taxonomy: Taxonomy, section: AnnotationSection) -> None:
    """Raises InputError when the dataset's optional questions differ from the config's: Argilla cannot change them."""
    on_server = {question.name: question.settings.options for question in questions}
    levels = [str(level) for level in range(1, len(section.severity) + 1)]
    options = list(zip(levels, section.severity, strict=True))
    configured: list[tuple[str, str, bool]] = [  # config key, question, whether it is asked
        ("note", NOTE, section.note),
        ("unsure", UNSURE, section.unsure),
        *(("severity", severity_question(label), bool(section.severity)) for label in taxonomy.ids),
    ]
    for key, question, is_asked in configured:
        same = is_asked == (question in on_server)
        if same and is_asked and key == "severity":
            same = [(option.value, option.text) for option in on_server[question]] == options
        if not same:
            raise InputError(
                f"annotation.{key} changed after '{name}' was created, and Argilla cannot change a dataset's questions",
                hint=f"restore annotation.{key}, {NEW_DATASET}",
            )


def _update(
    connection: Connection, dataset: DatasetInfo, taxonomy: Taxonomy, section: AnnotationSection, adjudication: bool
) -> None:
    """Sets the guidelines and the number of answers per record to those of the config. Argilla then recounts which
    records are complete."""
    text = guidelines(taxonomy, preface=section.guidelines)
    if (dataset.guidelines or "").strip() != text.strip():
        connection.patch(f"/datasets/{dataset.id}", {"guidelines": text})
    needed = 1 if adjudication else section.annotators
    if dataset.distribution.min_submitted != needed:
        distribution = {"strategy": "overlap", "min_submitted": needed}
        connection.patch(f"/datasets/{dataset.id}", {"distribution": distribution})
