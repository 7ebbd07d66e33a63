"""A search engine for Argilla that answers from the server's own SQLite database: there is no index to keep in step.

Argilla calls the write hooks after it has committed, so that all of them have nothing to do. What it expects of the
others is set down nowhere but in its Elasticsearch engine; where the two differ, it says so here:

- text is found as a part of a word too, and without ranking (`score` is None);
- an unknown value of a filter finds nothing, one that makes no sense is refused with 422 instead of failing with 500.
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

LARGEST_OFFSET = 2**62  # SQLite's integers end at 2**63; the API accepts any


class NoIndex(SearchEngine):
    """The hooks by which Argilla keeps an index in step. The database is the index."""

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
    """Argilla makes one a request."""

    @classmethod
    async def new_instance(cls) -> "SQLiteSearchEngine":
        return cls()

    async def close(self) -> None:
        pass

    async def ping(self) -> bool:
        return True

    async def info(self) -> dict:
        """Asked for by the server's status page: says that the database answers, and that answers touch records."""
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
        """One page of the records that match, and how many match in all.

        `user_id` is passed for an annotator's own queue, though the abstract class does not know it: without an
        explicit sort each annotator then gets the records in an order of their own, so that several people do not
        all start with the same ones, and what comes first is not the same for all.
        """
        if user_id is None:
            unsorted = [Record.inserted_at, Record.id]
        else:
            unsorted = [func.shuffle_key(Record.id, str(user_id)), Record.id]
        async with SearchSession() as session:
            condition = await _condition(session, dataset, query, filter)
            total = await session.scalar(select(func.count()).select_from(Record).where(condition))
            found = await session.scalars(
                select(Record.id)
                .where(condition)
                .order_by(*(key for order in sort or [] for key in filters.sort_keys(order)), *unsorted)
                .offset(min(offset, LARGEST_OFFSET))
                .limit(limit)
            )
            return SearchResponses(items=[SearchResponseItem(record_id=record) for record in found], total=total)

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
        """The values of a metadata property for the UI's filters: terms by frequency, or the smallest and largest."""
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
