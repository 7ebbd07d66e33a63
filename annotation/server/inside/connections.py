"""Set-up of the connections to the SQLite database: Argilla's own, and read-only ones for the search engine."""

import documents
from argilla_server.database import async_engine, sync_engine
from argilla_server.settings import settings
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

# The search engine runs inside requests that already hold a connection. With the same pool, as many simultaneous
# searches as the pool has connections would wait for each other until they time out.
search_engine = create_async_engine(settings.database_url, **settings.database_engine_args)
SearchSession = async_sessionmaker(bind=search_engine, expire_on_commit=False)


def configure() -> None:
    """Register the set-up of all connections that are opened from now on."""
    for engine in (sync_engine, async_engine.sync_engine):
        event.listen(engine, "connect", _set_up_writer)
    event.listen(search_engine.sync_engine, "connect", _set_up_reader)


NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"  # as Argilla writes its own times: UTC, microseconds
TOUCHES = [("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")]


def update_records_when_answered() -> None:
    """Add database triggers that set a record's `updated_at` when an answer to it is given, edited or deleted, in the
    same transaction: a search for records by `updated_at` then finds new answers. Argilla itself changes `updated_at`
    only when an answer completes the record."""
    with sync_engine.begin() as connection:
        for event_name, row in TOUCHES:
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS touch_record_on_response_{event_name} AFTER {event_name} ON responses "
                f"BEGIN UPDATE records SET updated_at = {NOW} WHERE id = {row}.record_id; END"
            )
        connection.exec_driver_sql("CREATE INDEX IF NOT EXISTS records_by_change ON records (dataset_id, updated_at)")


def _set_up_writer(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not block each other
    # NORMAL survives a killed process, but a power failure could lose the last answers.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _set_up_reader(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()
    for function in documents.SQL_FUNCTIONS:
        connection.create_function(function.__name__, function.__code__.co_argcount, function, deterministic=True)
