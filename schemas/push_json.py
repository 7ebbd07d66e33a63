"""push.json and adjudicate.json: which Argilla dataset the records went to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from marginalia.schemas.base_model import StrictModel

# true stood for the intended labels before there were others
Suggestions = Annotated[
    Literal[False, "intended", "check"], BeforeValidator(lambda value: "intended" if value is True else value)
]


class Pushed(StrictModel):
    url: str = Field(description="address of the server, without any key")
    workspace: str
    dataset: str = Field(description="the dataset's name")
    dataset_id: str
    round: Literal["annotate", "adjudicate", "audit"]
    records: int = Field(description="records that are on the server")
    annotators: int = Field(description="answers that each record needs")
    taxonomy: str
    labels: list[str] = Field(description="ids of the labels that were offered, in order")
    taxonomy_sha256: str = Field(description="hash of the taxonomy that the guidelines were made from")
    suggestions: Suggestions = Field(description="whose labels were suggested; suggestions.parquet has each record's")
    control_share: float = Field(default=0.0, description="share of records that went without suggestion")
    asked: int | None = Field(default=None, description="records that were to be pushed; null: all there are")
    pushed_at: datetime
