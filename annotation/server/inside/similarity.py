"""Nearest records by vector, computed over all vectors of a dataset. An index is not needed for the thousands of
records that annotators can label."""

from uuid import UUID

import numpy as np
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Record, Vector, VectorSettings
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement


async def vectors(
    session: AsyncSession, settings: VectorSettings, condition: ColumnElement[bool]
) -> list[tuple[UUID, list[float]]]:
    """(record id, vector) of each record that meets `condition`."""
    rows = await session.execute(
        select(Vector.record_id, Vector.value)
        .join(Record, Record.id == Vector.record_id)
        .where(condition, Vector.vector_settings_id == settings.id)
    )
    return [(record_id, value) for record_id, value in rows]


def nearest(
    vectors: list[tuple[UUID, list[float]]], target: list[float], *, farthest: bool = False
) -> list[tuple[UUID, float]]:
    """(record id, score), the best first. The score is Elasticsearch's, (1 + cosine) / 2, in [0, 1]; for `farthest`,
    with the cosine to the opposite vector."""
    if not vectors:
        return []
    matrix = np.array([value for _, value in vectors], dtype=float)
    direction = np.array(target, dtype=float) * (-1 if farthest else 1)
    if direction.shape != matrix.shape[1:]:
        raise UnprocessableEntityError(f"The vector has {direction.size} dimensions, expected {matrix.shape[1]}.")
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(direction)
    cosines = np.divide(matrix @ direction, lengths, out=np.zeros(len(matrix)), where=lengths > 0)
    best_first = np.argsort(-cosines, kind="stable")
    return [(vectors[i][0], float((1 + cosines[i]) / 2)) for i in best_first]
