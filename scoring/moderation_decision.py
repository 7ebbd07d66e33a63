"""From the scores of one record to a decision, by the rules of a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from marginalia.schemas.calibration_json import Calibration
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.scoring.measures.calibration import apply
from marginalia.scoring.moderation_profile import Action, LabelRule, ModerationRules
from marginalia.scoring.record_scores import RecordScores
from marginalia.scoring.scored_record import Probability

SEVERITY: Mapping[Action, int] = {"pass": 0, "review": 1, "block": 2}
TOO_LONG = "too long: "  # how the error of a record begins that does not fit into the model's context
_ON_FAILURE: Mapping[Literal["closed", "open", "review"], Action] = {
    "closed": "block",
    "open": "pass",
    "review": "review",
}


@dataclass(frozen=True)
class DecidedLabel:
    """What one label calls for, and why. `calibrated` is None without a calibration.

    `straddles`: a threshold is between the bounds, so the action is that of `rules.straddling`."""

    label: str
    action: Action
    reason: str
    probability: Probability
    calibrated: Probability | None
    rule: LabelRule
    straddles: bool = False


@dataclass(frozen=True)
class ModerationDecision:
    """The decision about one record: the strictest of what its labels and the rules call for.

    `reasons`: why, the strictest first; empty for a record that passes because no label applies. `labels`: every label
    that the profile does not ignore; empty for a record without scores, for which `error` says why. `seconds` and
    `forward_passes`: the record's share of scoring, both searches included; `searches` is 2 after a second one."""

    record_id: str
    action: Action
    reasons: list[str] = field(default_factory=list)
    labels: dict[str, DecidedLabel] = field(default_factory=dict)
    off_language: float | None = None
    seconds: float = 0.0
    forward_passes: int = 0
    searches: int = 1
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of this as plain values, for JSON."""
        values = asdict(self)
        values["labels"] = {
            name: {
                "action": label.action,
                "reason": label.reason,
                **label.probability._asdict(),
                "calibrated": label.calibrated._asdict() if label.calibrated is not None else None,
                "block": label.rule.block,
                "review": label.rule.review,
                "straddles": label.straddles,
            }
            for name, label in self.labels.items()
        }
        return values


def decide_scores(
    scores: RecordScores,
    rules_of_labels: Mapping[str, LabelRule],
    rules: ModerationRules,
    calibration: Calibration | None = None,
) -> ModerationDecision:
    """The decision about one record, by its scores. Their estimator is the profile's."""
    if scores.error is not None:
        return decide_error(scores.record_id, scores.error, rules)
    labels = {
        label: decide_label(label, scores[label], rule, rules.straddling.then, calibration)
        for label, rule in rules_of_labels.items()
        if not rule.ignore
    }
    called_for = [(label.action, f"{name}: {label.reason}") for name, label in labels.items()]
    if scores.off_language is not None and scores.off_language >= rules.off_format.share:
        found = f"off format: the probability {scores.off_language:.3f} is on answers outside the guard's format"
        called_for.append((rules.off_format.then, f"{found}, from {rules.off_format.share:g}: {rules.off_format.then}"))
    called_for.sort(key=lambda pair: -SEVERITY[pair[0]])
    action = called_for[0][0] if called_for else "pass"
    return ModerationDecision(
        scores.record_id,
        action,
        [reason for called, reason in called_for if called != "pass"],
        labels,
        scores.off_language,
        scores.result.seconds,
        scores.result.forward_passes,
    )


def decide_error(record_id: str, error: str, rules: ModerationRules) -> ModerationDecision:
    """The decision about a record that has no scores."""
    if error.startswith(TOO_LONG):
        return ModerationDecision(record_id, rules.too_long, [f"{error}: {rules.too_long}"], error=error)
    action = _ON_FAILURE[rules.fail]
    return ModerationDecision(record_id, action, [f"not scored: {error}; fail: {rules.fail}"], error=error)


def decide_label(
    label: str, scored: Probability, rule: LabelRule, then: Action, calibration: Calibration | None = None
) -> DecidedLabel:
    """What a label calls for. Where its bounds call for different actions, it is `then`, within these two."""
    least, most = action_at(scored.lower, rule), action_at(scored.upper, rule)
    calibrated = _calibrated(calibration, label, scored)
    bounds = f"{scored.lower:.4g} to {scored.upper:.4g}"
    value = f"bounds {bounds}" if scored.probability is None else f"probability {scored.probability:.4g} ({bounds})"
    if least == most:
        reason = f"{value}: {_position(rule, least)}"
        return DecidedLabel(label, least, reason, scored, calibrated, rule)
    action = sorted((least, then, most), key=lambda one: SEVERITY[one])[1]
    reason = f"{value} straddles a threshold ({_thresholds(rule)}): {action}"
    return DecidedLabel(label, action, reason, scored, calibrated, rule, straddles=True)


def action_at(probability: float, rule: LabelRule) -> Action:
    """What a label with exactly this probability calls for."""
    if rule.block is not None and probability >= rule.block:
        return "block"
    if rule.review is not None and probability >= rule.review:
        return "review"
    return "pass"


def _position(rule: LabelRule, action: Action) -> str:
    if action == "pass":
        return f"below {_thresholds(rule)}"
    return f"{action} from {rule.block if action == 'block' else rule.review:.4g}"


def _thresholds(rule: LabelRule) -> str:
    named = {"review": rule.review, "block": rule.block}
    return ", ".join(f"{name} from {at:.4g}" for name, at in named.items() if at is not None)


def _calibrated(calibration: Calibration | None, label: str, scored: Probability) -> Probability | None:
    """The calibrated probability and bounds. The maps are monotone, so they keep the order of the three."""
    if calibration is None:
        return None
    if label == UNSAFE and label not in calibration.labels:  # the pooled map was not fitted on verdicts
        return scored
    mapped: Callable[[float], float] = lambda p: apply(calibration, label, p)  # noqa: E731
    lower, upper = mapped(scored.lower), mapped(scored.upper)
    if scored.probability is None:
        return Probability(None, lower, upper)
    probability = mapped(scored.probability)
    return Probability(probability, min(lower, probability), max(upper, probability))  # against rounding
