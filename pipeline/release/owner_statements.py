"""What only the owner of a data set can state: who the annotators were, their pay and consent, personal data, contact.
The values come from the config section `release`; a statement that is missing is shown as missing."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.pipeline.config.release import ReleaseSection


@dataclass(frozen=True)
class OwnerStatement:
    """One statement. `setting`: its key in the config. `missing`: what a card says when `text` is None."""

    setting: str
    title: str
    text: str | None
    missing: str


def owner_statements(section: ReleaseSection, *, simulated: bool) -> list[OwnerStatement]:
    """The statements that the data set needs. With simulated annotators, there are no people to describe."""
    sheet = section.datasheet
    about_annotators = [
        OwnerStatement(
            "release.datasheet.about_annotators", "Annotators", sheet.about_annotators, "who the annotators were"
        ),
        OwnerStatement("release.datasheet.pay", "Pay", sheet.pay, "what the annotators were paid"),
        OwnerStatement("release.datasheet.consent", "Consent", sheet.consent, "what the annotators agreed to"),
    ]
    return [
        *([] if simulated else about_annotators),
        OwnerStatement(
            "release.datasheet.personal_data",
            "Personal data",
            sheet.personal_data,
            "whether the texts contain personal data, and how that was checked",
        ),
        OwnerStatement("release.contact", "Contact", section.contact, "where to report a problem"),
    ]


def missing_statements(section: ReleaseSection, *, simulated: bool) -> list[str]:
    """For each statement that the config does not have: its key, and what it should say."""
    return [
        f"{statement.setting} ({statement.missing})"
        for statement in owner_statements(section, simulated=simulated)
        if statement.text is None
    ]
