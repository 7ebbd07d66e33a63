"""Which guard for which label: every outcome from planted numbers, and the sentence that decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marginalia.pipeline.compare.comparison_model import GuardForLabel, LabelChoice, Use
from marginalia.pipeline.compare.comparison_sentences import decision_sentence, use_text
from marginalia.pipeline.compare.label_choice import Standing, choice, standing
from marginalia.schemas.evaluation_json import Finding, Metric
from marginalia.scoring.measures.conclusions import Answer

A, B = (Standing(name, "90 %", "cannot tell", "yes", "yes") for name in ("small", "large"))
CLEAR = Metric(value=0.1, low=0.05, high=0.15, n=200)
UNCLEAR = Metric(value=0.1, low=-0.05, high=0.15, n=200)
NAMES = ("small", "large")


def chosen(found: Finding, a: Standing, b: Standing, difference: Metric = CLEAR) -> tuple[Use, str]:
    return choice(found, a, b, metric="roc_auc", target=0.9, difference=difference)


def reaching(standing: Standing, answer: Answer) -> Standing:
    return replace(standing, reaches=answer)


def test_the_clearly_better_guard_is_used() -> None:
    assert chosen("better", A, B) == ("b", "clearly better in ROC AUC")
    assert chosen("worse", A, B) == ("a", "clearly better in ROC AUC")
    alone = chosen("better", reaching(A, "no"), reaching(B, "yes"))
    assert alone == ("b", "clearly better in ROC AUC; alone reaches 90 % precision")


def test_a_guard_that_alone_reaches_the_promise_is_used() -> None:
    expected = "alone reaches 90 % precision; no clear difference in ROC AUC"
    assert chosen("no clear difference", reaching(A, "yes"), reaching(B, "no"), UNCLEAR) == ("a", expected)
    # the other one may reach it as well: nothing is shown
    use, why = chosen("no clear difference", reaching(A, "yes"), B, UNCLEAR)
    assert (use, why) == ("cannot tell", "no clear difference in ROC AUC")


def test_no_guard_reaches_the_promise_only_if_both_surely_fall_short() -> None:
    short_a, short_b = reaching(A, "no"), reaching(B, "no")
    assert chosen("no clear difference", short_a, short_b, UNCLEAR) == (
        "no guard reaches the promise",
        "both: precision below 90 %",
    )
    assert chosen("better", replace(A, useful="no"), short_b) == (
        "no guard reaches the promise",
        "small: hardly better than chance; large: precision below 90 %; large is clearly better in ROC AUC",
    )
    for answer in ("yes", "cannot tell", "not computed"):
        assert chosen("no clear difference", short_a, reaching(B, answer), UNCLEAR)[0] != "no guard reaches the promise"


def test_a_better_ranking_does_not_decide_for_a_guard_that_falls_short_or_may_be_no_better_than_chance() -> None:
    assert chosen("better", A, reaching(B, "no")) == (
        "cannot tell",
        "large is clearly better in ROC AUC, but: precision below 90 %",
    )
    assert chosen("worse", replace(A, above_chance="cannot tell"), B) == (
        "cannot tell",
        "small is clearly better in ROC AUC, but: perhaps no better than chance",
    )
    # the one that reaches the promise ranks worse than the one that does not
    assert chosen("better", reaching(A, "yes"), reaching(B, "no"))[0] == "cannot tell"


def test_why_it_cannot_tell() -> None:
    same = Metric(value=0, low=0, high=0, n=200)
    assert chosen("no clear difference", A, B, same) == ("cannot tell", "the same on every resample")
    within = CLEAR.model_copy(update={"range_low": -0.2, "range_high": 0.3})
    assert chosen("no clear difference", A, B, within) == (
        "cannot tell",
        "no clear difference in ROC AUC: the bounds of the probabilities could explain the difference",
    )


@pytest.mark.parametrize(
    ("auc", "above_chance", "useful"),
    [
        (Metric(value=0.9, low=0.8, high=0.95, n=99), "yes", "yes"),
        (Metric(value=0.55, low=0.45, high=0.65, n=99), "cannot tell", "cannot tell"),
        (Metric(value=0.5, low=0.42, high=0.58, n=99), "cannot tell", "no"),
        (Metric(value=1.0, n=99, reason="every resample gave the same value"), "yes", "yes"),
        (Metric(value=1.0, n=99, range_low=0.4, range_high=1.0), "cannot tell", "cannot tell"),
        (Metric(value=0.5, n=99, reason="every resample gave the same value"), "not computed", "not computed"),
        (Metric(value=1.0, n=19), "not computed", "not computed"),
        (None, "not computed", "not computed"),
    ],
)
def test_what_the_roc_auc_shows(auc: Metric | None, above_chance: Answer, useful: Answer) -> None:
    shown = standing("small", auc, "cannot tell", 0.9)
    assert (shown.above_chance, shown.useful) == (above_chance, useful)
    assert shown.falls_short == ("hardly better than chance" if useful == "no" else "")


def test_without_a_target_no_promise_is_claimed() -> None:
    a, b = (replace(side, reaches="not computed") for side in (A, B))
    assert choice("better", a, b, metric="average_precision", target=None, difference=CLEAR) == (
        "b",
        "clearly better in average precision",
    )


def row(name: str, use: Use, reaches: Answer = "cannot tell", found: Finding = "no clear difference") -> LabelChoice:
    side = GuardForLabel(threshold=0.5, goal="max_f1", judged=None, reaches=reaches)
    why = "too few records" if use == "not computed" else "as planted"
    return LabelChoice(label=name.lower(), name=name, use=use, why=why, a=side, b=side, positives=9, n=99,
                       difference=None, finding=found)  # fmt: skip


def sentence(
    *rows: LabelChoice, target: float | None = 0.9, withheld: tuple[str, ...] = (), simulated: bool = False
) -> str:
    return decision_sentence(NAMES, rows, target, withheld=withheld, simulated=simulated)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [row("Refund", "a", "yes"), row("Billing", "a", "yes"), row("Threat", "b", "yes"), row("X", "cannot tell")],
            "Use small for Refund (at 0.500) and Billing (at 0.500) and large for Threat (at 0.500). There, 90 % "
            "precision is shown. These records cannot tell them apart for X.",
        ),
        (
            [row("Refund", "b", "yes"), row("Billing", "b"), *(row(name, "cannot tell") for name in "VWXYZ")],
            "Use large for Refund (at 0.500) and Billing (at 0.500). Of these, 90 % precision is shown only for "
            "Refund. These records cannot tell them apart for the other 5 labels.",
        ),
        (
            [row("Refund", "b"), row("X", "no guard reaches the promise"), row("Y", "not computed")],
            "Use large for Refund (at 0.500). There, 90 % precision is not shown, so review what is flagged instead of "
            "blocking it. No guard reaches 90 % precision at its threshold for X. Not compared: Y.",
        ),
        (
            [row(name, "b", "yes") for name in "VWXYZ"],
            "Use large for all 5 labels. There, 90 % precision is shown.",
        ),
        (
            [*(row(name, "a", "yes") for name in "VWXYZ"), row("Refund", "cannot tell", found="better")],
            "Use small for V (at 0.500), W (at 0.500) and 3 more labels (see the table). There, 90 % precision is "
            "shown. These records do not decide between them for Refund.",
        ),
        (
            [row(name, "cannot tell") for name in "XYZ"],
            "These records cannot tell small and large apart for any label.",
        ),
        (
            [row(name, "no guard reaches the promise") for name in "XYZ"],
            "No guard reaches 90 % precision at its threshold for any label.",
        ),
        (
            [row("X", "not computed"), row("Y", "not computed")],
            "Nothing is decided between small and large: too few records.",
        ),
    ],
)  # fmt: skip
def test_the_sentence_says_what_the_table_shows(rows: list[LabelChoice], expected: str) -> None:
    assert sentence(*rows) == expected


def test_the_sentence_of_withheld_and_simulated_runs() -> None:
    rows = [row("X", "not computed")]
    assert sentence(*rows, withheld=("large",)) == "Nothing is decided: large did not keep the answer format."
    assert sentence(row("X", "b"), target=None) == "Use large for X (at 0.500)."
    assert sentence(row("X", "b"), simulated=True).startswith(
        "Nothing can be decided from simulated labels. If people had given them: Use large for X"
    )


def test_the_outcome_in_the_table() -> None:
    uses = ("a", "b", "cannot tell", "no guard reaches the promise", "not computed")
    assert [use_text(row("X", use), NAMES, 0.9) for use in uses] == [
        "use small",
        "use large",
        "cannot tell",
        "no guard reaches 90 %",
        "not computed",
    ]
