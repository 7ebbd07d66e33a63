"""Config of the annotation stages."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.push_json import Suggestions
from marginalia.schemas.server_addresses import check_address, check_variable


class AnnotationSection(StrictModel):
    """Where the annotators work, who they are and what they see: push, status, pull, adjudicate."""

    url: str | None = Field(
        default=None,
        description="address of your Argilla; null: the run's own local server, in its folder `argilla`",
    )
    api_key_env: str = Field(
        default="ARGILLA_API_KEY",
        description="environment variable that holds an owner's or admin's API key of `url`; never the key itself",
    )
    allow_http: bool = Field(
        default=False,
        exclude=True,  # changes no result
        description="send the key unencrypted where `url` is an http:// address of another machine",
    )
    workspace: str = Field(
        default="marginalia",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="Argilla workspace, created if missing",
    )
    dataset: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Argilla dataset; null: the run's name. A new name starts annotation again",
    )
    annotators: int = Field(
        default=3, ge=1, description="answers that each record needs before Argilla takes it out of the queues"
    )
    team: list[str] = Field(
        default=[],
        description="usernames of the annotators; their accounts are created on a local server and must exist on yours",
    )
    experts: list[str] = Field(
        default=[],
        description="usernames of the experts who adjudicate, in the workspace WORKSPACE-experts; empty: the team does",
    )
    first: int | None = Field(
        default=None,
        ge=1,
        description="number of records to push first, chosen at random, as a pilot; push --more N adds N; null: all",
    )
    note: bool = Field(default=True, description="ask for an optional remark in free text")
    unsure: bool = Field(
        default=True, description="offer an optional mark for answers that the annotator is not sure of"
    )
    severity: list[str] = Field(
        default=[],
        max_length=10,
        description="names of levels, the mildest first, such as [minor, serious, extreme]: annotators may then say "
        "how severe each ticked label is; empty: not asked",
    )
    guidelines: str | None = Field(
        default=None, description="text put before the guidelines that are made from the taxonomy"
    )
    suggestions: Suggestions = Field(
        default=False,
        description="labels shown pre-ticked: the intended ones (true means the same), or those of the blind check "
        "(generate.check); they bias annotators (anchoring), so do not make gold without a control share",
    )
    control_share: float = Field(
        default=0.2, ge=0, le=1, description="share of records shown without suggestion, to measure the anchoring"
    )
    gold_questions: str | None = Field(
        default=None,
        description="JSONL file in the run's folder with id, text or messages, and labels: records with known answers "
        "that are mixed among the others to measure each annotator's accuracy; null: none",
    )
    gold_share: float = Field(
        default=0.05, gt=0, le=1, description="number of gold questions, as a share of the records that are pushed"
    )
    batch: int = Field(default=100, ge=1, le=500, description="records per request")

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str) -> str:
        return check_variable(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [level.strip().casefold() for level in self.severity]
        if names and (len(names) == 1 or "" in names or len(set(names)) < len(names)):
            raise ValueError("severity needs at least two levels with different names")
        if self.gold_questions is not None and self.suggestions and self.control_share == 0:
            raise ValueError(
                "gold questions have no suggestion, so annotators could recognise them: set control_share above 0"
            )
        return self


class Splits(StrictModel):
    """Shares of the final records; they add up to 1."""

    train: float = Field(default=0.0, ge=0, le=1, description="share for training")
    calibration: float = Field(
        default=0.5, ge=0, le=1, description="share that thresholds and calibration are fitted on"
    )
    test: float = Field(default=0.5, ge=0, le=1, description="share that headline numbers are measured on")

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.calibration + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of train, calibration and test add up to {total:g}, expected 1")
        return self


class ReconcileSection(StrictModel):
    """How annotators' answers become gold: reconcile."""

    method: Literal["majority", "dawid_skene", "mace"] = Field(
        default="majority",
        description="majority: all annotators count the same; dawid_skene, mace: answers are weighted by each "
        "annotator's estimated reliability, per label",
    )
    tie: Literal["adjudicate", "yes", "no"] = Field(
        default="adjudicate",
        description="a label with as many votes for as against it, or a posterior between 0.45 and 0.55: ask an "
        "expert, assign the label (yes), or do not (no)",
    )
    min_answers: int = Field(
        default=2, ge=1, description="with fewer submitted answers a record is not final but needs answers"
    )
    adjudicate_below_agreement: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="records whose annotators agree less than this (mean Jaccard) go to an expert",
    )
    adjudicate_below_posterior: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="dawid_skene, mace: records with a label that is decided with less than this probability go to "
        "an expert",
    )
    splits: Splits = Splits()
    bootstrap: int = Field(default=1000, ge=0, le=100_000, description="resamples of records for the 95 % intervals")
    iterations: int = Field(
        default=10_000,
        ge=1,
        description="dawid_skene, mace: maximum number of EM rounds; a fit ends when it has converged",
    )
    smoothing: float = Field(
        default=0.0,
        ge=0,
        description="dawid_skene: answers added to each cell of an annotator's confusion matrix. 0 is maximum "
        "likelihood; 1 is more accurate where labels are rare and annotators are few",
    )
    compare: bool = Field(
        default=True,
        description="also run the other methods, on at most 20,000 answers, and report how often they agree",
    )
