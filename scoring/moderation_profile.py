"""The profile of a moderation service: a YAML file that says how scores become decisions.

It names a guard and its model, the calibration and the thresholds that the decisions rest on (with their hashes), what
is done per label, and what is done when a score is missing or not precise enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from marginalia.schemas.base_model import StrictModel, located_error
from marginalia.schemas.errors import InputError, MarginaliaError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.storage.files import read_model, sha256
from marginalia.schemas.storage.yaml_files import line_in, load_yaml
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.schemas.thresholds_json import ThresholdsFile
from marginalia.scoring.calibrated_scores import choose_maps
from marginalia.scoring.config import GuardRun
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.models.model_reference import check_reference
from marginalia.scoring.score_request import SearchOptions, check_estimators

Action = Literal["block", "review", "pass"]
EXPLAIN = "docs/serve.md describes every key"
SUGGEST = "marginalia profile suggest --run RUN writes a profile"
_DEFAULTS = {name: field.get_default() for name, field in SearchOptions.model_fields.items()}


class HashedFile(StrictModel):
    """A file of a run or a release. It is refused when its content has changed."""

    path: str = Field(description="relative to the profile")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ProfileSearch(StrictModel):
    """How far a record is searched, as in `score` of config.yaml. Thresholds hold for scores of the same settings."""

    tolerance: float = Field(default=_DEFAULTS["tolerance"], ge=0, le=1)
    node_budget: int = Field(default=_DEFAULTS["node_budget"], ge=1)
    answer_tokens: int = Field(default=_DEFAULTS["answer_tokens"], ge=1)
    passages: int = Field(default=_DEFAULTS["passages"], ge=1)
    passage_interval: float = Field(default=_DEFAULTS["passage_interval"], ge=0, le=1)
    batch_records: int = Field(default=_DEFAULTS["batch_records"], ge=1)
    batch_tokens: int = Field(default=_DEFAULTS["batch_tokens"], ge=1)


class Promise(StrictModel):
    """What the evaluation shows about the decisions `block` of one label, on the test split."""

    aim: str = Field(description="such as 'precision >= 0.9'")
    goal: str = Field(description="the goal in thresholds.json whose threshold is `block`")
    precision: float = Field(description="observed share of right decisions")
    low: float = Field(description="lower end of its interval")
    high: float
    confidence: float = Field(description="of the interval, for this label on its own")
    flagged: int = Field(description="test records at or above the threshold")
    positives: int = Field(description="test records with the label")
    records: int = Field(description="test records in which the label was judged")


class LabelRule(StrictModel):
    """What is done about one label: thresholds of its uncalibrated probability, or `ignore`."""

    block: float | None = Field(default=None, ge=0, le=1, description="block at this probability and above")
    review: float | None = Field(default=None, ge=0, le=1, description="review from this probability, below `block`")
    ignore: bool = Field(default=False, description="the label decides nothing")
    reason: str | None = Field(default=None, description="why it does not block")
    promise: Promise | None = Field(default=None, description="only with `block`")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        thresholds = [self.block, self.review]
        if self.ignore and thresholds != [None, None]:
            raise located_error("a label with ignore has no thresholds", "ignore", hint="remove block and review")
        if not self.ignore and thresholds == [None, None]:
            raise located_error("nothing is decided about this label", hint="give block, review, or ignore: true")
        if self.block is not None and self.review is not None and self.review >= self.block:
            message = f"review starts at {self.review:g}, which is not below block at {self.block:g}"
            raise located_error(message, "review", hint="lower review, or leave it out")
        if self.promise is not None and self.block is None:
            raise located_error("a promise is about block, which is missing", "promise", hint="remove promise")
        return self


class StraddlingRule(StrictModel):
    """For a label with a threshold between its bounds: a second search, then an action."""

    tolerance: float | None = Field(default=1e-6, ge=0, le=1, description="of the second search; null: no second one")
    node_budget: int = Field(default=1024, ge=1, description="of the second search")
    then: Action = Field(
        default="review",
        description="when the threshold is still between the bounds; never less than the lower bound calls for, and "
        "never more than the upper bound does",
    )


class OffFormatRule(StrictModel):
    """For a guard that leaves its answer format."""

    share: float = Field(default=0.2, ge=0, le=1, description="of the probability outside the format, from which on …")
    then: Action = Field(default="review", description="… this is the least that is done")


class ModerationRules(StrictModel):
    """What is done when a record has no scores, or scores that are not precise enough."""

    straddling: StraddlingRule = StraddlingRule()
    off_format: OffFormatRule = OffFormatRule()
    too_long: Action = Field(default="review", description="for a record that does not fit into the model's context")
    fail: Literal["closed", "open", "review"] = Field(
        default="closed", description="for a record that cannot be scored: closed blocks it, open lets it pass"
    )


class SuggestedFrom(StrictModel):
    """Where a suggested profile comes from. The service does not use it."""

    run: str
    aim: str
    cost_miss: float
    cost_false_alarm: float
    review_share: float = Field(description="the largest share of records that may be sent to review")
    reviewed: float | None = Field(description="the share on the test split; null without test records")
    reviewed_low: float | None
    reviewed_high: float | None
    records: int = Field(description="records of the test split")


class Profile(StrictModel):
    """The whole of a profile."""

    version: Literal[1] = 1
    simulated: bool = Field(default=False, description="the thresholds come from simulated annotators")
    guard: GuardRun = Field(description="as an entry of score.guards in config.yaml; files are relative to the profile")
    taxonomy: str | None = Field(default=None, description="a shipped taxonomy, or a YAML file relative to the profile")
    estimator: str = Field(default="marginal", description="whose probabilities are compared with the thresholds")
    search: ProfileSearch = ProfileSearch()
    calibration: HashedFile | None = Field(default=None, description="calibration.json of a run or a release")
    thresholds: HashedFile | None = Field(default=None, description="thresholds.json of the same run or release")
    labels: dict[str, LabelRule] = Field(min_length=1, description="every label that the guard scores")
    rules: ModerationRules = ModerationRules()
    suggested: SuggestedFrom | None = None

    @field_validator("estimator")
    @classmethod
    def _known(cls, name: str) -> str:
        return check_estimators([name])[0]

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if all(rule.ignore for rule in self.labels.values()):
            raise located_error("every label is ignored, so every record would pass", "labels", hint=SUGGEST)
        finer = self.rules.straddling.tolerance
        if finer is not None and finer > self.search.tolerance:
            message = f"the second search has the tolerance {finer:g}, the first one {self.search.tolerance:g}"
            raise located_error(
                message, "rules", "straddling", "tolerance", hint="give a smaller one, or null for no second search"
            )
        return self


@dataclass(frozen=True)
class ProfileFile:
    """A profile that was read from a file."""

    path: Path
    sha256: str
    profile: Profile

    def error(self, message: str, *at: str, hint: str | None = None) -> InputError:
        """An error with the line of the key `at`."""
        return InputError.at(self.path, message, line=line_in(self.path, *at), hint=hint)

    def file(self, key: Literal["calibration", "thresholds"]) -> Path | None:
        """The file that `key` names; None when the profile has none. Raises InputError when it is missing or its hash
        differs."""
        named: HashedFile | None = getattr(self.profile, key)
        if named is None:
            return None
        path = self.path.parent / named.path
        if not path.is_file():
            raise self.error(f"{key}: {path} does not exist", key, "path", hint="correct the path")
        if (found := sha256(path)) != named.sha256:
            raise self.error(
                f"{key}: {path} has changed since the profile was written (sha256 {found[:12]}…, expected "
                f"{named.sha256[:12]}…)",
                key,
                "sha256",
                hint="marginalia profile suggest writes a profile for the new file",
            )
        return path

    def load_guard(self) -> Guard:
        """The guard, without its model. Raises InputError when its file or its taxonomy cannot be read."""
        profile, folder = self.profile, self.path.parent
        taxonomy = load_taxonomy(profile.taxonomy, relative_to=folder) if profile.taxonomy is not None else None
        return load_guard(profile.guard.guard, taxonomy, relative_to=folder, categories=profile.guard.categories)


def read_profile(path: Path) -> ProfileFile:
    """The profile in `path`, with its values checked but not the files that it names. Raises InputError with the
    line."""
    profile = load_yaml(path, Profile, explain=EXPLAIN)
    return ProfileFile(path, sha256(path), profile)


def profile_problems(file: ProfileFile) -> Iterator[MarginaliaError]:
    """What is wrong with the files, labels, thresholds and the model that a profile names. Loads no model."""
    guard = None
    try:
        guard = file.load_guard()
    except MarginaliaError as error:
        yield error
    if guard is not None:
        yield from _label_problems(file, guard)
    for key, check in (("thresholds", _check_thresholds), ("calibration", _check_calibration)):
        try:
            path = file.file(key)  # type: ignore[arg-type]
            if path is not None and guard is not None:
                check(file, path, guard)
        except MarginaliaError as error:
            yield error
    if not file.profile.guard.model.startswith(("http://", "https://")):
        try:
            check_reference(file.profile.guard.model, file.profile.guard.revision)
        except InputError as error:
            yield error.for_setting(file.path, "guard.model", line=line_in(file.path, "guard", "model"))


def _label_problems(file: ProfileFile, guard: Guard) -> Iterator[InputError]:
    listed = file.profile.labels
    for label in listed:
        if label not in guard.rows:
            near = did_you_mean(label, guard.rows) or f"; it scores {', '.join(guard.rows)}"
            yield file.error(f"the guard does not score the label '{label}'{near}", "labels", label)
    if missing := [label for label in guard.rows if label != UNSAFE and label not in listed]:
        message = f"nothing is decided about the labels {', '.join(missing)}, which the guard scores"
        yield file.error(message, "labels", hint="give each of them block, review, or ignore: true")


def _check_thresholds(file: ProfileFile, path: Path, guard: Guard) -> None:
    """Raises InputError unless the thresholds are those of the profile's guard and estimator, and each `block` with a
    promise is the threshold that the promise is about."""
    name, estimator = file.profile.guard.name, file.profile.estimator
    guards = read_model(path, ThresholdsFile, made_by="marginalia evaluate --run RUN").guards
    if name not in guards:
        near = did_you_mean(name, guards) or f"; it has: {', '.join(guards)}"
        raise file.error(f"{path} has no guard '{name}'{near}", "guard", "name")
    if guards[name].withheld is not None:
        raise file.error(f"the thresholds of '{name}' are withheld: {guards[name].withheld}", "thresholds")
    estimators = guards[name].estimators
    if estimator not in estimators:
        near = did_you_mean(estimator, estimators) or f"; it has: {', '.join(estimators)}"
        raise file.error(f"{path} has no thresholds of '{estimator}' for '{name}'{near}", "estimator")
    for label, rule in file.profile.labels.items():
        if rule.promise is None:
            continue
        goals = estimators[estimator].labels.get(label, {})
        of_goal = goals[rule.promise.goal].threshold if rule.promise.goal in goals else None
        if of_goal != rule.block:
            raise file.error(
                f"block at {rule.block:g} has a promise about another threshold: for '{rule.promise.goal}' {path} has "
                f"{'none' if of_goal is None else f'{of_goal:g}'}",
                "labels",
                label,
                "block",
                hint="remove the promise, or use its threshold",
            )


def _check_calibration(file: ProfileFile, path: Path, guard: Guard) -> None:
    profile = file.profile
    chosen = choose_maps(
        path,
        guard=guard.name,
        rows=guard.rows,
        model=profile.guard.model,
        estimators=[profile.estimator],
        named=profile.guard.name,
        coverage=guard.coverage,
    )
    if (withheld := chosen.maps[profile.estimator].withheld) is not None:
        raise file.error(f"the maps of '{profile.guard.name}' are withheld: {withheld}", "calibration")
