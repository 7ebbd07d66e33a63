"""Findings about one guard as a whole: its estimators against chance and label frequencies, and its bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from marginalia.pipeline.report.as_text import (
    BOUNDS_EXPLAIN,
    CHANCE,
    NAMES,
    explained_by_bounds,
    interval,
    joined,
    number,
    plain,
    plural,
    signed_interval,
    with_interval,
)
from marginalia.pipeline.report.finding import FROM_PAIRED, Finding, answered
from marginalia.schemas.evaluation_json import EstimatorEvaluation, GuardEvaluation, Metric
from marginalia.scoring.measures.conclusions import FEW_RECORDS, compare

NOT_CHOSEN = "not chosen by evaluate.where"
CHANCE_WORDS = {
    "yes": "better than chance",
    "no": "worse than chance",
    "cannot tell": "perhaps no better than chance",
    "not computed": "not known",
}


def chance_metric(estimator: EstimatorEvaluation) -> tuple[str, Metric]:
    """(name, metric) that decides whether the estimator is better than chance: macro ROC AUC, or micro ROC AUC where
    macro has no interval.

    Macro is stricter, as micro also rewards knowing which labels are common."""
    macro = estimator.metrics["macro_roc_auc"]
    name = "macro_roc_auc" if macro.low is not None else "micro_roc_auc"
    return NAMES[name], estimator.metrics[name]


def chance_finding(auc: Metric) -> Finding:
    """Does it rank better than chance? `no`: worse than chance. The sentence is a predicate: "worse than chance"."""
    answer = answered(compare(auc, CHANCE, "above"), compare(auc, CHANCE, "below"))
    answer = "not computed" if auc.n < FEW_RECORDS else answer
    return Finding(answer, CHANCE_WORDS[answer])


def estimators_finding(guard: GuardEvaluation) -> Finding:
    """Does any estimator rank labels better than chance? Says how good the recommended one is, and which others are
    clearly worse."""
    candidates = [estimator for estimator in guard.estimators if not estimator.baseline]
    answers = {estimator.estimator: chance_finding(chance_metric(estimator)[1]).answer for estimator in candidates}
    known = {answer for answer in answers.values() if answer != "not computed"}
    if not known:
        return Finding("not computed", "Too few records to say how well any estimator ranks labels")
    if known == {"no"}:
        return Finding("no", f"Every estimator of {guard.guard} ranks labels worse than chance")
    if "yes" not in known:
        return Finding("cannot tell", f"No estimator of {guard.guard} ranks labels clearly better than chance")
    best = next((estimator for estimator in candidates if estimator.estimator == guard.recommended), candidates[0])
    name, metric = chance_metric(best)
    sentence = f"{best.estimator} reaches a {name} of {with_interval(metric)}"
    tested = [row for row in guard.differences if row.tested and row.estimator in answers]
    beaten = [row.estimator for row in tested if row.finding == "worse" and row.reference == best.estimator]
    beaten += [row.reference for row in tested if row.finding == "better" and row.estimator == best.estimator]
    if not beaten:
        return Finding("yes", sentence)
    in_metric = "" if NAMES[tested[0].metric] == name else f" in {NAMES[tested[0].metric]}"
    return Finding("yes", f"{sentence}, clearly better{in_metric} than {joined(beaten)}")


def frequency_finding(guard: GuardEvaluation, best: EstimatorEvaluation) -> Finding:
    """Is the recommended estimator better than label frequencies alone? `no`: it is worse."""
    values = {estimator.estimator: estimator.metrics["micro_roc_auc"] for estimator in guard.estimators}
    own, frequency, row = values[best.estimator], values.get("label_frequency"), guard.against_frequency
    if frequency is None or frequency.value is None:
        return Finding(
            "not computed", f"Over all labels pooled, {best.estimator} has a micro ROC AUC of {with_interval(own)}"
        )
    both = f"micro ROC AUC {number(own.value)} against {number(frequency.value)}"
    difference = row.difference if row is not None else None
    start = f"Over all labels pooled, {best.estimator} is"
    if row is None or difference is None or row.finding == "not known" or difference.n < FEW_RECORDS:
        return Finding(
            "not computed",
            f"{start} not compared with label frequencies alone: the difference could not be tested ({both})",
        )
    ends = f"difference {signed_interval(difference)}, " if interval(difference) else ""
    numbers = f"{both}; {ends}{plural(difference.n, 'record')}"
    answer = FROM_PAIRED[row.finding]
    if answer in ("yes", "no"):
        return Finding(answer, f"{start} clearly {row.finding} than label frequencies alone ({numbers})")
    explained = BOUNDS_EXPLAIN if explained_by_bounds(row.finding, row.difference) else ""
    return Finding(answer, f"{start} not clearly different from label frequencies alone ({numbers}){explained}")


def bounds_finding(guard: GuardEvaluation) -> Finding:
    """Do the bounds of the probabilities widen a metric's range? Says what to set. Empty where probabilities are
    exact."""
    bounds = guard.bounds
    if bounds is None:
        return Finding("not computed", "")
    text = (
        f"The probabilities of {guard.recommended} are computed to within {plain(bounds.widest)} "
        f"({plain(bounds.mean)} on average). This is numerical accuracy: it does not mean that the guard is right"
    )
    if bounds.over_passages:
        text = (
            f"The scores are means over sampled reasoning passages, with intervals that are {bounds.mean:.2g} wide on "
            f"average and {bounds.widest:.2g} at most"
        )
    if not bounds.wide:
        return Finding("no", f"{text}. It is too small to matter next to the sampling intervals")
    names = [NAMES[name] for name in bounds.wide]
    shown = joined(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])
    text += f". This makes the range of {shown} wider than a third of the sampling interval"
    if bounds.tolerance is not None:
        text += f". Score again with score.tolerance: {bounds.tolerance:g}"
    if bounds.over_passages:
        text += ". Score again with more score.passages"
    if bounds.beyond:
        text += (
            f". {plural(bounds.beyond, 'record')} did not reach the tolerance: raise score.node_budget (this may not "
            "help with a server that returns only its most probable tokens)"
        )
    return Finding("yes", text)


def judged_finding(
    guard: GuardEvaluation, best: EstimatorEvaluation, final: int, where: Mapping[str, str] | None = None
) -> Finding:
    """Was the guard judged on all `final` gold records? Says why not, and on how many its thresholds were tested.
    `where`: evaluate.where of the config."""
    chosen = joined([f"{attribute} is {value}" for attribute, value in (where or {}).items()] or ["…"])
    not_chosen = f"left out, because evaluate.where in config.yaml chooses those whose {chosen}"
    reasons = [f"{n:,} {not_chosen if reason == NOT_CHOSEN else reason}" for reason, n in guard.left_out.items()]
    others = guard.records - best.n
    reasons += [f"{others:,} in other splits or without a judged label"] if others > 0 else []
    why = f" ({'; '.join(reasons)})" if reasons else ""
    tested = best.tuned["micro_f1"].n if best.tuned else 0
    test = f"thresholds tested on {tested:,}" if tested else "no test records to test thresholds on"
    sentence = f"Judged on {best.n:,} of {plural(final, 'record')} with final labels{why}; {test}"
    return Finding("not computed" if not best.n else "yes" if best.n == final else "no", sentence)


def decisions_note(guard: GuardEvaluation) -> str:
    """That the recommendation is about ranking, with the micro F1 at own thresholds of the recommended estimator and of
    the best other one; empty without test records or other estimators."""
    values = {
        estimator.estimator: estimator.tuned["micro_f1"].value
        for estimator in guard.estimators
        if not estimator.baseline and estimator.tuned and estimator.tuned["micro_f1"].value is not None
    }
    own = values.pop(guard.recommended or "", None)
    if own is None or not values:
        return ""
    other = max(values, key=lambda name: values[name] or 0.0)
    return (
        "This is about ranking. It does not show better decisions: at own thresholds the micro F1 on the test split is "
        f"{number(own)}, and {number(values[other])} for {other}"
    )


def name_tested_metric(tested: Sequence[str], primary: str) -> str:
    """Which metric of a table is tested; empty if none is. `tested`: the metrics of its tested rows; `primary`: that of
    the config, which has no interval where another one is tested."""
    names = list(dict.fromkeys(tested))
    if not names:
        return ""
    others = joined([NAMES[name] for name in names if name != primary] or [""])
    if primary not in names:
        return f"Only {others} is tested, because {NAMES[primary]} has no interval here"
    sentence = f"Only {NAMES[primary]} is tested"
    return f"{sentence}, or {others} where it has no interval" if others else sentence
