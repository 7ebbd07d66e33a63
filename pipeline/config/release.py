"""Config of the release and publish stages."""

from __future__ import annotations

from datetime import date as Date  # a field is named `date`
from typing import Literal

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class Datasheet(StrictModel):
    """Statements about people that only the owner of the data set can make. The card shows them, and marks those that
    are missing."""

    about_annotators: str | None = Field(
        default=None,
        pattern=r"\S",
        description="who the annotators were, without names: how many, how they were found, what they know of the "
        "subject, which languages they speak",
    )
    pay: str | None = Field(
        default=None, pattern=r"\S", description="what the annotators were paid, or why they were not paid"
    )
    consent: str | None = Field(
        default=None,
        pattern=r"\S",
        description="what the annotators agreed to, such as the purpose and the publication of their answers, and how "
        "they can withdraw",
    )
    personal_data: str | None = Field(
        default=None,
        pattern=r"\S",
        description="whether the texts contain personal data, how that was checked, and why publishing them is allowed",
    )


class ReleaseSection(StrictModel):
    """The data set's title and licence, and where `publish` puts it."""

    repo_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$",
        description="the data set's repository on the Hugging Face Hub: owner/name",
    )
    license: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.-]*$",
        description="the licence's id on the Hub, such as cc-by-4.0; publish requires one",
    )
    license_link: str | None = Field(default=None, description="address of the licence text, for `license: other`")
    private: bool = Field(default=True, description="only you and your organisation can see the data set on the Hub")
    gated: Literal["manual", "auto", "open"] = Field(
        default="manual",
        description="who else can download it: manual: people that you accept; auto: people who agree to the terms; "
        "open: everybody",
    )
    gate_text: str | None = Field(
        default=None,
        description="terms that people agree to before they get access; null: a text made from the taxonomy",
    )
    title: str | None = Field(default=None, description="title of the card; null: made from the taxonomy's title")
    description: str | None = Field(
        default=None, description="a paragraph for the card about the purpose of the data set"
    )
    authors: list[str] = Field(
        default=[], description="the people or organisations responsible for the data set; named on the card"
    )
    contact: str | None = Field(default=None, description="where to report a problem; shown on the card")
    datasheet: Datasheet = Field(
        default=Datasheet(),
        exclude_if=lambda value: value == Datasheet(),  # configs without it keep their hash
        description="statements for the card about annotators, pay, consent and personal data",
    )
    date: Date | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # configs without it keep their hash
        description="date of publication, such as 2026-11-28; for croissant.json and the citation",
    )
    citation: str | None = Field(default=None, description="BibTeX; null: made from authors, title and repo_id")
    tags: list[str] = Field(default=[], description="additional tags for the Hub's search")
    reviewed_records: list[str] = Field(
        default=[],
        description="ids of records that publish reported for possible private data and that a person has checked and "
        "found to have none",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s@]+$",
        description="address of your own Hub; null: the environment variable HF_ENDPOINT, or huggingface.co",
    )
    allow_http: bool = Field(
        default=False,
        exclude=True,  # does not change the release
        description="allow sending the token unencrypted when `endpoint` is an http:// address of another machine",
    )
    token_env: str = Field(
        default="HF_TOKEN",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="name of the environment variable with the Hub's write token, not the token itself",
    )
    timeout: float = Field(
        default=120.0,
        gt=0,
        description="seconds that a request may take, in addition to what its bytes need at 10 kB per second",
    )
