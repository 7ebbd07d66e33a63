"""What a report concludes from its numbers: one value per question, with the words for every place that shows it.

Each function in the modules `…_findings.py` answers the question in the first line of its docstring, from
`marginalia.scoring.measures.conclusions`. With fewer than FEW_RECORDS records the answer is `not computed`."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.scoring.measures.conclusions import Answer


@dataclass(frozen=True)
class Finding:
    """An answer, and its words without a full stop.

    `sentence` is empty where a page says nothing. `title` is the heading of a figure or section, and `aria` names its
    drawing for readers who do not see it; both default to the sentence."""

    answer: Answer
    sentence: str
    title: str = ""
    aria: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.sentence)
        object.__setattr__(self, "aria", self.aria or self.title)


def answered(yes: Answer, no: Answer) -> Answer:
    """One answer to "is it so, or the opposite?" from those to "is it so?" and "is it the opposite?"."""
    if "not computed" in (yes, no):
        return "not computed"
    return "yes" if yes == "yes" else "no" if no == "yes" else "cannot tell"


FROM_PAIRED: dict[str, Answer] = {
    "better": "yes",
    "worse": "no",
    "no clear difference": "cannot tell",
    "not known": "not computed",
    "descriptive": "not computed",
}  # the finding of a paired difference → whether it is better
