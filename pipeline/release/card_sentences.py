"""Sentences that a data set's card and its croissant.json share, as plain text: who labelled it, how far the annotators
agree, what it is for, and what its numbers do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marginalia.pipeline.report.as_text import joined, number, plural
from marginalia.pipeline.report.report_data import headlined, recommended_estimator, source_estimator
from marginalia.schemas.agreement_json import Agreement, Estimate
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.scoring.measures.conclusions import FEW_RECORDS, range_is_wide

MANY_RECORDS = 1_000

USES = (
    "Use it to measure classifiers of this policy, to calibrate them, and to choose their thresholds. Choose "
    "thresholds on the calibration split and measure them on the test split.",
    "Do not use it to train a model that writes such texts, or to judge people.",
)


@dataclass(frozen=True)
class DataOrigin:
    """Where the texts and labels come from. `models` wrote texts, others come from `files`; both are empty where the
    source is not recorded. `rarest`: the label that applies to the fewest records, and how many these are."""

    simulated: bool
    answered: bool  # the release has answers of single annotators
    imported: bool  # these were imported
    scored: bool  # the release has scores of guards
    records: int
    partly: int  # records in which not all labels were judged
    rarest: tuple[str, int]
    languages: Sequence[str]
    models: Sequence[str]
    files: Sequence[str]


def labelled_by(origin: DataOrigin) -> str:
    """Who gave the labels, in one paragraph."""
    every_answer = (
        " The table “annotations” contains every answer, so that you can combine them with another method."
        if origin.answered
        else ""
    )
    if origin.simulated:
        return (
            "No person labelled these records. Simulated annotators answered, which change the intended labels at "
            f"random.{every_answer}"
        )
    if origin.answered and origin.imported:
        return (
            "The answers of the annotators were imported together with the records. Their source says who gave "
            f"them.{every_answer}"
        )
    if origin.answered:
        return (
            "People labelled the records independently in Argilla, with the definitions of the labels as guidelines. "
            f"They could skip any record.{every_answer}"
        )
    return "The labels were imported together with the records. Their source says who gave them."


def agreement_sentence(agreement: Agreement) -> str:
    """The measures of agreement with their intervals, and the records that they are computed from."""
    who = "simulated annotators" if agreement.simulated else "annotators"
    if agreement.pairable == 0:
        return f"Agreement between {who} is not known: no record was answered by two of them."
    sentence = (
        f"Agreement over {plural(agreement.pairable, 'record')} that at least two {who} answered, with 95 % intervals "
        f"over records: Krippendorff's alpha with MASI distance {interval(agreement.alpha_masi)}; mean of the nominal "
        f"alphas of the labels {interval(agreement.alpha_mean)}; share of pairs with equal label sets "
        f"{interval(agreement.exact)}."
    )
    if agreement.partial_answers:
        judge = plural(agreement.partial_answers, "answer judges", "answers judge")
        sentence += f" {judge} only some of the labels; agreement is measured on the labels that both answers judge."
    return sentence


def limits(origin: DataOrigin, agreement: Agreement | None, evaluation: Evaluation | None) -> list[str]:
    """What the numbers of the data set do not say, each limit computed from the run."""
    return [
        *_limits_of_labels(origin, agreement),
        *_limits_of_size(origin),
        *_limits_of_texts(origin),
        *(_limits_of_scores(evaluation) if origin.scored else []),
    ]


def _limits_of_labels(origin: DataOrigin, agreement: Agreement | None) -> list[str]:
    sentences = []
    if origin.simulated:
        sentences.append(
            "The annotators are simulated. Agreement, error rates and guard results show that the tool works; they say "
            "nothing about how people would label these texts."
        )
    else:
        sentences.append("The labels are as good as the definitions of the labels and the annotators who applied them.")
    if agreement is None:
        sentences.append("Agreement between annotators was not measured, so the share of wrong labels is not known.")
    elif not origin.simulated:
        sentences.append("Agreement is not accuracy: annotators can agree on a wrong label.")
    if origin.partly:
        sentences.append(
            f"In {plural(origin.partly, 'record')} only some labels were judged. The other labels are unknown there."
        )
    return sentences


def _limits_of_size(origin: DataOrigin) -> list[str]:
    sentences = []
    label, n = origin.rarest
    if origin.records < MANY_RECORDS:
        sentences.append(
            f"The data set is small ({plural(origin.records, 'record')}): intervals are wide, and small differences "
            "between classifiers cannot be seen."
        )
    if n < FEW_RECORDS:
        applies = f"applies to {plural(n, 'record')}" if n else "applies to no record"
        sentences.append(f"Results for single labels are uncertain: the rarest label, {label}, {applies}.")
    return sentences


def _limits_of_texts(origin: DataOrigin) -> list[str]:
    sentences = []
    if origin.models:
        some = "Some texts" if origin.files else "The texts"
        sentences.append(
            f"{some} were written by a language model ({joined(list(origin.models))}), not by users. Such texts can be "
            "shorter, clearer and more alike than real messages."
        )
    if origin.files:
        sentences.append(
            f"{'Other' if origin.models else 'The'} texts come from {joined(list(origin.files))}. Whom and what they "
            "represent depends on how that file was made."
        )
    if not origin.models and not origin.files:
        sentences.append("Where the texts come from is not recorded.")
    one = len(origin.languages) == 1
    languages = "one language (code: " if one else f"{len(origin.languages)} languages (codes: "
    sentences.append(
        f"The texts are in {languages}{joined(list(origin.languages))}). Results do not carry over to other languages"
        + ("." if one else ", and can differ between these.")
    )
    sentences.append(
        "How often each label occurs was planned or comes from a file, so it differs from real traffic. Precision "
        "depends on it: measure precision again on your own traffic."
    )
    return sentences


def _limits_of_scores(evaluation: Evaluation | None) -> list[str]:
    sentences = [
        "The scores belong to the guard and the model revision that made them. Another revision gives other numbers."
    ]
    guards = evaluation.guards if evaluation is not None else []
    if not guards:
        sentences.append("The scores were not compared with the labels, so how good they are is not known.")
    wide = [
        guard.guard
        for guard in guards
        for best in [recommended_estimator(guard)]
        if best is not None and headlined(guard) and any(map(range_is_wide, best.metrics.values()))
    ]
    bounds = (
        "Each probability has a lower and an upper bound, because the search leaves part of the probability unexplored."
    )
    if wide:
        bounds += (
            f" For {joined(wide)} the bounds matter: they leave a metric open over more than a third of the width of "
            "its sampling interval."
        )
    if own := [guard.guard for guard in guards if source_estimator(guard)]:
        bounds += f" {joined(own)}: a server or a classification head gave the numbers, so there is nothing to bound."
    return [*sentences, bounds]


def interval(estimate: Estimate) -> str:
    """The value with its interval, or that it is not defined."""
    if estimate.value is None:
        return "not defined"
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"
