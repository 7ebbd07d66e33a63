"""What generate and preview ended without, and how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.schemas.manifest_json import Missing

if TYPE_CHECKING:
    from marginalia.pipeline.generation.blind_check import Checked
    from marginalia.pipeline.generation.generation_result import GenerationResult


def missing_texts(section: GenerateSection, result: GenerationResult, command: str) -> list[Missing]:
    """One entry for each reason for which slots are open. `command` is what was called."""
    of, found = f"of {result.planned:,} planned texts", []
    if result.unanswered:
        what = f"{result.unanswered:,} {of} got no answer from the endpoint; the last: {result.last_failure}"
        found.append(Missing(what=what, how=command, retry=True, blocks=True))
    if result.not_allowed:
        found.append(_over_budget(section, f"{result.not_allowed:,} {of} were not asked for", command))
    if rejected := result.open - result.unanswered - result.not_allowed:
        reasons = {reason: n for reason, n in result.reasons().items() if reason != "failed"}
        most = max(reasons, key=reasons.__getitem__)
        example = next(detail for _, _, reason, detail in result.rejected if reason == most)
        what = f"{rejected:,} {of} had every attempt rejected, most often as {most}: {example}"
        how = f"see rejected.parquet; change the templates, a filter or generate.max_attempts, then: {command}"
        found.append(Missing(what=what, how=how))
    return found


def missing_checks(section: GenerateSection, checked: Checked, command: str) -> list[Missing]:
    """The same for the blind check."""
    found, of = [], f"of {checked.questions:,} questions of the blind check"
    if checked.unanswered:
        what = f"{checked.unanswered:,} {of} got no answer; the last: {checked.last_failure}"
        found.append(Missing(what=what, how=command, retry=True, blocks=True))
    if checked.not_allowed:
        found.append(_over_budget(section, f"{checked.not_allowed:,} {of} were not asked", command))
    return found


def _over_budget(section: GenerateSection, what: str, command: str) -> Missing:
    assert section.budget is not None
    assert section.prices is not None
    spent = f"generate.budget {section.budget:g} {section.prices.currency} is used up"
    how = f"raise generate.budget (or generate's --budget), then: {command}"
    return Missing(what=f"{what}: {spent}", how=how, blocks=True)
