"""A search engine for Argilla that queries the server's own SQLite database: there is no index to keep up to date.

Argilla calls the write hooks after it has committed, so they have nothing to do. What it expects of the other methods
is documented only by its Elasticsearch engine. The differences from that are:

- text is also found inside words, and results are not ranked (`score` is None);
- an unknown value in a filter matches nothing, and an invalid one is refused with 422 instead of failing with 500.
"""

import filters
import phrases
import similarity
from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.models import Dataset, MetadataProperty, Record, Response, User, VectorSettings
from argilla_server.search_engine.base import (
    Filter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataMetrics,
    Order,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)
from connections import SearchSession
from sqlalchemy import Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement

LARGEST_OFFSET = 2**62  # SQLite's integers have 64 bits; the API accepts any offset


class NoIndex(SearchEngine):
    """The hooks through which Argilla updates an index. They do nothing, because the database is the index."""

    async def create_index(self, dataset):
        pass

    async def delete_index(self, dataset):
        pass

    async def configure_metadata_property(self, dataset, metadata_property):
        pass

    async def index_records(self, dataset, records):
        pass

    async def partial_record_update(self, record, **update):
        pass

    async def delete_records(self, dataset, records):
        pass

    async def update_record_response(self, response):
        pass

    async def delete_record_response(self, response):
        pass

    async def update_record_suggestion(self, suggestion):
        pass

    async def delete_record_suggestion(self, suggestion):
        pass


@SearchEngine.register(engine_name="sqlite")
class SQLiteSearchEngine(NoIndex):
    """The search engine `sqlite`. Argilla makes one instance per request."""

    @classmethod
    async def new_instance(cls) -> "SQLiteSearchEngine":
        return cls()

    async def close(self) -> None:
        pass

    async def ping(self) -> bool:
        return True

    async def info(self) -> dict:
        """For the server's status endpoint: the version of SQLite, and that an answer changes its record's
        `updated_at`."""
        async with SearchSession() as session:
            version = await session.scalar(select(func.sqlite_version()))
        return {"name": "sqlite", "version": {"number": version}, "answers_touch_records": True}

    async def get_dataset_progress(self, dataset: Dataset) -> dict:
        """Number of records by status, and their total."""
        return await _counts(
            dataset,
            select(Record.status, func.count()).where(Record.dataset_id == dataset.id).group_by(Record.status),
        )

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict:
        """Number of the user's responses by status, and their total."""
        return await _counts(
            dataset,
            select(Response.status, func.count())
            .join(Record, Record.id == Response.record_id)
            .where(Record.dataset_id == dataset.id, Response.user_id == user.id)
            .group_by(Response.status),
        )

    async def search(
        self,
        dataset: Dataset,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        sort: list[Order] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: object = None,
    ) -> SearchResponses:
        """One page of the matching records, and their total number.

        Argilla passes `user_id` for an annotator's own queue, although the abstract class does not have it. Without an
        explicit sort, each annotator then gets the records in a different order, so that not everybody starts with the
        same records.
        """
        if user_id is None:
            default_order = [Record.inserted_at, Record.id]
        else:
            default_order = [func.shuffle_key(Record.id, str(user_id)), Record.id]
        async with SearchSession() as session:
            condition = await _condition(session, dataset, query, filter)
            total = await session.scalar(select(func.count()).select_from(Record).where(condition))
            page = await session.scalars(
                select(Record.id)
                .where(condition)
                .order_by(*(key for order in sort or [] for key in filters.sort_keys(order)), *default_order)
                .offset(min(offset, LARGEST_OFFSET))
                .limit(limit)
            )
            return SearchResponses(items=[SearchResponseItem(record_id=record) for record in page], total=total)

    async def similarity_search(
        self,
        dataset: Dataset,
        vector_settings: VectorSettings,
        value: list[float] | None = None,
        record: Record | None = None,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """The records nearest to (or farthest from) a vector, with their score between 0 and 1."""
        target = value or record.vector_value_by_vector_settings(vector_settings)
        async with SearchSession() as session:
            condition = await _condition(session, dataset, query, filter)
            if record is not None:
                condition = and_(condition, Record.id != record.id)
            vectors = await similarity.vectors(session, vector_settings, condition)
        best = similarity.nearest(vectors, target, farthest=order == SimilarityOrder.least_similar)[:max_results]
        items = [
            SearchResponseItem(record_id=record_id, score=score)
            for record_id, score in best
            if threshold is None or score >= threshold
        ]
        return SearchResponses(items=items, total=len(items))

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        """The values of a metadata property for the UI's filters: terms by frequency, or the smallest and largest
        number."""
        of_dataset = Record.dataset_id == metadata_property.dataset_id
        if metadata_property.type == MetadataPropertyType.terms:
            async with SearchSession() as session:
                documents = await session.scalars(select(Record.metadata_).where(of_dataset))
                counts = filters.term_counts(documents, metadata_property.name)
            return TermsMetrics(
                total=counts.total(),
                values=[TermsMetrics.TermCount(term=term, count=count) for term, count in counts.most_common()],
            )
        number = filters.number_at(Record.metadata_, metadata_property.name)
        async with SearchSession() as session:
            row = await session.execute(select(func.min(number), func.max(number)).where(of_dataset))
            smallest, largest = row.one()
        integer = metadata_property.type == MetadataPropertyType.integer
        return (IntegerMetadataMetrics if integer else FloatMetadataMetrics)(min=smallest, max=largest)


async def _counts(dataset: Dataset, query: Select) -> dict:
    if dataset.is_draft:
        return {}
    async with SearchSession() as session:
        counts = {str(status): count for status, count in await session.execute(query)}
    return {"total": sum(counts.values()), **counts}


async def _condition(
    session: AsyncSession, dataset: Dataset, query: TextQuery | str | None, filter: Filter | None
) -> ColumnElement[bool]:
    conditions = [Record.dataset_id == dataset.id]
    if query is not None:
        conditions.append(await phrases.condition(session, dataset, query))
    if filter is not None:
        conditions.append(filters.condition(filter))
    return and_(*conditions)
