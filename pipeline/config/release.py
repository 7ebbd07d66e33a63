"""Config of the release and publish stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class ReleaseSection(StrictModel):
    """What the data set is called, under which terms it stands, and where `publish` puts it."""

    repo_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$",
        description="where publish puts it on the Hugging Face Hub: owner/name",
    )
    license: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.-]*$",
        description="the Hub's id of the licence, such as cc-by-4.0; publish refuses without one",
    )
    license_link: str | None = Field(default=None, description="address of the licence's text, for `license: other`")
    private: bool = Field(default=True, description="only you and your organisation see the data set on the Hub")
    gated: Literal["manual", "auto", "open"] = Field(
        default="manual",
        description="who else may download it: manual: whom you accept; auto: who asks and agrees; open: everybody",
    )
    gate_text: str | None = Field(
        default=None, description="what people agree to before they get access; null: a text made from the taxonomy"
    )
    title: str | None = Field(default=None, description="headline of the card; null: made from the taxonomy's title")
    description: str | None = Field(default=None, description="a paragraph on why the data set was made, for the card")
    authors: list[str] = Field(default=[], description="who answers for the data set; named on the card")
    contact: str | None = Field(default=None, description="where to report a problem; shown on the card")
    citation: str | None = Field(default=None, description="BibTeX; null: made from authors, title and repo_id")
    tags: list[str] = Field(default=[], description="further tags for the Hub's search")
    reviewed_records: list[str] = Field(
        default=[],
        description="ids of records in which publish found something like private data and a person found none",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s@]+$",
        description="address of a Hub of your own; null: HF_ENDPOINT, else huggingface.co",
    )
    allow_http: bool = Field(
        default=False,
        exclude=True,  # no part of what is released
        description="send the token unencrypted where `endpoint` is an http:// address of another machine",
    )
    token_env: str = Field(
        default="HF_TOKEN",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable that holds the Hub's write token; never the token itself",
    )
    timeout: float = Field(
        default=120.0,
        gt=0,
        description="seconds that a request may take, in addition to what its bytes need at 10 kB per second",
    )
