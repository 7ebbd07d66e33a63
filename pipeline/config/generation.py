"""Config of the stages plan and generate."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.endpoint_access import EndpointAccess
from marginalia.schemas.server_addresses import check_endpoint

ATTRIBUTE_PATTERN = r"[a-z][a-z0-9_]{0,31}"
PLAN_COLUMNS = ("slot_id", "labels", "difficulty", "near_miss_of", "language")
MAX_LABELS = 3
BUNDLED = "bundled"
# keys of extra_body that every request has already, and the setting of each
SETTING_OF_REQUEST_KEY = {
    "model": "generate.endpoint.model",
    "temperature": "generate.temperature",
    "top_p": "generate.top_p",
    "max_tokens": "generate.max_tokens",
    "max_completion_tokens": "generate.max_tokens and generate.token_limit_key",
    "seed": "generate.send_seed",
    "response_format": "generate.structured_output",
    **dict.fromkeys(("messages", "stream", "n")),
}


class PlanSection(StrictModel):
    """The texts to write: how many, with which labels, and with which other properties."""

    records: int = Field(default=60, ge=1, le=1_000_000, description="how many texts to plan")
    shares: dict[int, float] = Field(
        default={0: 0.25, 1: 0.4, 2: 0.25, 3: 0.1},
        description="share of the texts with 0, 1, 2 or 3 labels; the shares must add up to 1",
    )
    near_misses: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="of the texts without a label, the share that resembles one of the labels; they show how often a "
        "guard raises a false alarm on difficult texts",
    )
    min_per_label: int = Field(default=3, ge=0, description="minimum number of texts per label")
    min_per_pair: int = Field(
        default=0,
        ge=0,
        description="minimum number of texts per allowed pair of labels; all pairs are used equally often",
    )
    difficulties: list[str] = Field(
        default=["blatant", "plain", "veiled"],
        min_length=1,
        description="how openly a text shows its labels; a text without a label is 'unrelated' or 'look-alike' instead",
    )
    languages: list[str] = Field(default=[], description="ISO 639-1 codes; empty means the taxonomy's own language")
    attributes: dict[str, list[str]] = Field(
        default={
            "form": ["question", "request", "statement"],
            "persona": ["office worker", "traveller", "pensioner", "shop owner", "nurse"],
            "tone": ["polite", "matter-of-fact", "impatient"],
            "length": ["one short sentence", "one or two sentences", "three or four sentences"],
        },
        description="other properties of a text; all values of a property are used equally often",
    )

    @field_validator("shares")
    @classmethod
    def _shares(cls, shares: dict[int, float]) -> dict[int, float]:
        for size, share in shares.items():
            if not 0 <= size <= MAX_LABELS:
                raise ValueError(f"a text can have 0 to {MAX_LABELS} labels, saw {size}")
            if not (math.isfinite(share) and share >= 0):
                raise ValueError(f"the share for {size} labels must be a number from 0 to 1, saw {share}")
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(f"the shares must add up to 1; these add up to {sum(shares.values()):g}")
        return dict(sorted(shares.items()))

    @field_validator("attributes")
    @classmethod
    def _attributes(cls, attributes: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, values in attributes.items():
            if not re.fullmatch(ATTRIBUTE_PATTERN, name) or name in PLAN_COLUMNS:
                allowed = "lower-case letters, digits, '_'; not a column of the plan"
                raise ValueError(f"'{name}' is not a valid attribute name ({allowed})")
            _distinct(name, values)
        return attributes

    @model_validator(mode="after")
    def _lists(self) -> Self:
        _distinct("difficulties", self.difficulties)
        if self.languages:
            _distinct("languages", self.languages)
        return self


def _distinct(name: str, values: list[str]) -> None:
    if not values or any(not value.strip() for value in values):
        raise ValueError(f"'{name}' needs at least one value, and none may be empty")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"'{name}' lists '{value}' twice")


class EndpointSection(EndpointAccess):
    """The OpenAI-compatible endpoint that writes."""

    OWN_KEYS = SETTING_OF_REQUEST_KEY

    base_url: str | list[str] = Field(
        default=BUNDLED,
        description="the endpoint's address up to /v1 (an Azure deployment's with its ?api-version=…), or a list of "
        "addresses that serve the same model: the least busy is asked first, one that fails is left alone for a while; "
        "'bundled' starts a small model on this machine for the time of the stage (it writes clumsily: to see the "
        "machine work, not to make a data set)",
    )
    model: str = Field(default="smollm2-135m-instruct", min_length=1, description="the model's name at the endpoint")

    @property
    def urls(self) -> list[str]:
        """All addresses."""
        return [self.base_url] if isinstance(self.base_url, str) else self.base_url

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return ", ".join(self.urls)

    @field_validator("base_url")
    @classmethod
    def _addresses(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, str):
            return _address(value, bundled=True)
        urls = [_address(each, bundled=False) for each in value]
        if not urls or len(set(urls)) < len(urls):
            raise ValueError(f"expected one or more different addresses, saw {value}")
        return urls if len(urls) > 1 else urls[0]


def unreadable_path(journal: Path) -> Path:
    """The file with notes on answers that could not be read: responses.unreadable.jsonl for responses.jsonl."""
    return journal.with_suffix(".unreadable.jsonl")


def _address(value: str, *, bundled: bool) -> str:
    return value if bundled and value == BUNDLED else check_endpoint(value)


class PricesSection(StrictModel):
    """Prices per million tokens, in one currency."""

    currency: str = Field(
        default="USD",
        pattern=r"^[A-Z]{3}$",
        description="three letters (ISO 4217), shown in the report and on the card",
    )
    prompt: float = Field(ge=0, description="price per million prompt tokens")
    completion: float = Field(ge=0, description="price per million completion tokens")


class CheckSection(StrictModel):
    """A model labels each text without knowing its intended labels. These labels are a second opinion and can be
    suggestions for annotators, but are never gold."""

    enabled: bool = Field(default=False, description="let a model label each text without knowing its intended labels")
    endpoint: EndpointSection | None = Field(
        default=None,
        description="the endpoint for the check; null: the one that writes the texts, which is a weaker check",
    )
    max_tokens: int = Field(default=200, ge=8, le=8192, description="tokens that an answer may have at most")
    structured_output: bool = Field(default=False, description="ask for JSON by response_format json_schema")
    prices: PricesSection | None = Field(
        default=None, description="prices of the check's endpoint; null: generate.prices"
    )
    planted: int = Field(
        default=18,
        ge=0,
        le=1000,
        description="number of copies of texts that order the model to give a certain wrong answer; the share of "
        "orders that it follows is reported as its obedience",
    )


class DuplicatesSection(StrictModel):
    """When a text counts as a duplicate of another one. Texts are always compared by their wording
    (generate.near_duplicate); embeddings also find texts that say the same in other words."""

    method: Literal["minhash", "embeddings"] = Field(
        default="minhash", description="minhash: compare the wording only; embeddings: compare wording and meaning"
    )
    model: str | None = Field(
        default=None,
        description="sentence-embedding model: a transformers or sentence-transformers folder (relative to the run) or "
        "a Hub id with revision; it should support the languages of the plan",
    )
    revision: str | None = Field(default=None, description="the commit id of a model from the Hub")
    similarity: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="cosine similarity of two texts' embeddings from which the later text is a duplicate; good values "
        "depend on the model: see the similarities in rejected.parquet",
    )
    prefix: str = Field(default="", description="added before each text, for models that need it, such as 'query: '")
    device: str = Field(default="auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1 …")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.method == "embeddings" and not self.model:
            raise ValueError("method embeddings requires a model")
        return self


class GenerateSection(StrictModel):
    """How the planned texts are written, and which answers are accepted."""

    endpoint: EndpointSection = EndpointSection()
    temperature: float | None = Field(
        default=0.9,
        ge=0,
        le=2,
        description="sampling temperature of the writer; null: neither temperature nor top_p is sent",
    )
    top_p: float = Field(default=0.95, gt=0, le=1, description="nucleus sampling of the writer")
    max_tokens: int = Field(default=256, ge=8, le=8192, description="tokens that an answer may have at most")
    token_limit_key: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="the name of max_tokens in requests to the endpoint"
    )
    send_seed: bool = Field(
        default=True,
        description="send a seed with each request; false (short form: `seed: false`) for endpoints that reject it",
    )
    structured_output: bool = Field(
        default=False,
        description="request JSON with response_format json_schema; answers in other forms are parsed, too",
    )
    templates: str = Field(
        default="default",
        description="'default', 'small-model', or a folder (relative to the run) with system.j2, user.j2 "
        "and, to show each example as a separate turn, example.j2",
    )
    few_shot: int = Field(
        default=2, ge=0, le=20, description="examples from the taxonomy that a prompt shows per label"
    )
    show_written: int = Field(
        default=5,
        ge=0,
        le=50,
        description="texts of earlier rounds with the same labels that a prompt shows, so that the new text differs",
    )
    waves: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="number of waves in which slots start, one per round; a prompt shows only texts that were accepted "
        "at least two rounds earlier",
    )
    max_attempts: int = Field(default=4, ge=1, le=100, description="attempts per slot before it is left open")
    min_characters: int = Field(
        default=15,
        ge=1,
        description="shorter texts are rejected (too_short); Chinese, Japanese and Korean characters count twice",
    )
    max_characters: int = Field(default=800, ge=1, description="longer texts are rejected (too_long)")
    when_cut: Literal["reject", "trim"] = Field(
        default="reject",
        description="an answer that reached max_tokens: reject it (too_long), or trim it to its last complete sentence",
    )
    near_duplicate: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Jaccard similarity of two texts' character 5-grams (3-grams in Chinese, Japanese and Korean) from "
        "which the later text is a duplicate",
    )
    check_language: bool = Field(default=True, description="reject texts that are clearly in another language")
    private_data: Literal["replace", "reject"] = Field(
        default="replace",
        description="texts with identifiers that look real: replace these by reserved ones (example.com, 555-01xx …), "
        "or reject the text",
    )
    concurrency: int = Field(default=8, ge=1, le=1024, description="requests in flight at once")
    timeout_seconds: float = Field(default=120.0, gt=0, description="maximum duration of a call")
    retries: int = Field(
        default=5, ge=0, le=50, description="repeated calls after a 429, 5xx, time-out or reset before an attempt fails"
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of calls per address, evenly spaced; a server's Retry-After is always obeyed",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of prompt and answer tokens per address; a call counts with max_tokens until its "
        "answer reports its tokens",
    )
    include: str | None = Field(
        default=None,
        description="your own records, to be annotated together with the generated ones: a CSV, JSON, JSONL or "
        "Parquet file (relative to the run) with id, text or messages, and labels (those that you think apply); their "
        "attribute `source` is included, that of the others generated",
    )
    prices: PricesSection | None = Field(
        default=None, description="prices of the writer's endpoint; without them, no cost is reported"
    )
    budget: float | None = Field(
        default=None, gt=0, description="stop before the run's answers cost more than this; requires prices"
    )

    duplicates: DuplicatesSection = DuplicatesSection()
    check: CheckSection = CheckSection()

    @model_validator(mode="before")
    @classmethod
    def _seed(cls, value: Any) -> Any:
        """Accepts `seed: false`, the short form of `send_seed: false`."""
        if isinstance(value, dict) and isinstance(value.get("seed"), bool) and "send_seed" not in value:
            return {**{key: item for key, item in value.items() if key != "seed"}, "send_seed": value["seed"]}
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} is above max_characters {self.max_characters}")
        if self.budget is not None and self.prices is None:
            raise ValueError("budget requires prices")
        return self
