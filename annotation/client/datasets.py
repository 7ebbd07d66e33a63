"""Workspaces and datasets on the server: found or made, and checked against the taxonomy before anything is pushed."""

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
    offered,
    severity_question,
)
from marginalia.annotation.client.guidelines import guidelines
from marginalia.annotation.config import AnnotationSection
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.taxonomy import Taxonomy


@dataclass(frozen=True)
class Dataset:
    """A published Argilla dataset. `questions` maps names to ids."""

    id: str
    name: str
    questions: dict[str, str]


def find_workspace(connection: Connection, name: str, *, make: bool) -> str:
    """The workspace's id. Raises ServiceError when it is missing and may not be made."""
    for workspace in connection.get("/me/workspaces")["items"]:
        if workspace["name"] == name:
            return str(workspace["id"])
    if not make or connection.role != "owner":
        raise ServiceError(
            f"Argilla at {connection.url} shows {connection.username} ({connection.role}) no workspace '{name}'",
            hint="check annotation.workspace, or use an owner's API key",
        )
    made = connection.post("/workspaces", {"name": name}, done=(409,))
    return str(made["id"]) if made is not None else find_workspace(connection, name, make=False)


def add_members(connection: Connection, workspace_id: str, usernames: Sequence[str]) -> None:
    """Lets existing users work in the workspace. Raises ServiceError that names those who have no account."""
    if not usernames:
        return
    members = {user["username"] for user in connection.get(f"/workspaces/{workspace_id}/users")["items"]}
    wanted = [name for name in dict.fromkeys(usernames) if name not in members]
    if not wanted:
        return
    users = {user["username"]: user["id"] for user in connection.get("/users")["items"]}
    unknown = [name for name in wanted if name not in users]
    if unknown:
        raise ServiceError(
            f"Argilla at {connection.url} has no user {', '.join(unknown)}",
            hint="make the accounts in Argilla, or mend annotation.team and annotation.experts",
        )
    for name in wanted:
        connection.post(f"/workspaces/{workspace_id}/users", {"user_id": users[name]}, done=(409,))


def ensure_dataset(
    connection: Connection,
    workspace: str,
    name: str,
    taxonomy: Taxonomy,
    section: AnnotationSection,
    *,
    adjudication: bool = False,
) -> Dataset:
    """The dataset of that name with the taxonomy's settings, made if it is missing.

    Raises InputError when it exists with other labels: answers given to those would mean something else."""
    workspace_id = find_workspace(connection, workspace, make=True)
    found = _find(connection, workspace_id, name)
    if found is not None and found["status"] == "draft":  # a push that was killed while it made the dataset
        connection.delete(f"/datasets/{found['id']}")
        found = None
    if found is None:
        with connection.sdk():
            settings = dataset_settings(taxonomy, section, adjudication=adjudication).serialize()
        _make(connection, workspace_id, name, settings)
        found = _find(connection, workspace_id, name)
        if found is None or found["status"] == "draft":
            raise ServiceError(
                f"Argilla at {connection.url} took dataset '{name}' but does not list it", hint="run the command again"
            )
    questions = connection.get(f"/datasets/{found['id']}/questions")["items"]
    _check_labels(name, questions, taxonomy)
    _check_optional(name, questions, taxonomy, section)
    _refresh(connection, found, taxonomy, section, adjudication)
    return Dataset(str(found["id"]), name, {question["name"]: str(question["id"]) for question in questions})


def _make(connection: Connection, workspace_id: str, name: str, settings: dict[str, Any]) -> None:
    """A draft, then its parts, then it is published; each call may be one that was lost and is made again."""
    head = {part: settings[part] for part in ("guidelines", "allow_extra_metadata", "distribution")}
    head |= {"name": name, "workspace_id": workspace_id}
    made = connection.post("/datasets", head, done=(409,)) or _find(connection, workspace_id, name)
    if made is None:
        return  # which the caller notices
    for kind in ("fields", "questions"):
        for part in settings[kind]:
            told = {name: value for name, value in part.items() if value is not None}
            connection.post(f"/datasets/{made['id']}/{kind}", told, done=(409,))
    connection.put(f"/datasets/{made['id']}/publish", None, done=(422,))


def _find(connection: Connection, workspace_id: str, name: str) -> dict[str, Any] | None:
    listed = connection.get("/me/datasets", workspace_id=workspace_id)["items"]
    return next((dataset for dataset in listed if dataset["name"] == name), None)


def _check_labels(name: str, questions: list[dict[str, Any]], taxonomy: Taxonomy) -> None:
    question = next((question for question in questions if question["name"] == LABELS), None)
    if question is None:
        raise InputError(
            f"the Argilla dataset '{name}' was not made by this program: it has no question '{LABELS}'",
            hint="set annotation.dataset to a name of its own",
        )
    there = {option["value"]: option["text"] for option in question["settings"]["options"]}
    here = offered(taxonomy)
    if there == here:
        return
    changes = [f"{label} was added" for label in here if label not in there]
    changes += [f"{label} was taken away" for label in there if label not in here]
    changes += [
        f"{label} was renamed from '{there[label]}' to '{here[label]}'"
        for label in here
        if label in there and there[label] != here[label]
    ]
    raise InputError(
        f"the taxonomy '{taxonomy.id}' changed since the records were pushed to '{name}': {'; '.join(changes)}. "
        "Answers already given were given to the old labels",
        hint="put the old labels back, or set annotation.dataset to a new name and annotate anew",
    )


def _check_optional(name: str, questions: list[dict[str, Any]], taxonomy: Taxonomy, section: AnnotationSection) -> None:
    """Raises InputError when the dataset asks other optional questions than the config: Argilla cannot change them."""
    there = {question["name"]: question["settings"].get("options", []) for question in questions}
    levels = [str(level) for level in range(1, len(section.severity) + 1)]
    options = list(zip(levels, section.severity, strict=True))
    asked: list[tuple[str, str, bool]] = [
        ("note", NOTE, section.note),
        ("unsure", UNSURE, section.unsure),
        *(("severity", severity_question(label), bool(section.severity)) for label in taxonomy.ids),
    ]
    for key, question, wanted in asked:
        same = wanted == (question in there)
        if same and wanted and key == "severity":
            same = [(option["value"], option["text"]) for option in there[question]] == options
        if not same:
            raise InputError(
                f"annotation.{key} changed since '{name}' was made; Argilla cannot change the questions of a dataset",
                hint=f"put annotation.{key} back, or set annotation.dataset to a new name and annotate anew",
            )


def _refresh(
    connection: Connection, found: dict[str, Any], taxonomy: Taxonomy, section: AnnotationSection, adjudication: bool
) -> None:
    """Brings guidelines and the number of answers up to the config. Argilla then counts anew which records are done."""
    text = guidelines(taxonomy, preface=section.guidelines)
    if (found.get("guidelines") or "").strip() != text.strip():
        connection.patch(f"/datasets/{found['id']}", {"guidelines": text})
    needed = 1 if adjudication else section.annotators
    if found["distribution"]["min_submitted"] != needed:
        distribution = {"strategy": "overlap", "min_submitted": needed}
        connection.patch(f"/datasets/{found['id']}", {"distribution": distribution})
