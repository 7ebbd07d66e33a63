"""What generate and preview could not finish, and how to continue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marginalia.pipeline.config.generation import GenerateSection
from marginalia.schemas.manifest_json import Missing

if TYPE_CHECKING:
    from marginalia.pipeline.generation.blind_check import BlindCheckResult
    from marginalia.pipeline.generation.generation_result import GenerationResult


def missing_texts(section: GenerateSection, result: GenerationResult, command: str) -> list[Missing]:
    """One entry for each reason for which slots are open. `command` is the command to run again."""
    of_planned, missing = f"of {result.planned:,} planned texts", []
    if result.unanswered:
        what = f"{result.unanswered:,} {of_planned} got no answer from the endpoint; last error: {result.last_failure}"
        missing.append(Missing(what=what, how=command, retry=True, blocks=True))
    if result.not_allowed:
        missing.append(_over_budget(section, f"{result.not_allowed:,} {of_planned} were not requested", command))
    if rejected := result.open - result.unanswered - result.not_allowed:
        reasons = {reason: n for reason, n in result.rejected.reasons().items() if reason != "failed"}
        commonest = max(reasons, key=reasons.__getitem__)
        example = next(detail for _, _, reason, detail in result.rejected if reason == commonest)
        what = f"{rejected:,} {of_planned} had every attempt rejected, most often as {commonest}: {example}"
        how = f"see rejected.parquet; change the templates, a filter or generate.max_attempts, then: {command}"
        missing.append(Missing(what=what, how=how))
    return missing


def missing_checks(section: GenerateSection, checked: BlindCheckResult, command: str) -> list[Missing]:
    """One entry for each reason for which questions of the blind check have no answer."""
    missing, of_questions = [], f"of {checked.questions:,} questions of the blind check"
    if checked.unanswered:
        what = f"{checked.unanswered:,} {of_questions} got no answer; last error: {checked.last_failure}"
        missing.append(Missing(what=what, how=command, retry=True, blocks=True))
    if checked.not_allowed:
        missing.append(_over_budget(section, f"{checked.not_allowed:,} {of_questions} were not asked", command))
    return missing


def _over_budget(section: GenerateSection, not_done: str, command: str) -> Missing:
    assert section.budget is not None
    assert section.prices is not None
    spent = f"generate.budget {section.budget:g} {section.prices.currency} is used up"
    how = f"raise generate.budget (or generate's --budget), then: {command}"
    return Missing(what=f"{not_done}: {spent}", how=how, blocks=True)
