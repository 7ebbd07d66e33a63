"""The text of a suggested profile: YAML, with what the evaluation shows about each label as a comment above it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from textwrap import indent
from typing import Any

import yaml

from marginalia.schemas.text_checks import one_line
from marginalia.scoring.moderation_profile import LabelRule, Profile, Promise
from marginalia.scoring.score_request import GuardModel


def profile_text(profile: Profile, warnings: list[str]) -> str:
    """The YAML file. Reading it gives an equal profile."""
    values = _values(profile)
    labels = values.pop("labels")
    parts = [
        *_head(profile, warnings),
        _yaml({key: values[key] for key in values if key not in ("rules", "suggested")}),
    ]
    parts += ["", "# thresholds of the uncalibrated probability", "labels:"]
    for label, rule in profile.labels.items():
        parts += [f"  # {one_line(line)}" for line in _about(rule)]
        parts.append(indent(_yaml({label: labels[label]}), "  "))
    parts += ["", _yaml({key: values[key] for key in ("rules", "suggested") if key in values})]
    return "\n".join(parts) + "\n"


def _values(profile: Profile) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(profile.model_dump_json(exclude_none=True))
    guard = profile.guard
    optional = {
        name for name, field in GuardModel.model_fields.items() if not field.is_required() and not field.exclude
    }
    values["guard"] = {
        key: value
        for key, value in values["guard"].items()
        if key not in optional or getattr(guard, key) != GuardModel.model_fields[key].get_default()
    }
    if guard.allow_http:  # excluded from dumps
        values["guard"]["allow_http"] = True
    for rule in values["labels"].values():
        if not rule["ignore"]:
            del rule["ignore"]
    if profile.rules.straddling.tolerance is None:  # excluded as None, but not the default
        values["rules"]["straddling"]["tolerance"] = None
    return values


def _head(profile: Profile, warnings: list[str]) -> Iterator[str]:
    suggested = profile.suggested
    yield "# a profile for marginalia's Moderator; docs/serve.md describes every key"
    if suggested is not None:
        costs = f"a miss costs {suggested.cost_miss:g}, a false alarm {suggested.cost_false_alarm:g}"
        yield f"# suggested from the run {suggested.run}: {suggested.aim}; {costs}"
        if suggested.reviewed is not None:
            interval = f"{suggested.reviewed_low:.1%} to {suggested.reviewed_high:.1%}"
            found = f"{suggested.reviewed:.1%} ({interval}) of {suggested.records:,} test records"
            yield f"# review: {found}; at most {suggested.review_share:.1%} on the calibration split"
    yield from (f"# WARNING: {one_line(warning)}" for warning in warnings)


def _about(rule: LabelRule) -> Iterator[str]:
    if rule.promise is not None:
        yield promise_sentence(rule.promise)
    if rule.reason is not None:
        yield f"{'ignored' if rule.ignore else 'review only'}: {rule.reason}"


def promise_sentence(promise: Promise) -> str:
    """What was observed, its interval, and how many records it rests on."""
    return (
        f"block: precision {promise.precision:.3f} ({promise.low:.3f} to {promise.high:.3f} at "
        f"{promise.confidence:.0%}), from {promise.flagged:,} flagged of {promise.records:,} test records, "
        f"{promise.positives:,} with the label; aim: {promise.aim}"
    )


def _yaml(values: dict[str, Any]) -> str:
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000)).rstrip("\n")
