"""push.json and adjudicate.json: the Argilla dataset to which the records were sent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from marginalia.schemas.base_model import StrictModel

# older versions wrote true for the intended labels
Suggestions = Annotated[
    Literal[False, "intended", "check"], BeforeValidator(lambda value: "intended" if value is True else value)
]


class Pushed(StrictModel):
    """The Argilla dataset of one round, and the settings that it was created with."""

    url: str = Field(description="address of the server; contains no key")
    workspace: str
    dataset: str = Field(description="the dataset's name")
    dataset_id: str
    round: Literal["annotate", "adjudicate", "audit"]
    records: int = Field(description="records that are on the server")
    annotators: int = Field(description="answers required per record")
    taxonomy: str
    labels: list[str] = Field(description="ids of the labels that annotators can choose, in order")
    taxonomy_sha256: str = Field(description="hash of the taxonomy from which the guidelines were made")
    suggestions: Suggestions = Field(
        description="whose labels were suggested, false: none; suggestions.parquet has each record's"
    )
    control_share: float = Field(default=0.0, description="share of records for which the suggestion was not shown")
    asked: int | None = Field(default=None, description="records that the push was limited to; null: all")
    pushed_at: datetime
