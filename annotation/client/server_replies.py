"""What Argilla's API returns, checked: a reply of another shape is a ServiceError that names the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from marginalia.annotation.client.connection import Connection
from marginalia.schemas.errors import ServiceError
from marginalia.schemas.text_checks import one_line

PROBLEM_SHOWN = 200  # characters


def _encodable(text: str) -> str:
    text.encode()  # raises ValueError for a lone surrogate, which no request and no file can contain
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="it becomes part of a request's path")]


class ServerReply(BaseModel):
    """A part of a reply. Further keys are allowed: they differ between versions of Argilla."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


ReplyT = TypeVar("ReplyT", bound=ServerReply)


class Items(ServerReply, Generic[ReplyT]):
    """A list that comes whole."""

    items: list[ReplyT]


class Workspace(ServerReply):
    """A workspace."""

    id: Id
    name: Text


class User(ServerReply):
    """A user."""

    id: Id
    username: Text


class Me(ServerReply):
    """The user of the API key, as Argilla's SDK requires it."""

    id: str = Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    username: Text = Field(min_length=1)
    role: Literal["owner", "admin", "annotator"]
    first_name: str | None = None
    last_name: str | None = None
    inserted_at: str | None = None
    updated_at: str | None = None


class Distribution(ServerReply):
    """How many answers a record needs."""

    min_submitted: int


class DatasetInfo(ServerReply):
    """A dataset, without its records."""

    id: Id
    name: Text
    status: Text
    guidelines: Text | None = None
    distribution: Distribution


class Option(ServerReply):
    """One option of a question."""

    value: Text | int | float | bool
    text: Text | None = None


class QuestionSettings(ServerReply):
    """The settings of a question that are compared with the config."""

    options: list[Option] = []


class Question(ServerReply):
    """A question of a dataset."""

    id: Id
    name: Text
    settings: QuestionSettings


class Created(ServerReply):
    """The reply to a request that creates something."""

    id: Id


class Record(ServerReply):
    """A record. Its answers are checked one by one in answer_journal.py, so that one odd answer is not the end."""

    id: Id
    external_id: Text | None = Field(default=None, description="null: the record was not added by us")
    fields: Any = None
    responses: list[Any] | None = None


class RecordPage(ServerReply):
    """One page of a dataset's records. `total`: how many there are on all pages."""

    items: list[Record]
    total: int = Field(ge=0)


class Found(ServerReply):
    """One hit of a search."""

    record: Record


class SearchPage(ServerReply):
    """One page of a search for records."""

    items: list[Found]
    total: int = Field(ge=0)


class Total(ServerReply):
    """The number of records of a dataset."""

    total: int = Field(ge=0)


class UserProgress(ServerReply):
    """How many answers a user has given, by status, to records that are complete and to others."""

    completed: dict[str, int] = {}
    pending: dict[str, int] = {}


class UsersProgress(ServerReply):
    """The progress of all users of a dataset."""

    users: list[UserProgress]


class Status(ServerReply):
    """The server's status."""

    search_engine: dict[str, Any] | None = None


def get(connection: Connection, model: type[ReplyT], path: str, **parameters: Any) -> ReplyT:
    """The reply to a GET request. Raises ServiceError when it is not what `model` describes."""
    return checked(connection, f"GET {path}", connection.get(path, **parameters), model)


def checked(connection: Connection, call: str, reply: Any, model: type[ReplyT]) -> ReplyT:
    """The reply as a `model`. `call` names the request, for the message. Raises ServiceError."""
    try:
        return model.model_validate(reply)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = one_line(".".join(map(str, first["loc"])))[:PROBLEM_SHOWN] or "the reply"
        raise strange(connection, call, f"{where}: {first['msg']}") from None


def strange(connection: Connection, call: str, problem: str) -> ServiceError:
    """The error for a reply that Argilla would not give. `problem` contains nothing of the reply's texts."""
    return ServiceError(
        f"Argilla at {connection.url} ({call}): unexpected reply: {problem}",
        hint="run the command again; if that does not help, check annotation.url and the server's version (2.x)",
    )


def each_record(
    connection: Connection, call: str, read: Callable[[int], tuple[list[Record], int]], page_size: int
) -> Iterator[Record]:
    """All records of a paged list, each once. `read` returns the page that begins at an offset, and the total.

    Raises ServiceError when the pages do not fit the total that the server announces: when a page contains nothing new,
    when there are more records than announced (records that somebody adds meanwhile fit on one further page), or when
    the list ends before its total."""
    seen: set[str] = set()
    offset = 0
    most: int | None = None
    while True:
        page, total = read(offset)
        most = total + page_size if most is None else most
        new = [record for record in {record.id: record for record in page}.values() if record.id not in seen]
        seen.update(record.id for record in new)
        if page and not new:
            raise strange(connection, call, f"a page from record {offset:,} on repeats earlier records")
        if len(seen) > most:
            raise strange(connection, call, f"more than the {most - page_size:,} records that it announced")
        yield from new
        offset += len(page)
        if not page or (len(page) < page_size and offset >= total):
            break
    if len(seen) < total:
        raise strange(connection, call, f"{len(seen):,} of the {total:,} records that it announced")
