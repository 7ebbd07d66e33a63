"""Annotators see only their own answers and names: answers are to be independent, and the artifacts have pseudonyms.

Argilla hides its lists of users and most answers from annotators. Three of its API's replies contain those of all users
for everybody who can open the dataset: two with the progress by username, and a single record with its answers. An
annotator gets only their own part of these; the web UI needs no more."""

from collections.abc import Awaitable, Callable
from typing import Any

from argilla_server.api.handlers.v1.datasets.datasets import DatasetProgress, UsersProgress
from argilla_server.api.handlers.v1.records import RecordSchema
from argilla_server.api.routes import api_v1
from argilla_server.models import User
from fastapi.routing import APIRoute

PROGRESS = "/datasets/{dataset_id}/progress"
USERS_PROGRESS = "/datasets/{dataset_id}/users/progress"
RECORD = "/records/{record_id}"
Endpoint = Callable[..., Awaitable[Any]]


def restrict() -> None:
    """Replaces the endpoints. Call this before the server starts."""
    for path, own_part in ((PROGRESS, _own_progress), (USERS_PROGRESS, _own_progress), (RECORD, _own_record)):
        # raises StopIteration when a version of Argilla does not have this route: then this code must be adapted
        route = next(
            route
            for route in api_v1.routes
            if isinstance(route, APIRoute) and route.path == path and "GET" in route.methods
        )
        route.dependant.call = _restricted(route.endpoint, own_part)


def _restricted(endpoint: Endpoint, own_part: Callable[[Any, User], Any]) -> Endpoint:
    async def restricted(**arguments: Any) -> Any:
        reply = await endpoint(**arguments)
        user = arguments["current_user"]
        return own_part(reply, user) if user.is_annotator else reply

    return restricted


def _own_progress(reply: DatasetProgress | UsersProgress, user: User) -> DatasetProgress | UsersProgress:
    return reply.model_copy(update={"users": [item for item in reply.users if item.username == user.username]})


def _own_record(record: Any, user: User) -> RecordSchema:
    reply = RecordSchema.model_validate(record)
    reply.responses = [response for response in reply.responses or [] if response.user_id == user.id]
    return reply
