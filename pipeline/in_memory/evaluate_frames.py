"""`marginalia.evaluate`: gold and scores as data frames → metrics, thresholds and plots."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

import polars as pl
from pydantic import ValidationError

from marginalia.pipeline.config.evaluation import EvaluateSection
from marginalia.pipeline.evaluation import evaluate_guards
from marginalia.pipeline.evaluation.evaluate_guards import GuardScores
from marginalia.pipeline.in_memory.evaluation_result import EvaluationResult
from marginalia.pipeline.in_memory.gold_frame import check_labels, gold_records
from marginalia.pipeline.in_memory.score_frames import guard_scores
from marginalia.schemas.data_frames import as_polars
from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.taxonomy import Label, NoneOption, Taxonomy, load_taxonomy
from marginalia.scoring.guard_kinds import SOURCE_ESTIMATORS

SEED = 2026
FORMAT_UNKNOWN = (
    "the scores of {guard} do not say how much probability is outside its answer format, so this was not checked; the "
    "results of score_many do"
)


def evaluate(
    gold: Any,
    scores: Any,
    prompts: Any = None,
    taxonomy: Taxonomy | str | PathLike[str] | None = None,
    config: EvaluateSection | None = None,
    *,
    seed: int = SEED,
    simulated: bool = False,
    **options: Any,
) -> EvaluationResult:
    """Compares scores with gold: metrics with intervals, calibration, and a threshold per label.

        result = evaluate(gold, scores)
        print(result.summary())
        result.plot("threshold", "refund").save("refund.svg")

    gold: a polars or pandas frame with `id`, `labels` (a list of label ids, [] if none applies), and perhaps `split`
    (train, calibration, test), `judged` (the labels that were judged; null: all), `text` or `messages`; or the whole
    gold.parquet. Without `split`, records are divided into calibration and test, with equal texts in one split.

    scores: what `score_frame` or `score_many` returned, or the content of scores/GUARD.parquet; for several guards a
    dict from name to scores. A label that is known only within bounds has a null probability in every record; it is
    listed with its bounds, without metrics.

    taxonomy: default is the labels of scores and gold. prompts: PromptRecord rows, for metrics by attribute. config, or
    its keys as options: `evaluate(…, confidence=0.9)`. simulated: whether gold comes from simulated annotators.

    Raises InputError for frames, labels or options that are not valid, and when gold and scores have no common id."""
    config = _config(config, options)
    given = gold_records(gold, seed)
    records, notes = given.records, list(given.notes)
    guards = guard_scores(scores)
    if isinstance(taxonomy, str | PathLike):
        taxonomy = load_taxonomy(fspath(taxonomy))
    if taxonomy is None:
        taxonomy, more = _taxonomy(records, guards)
        notes += more
    check_labels(records, taxonomy)
    _check_common(records, guards)
    attributes = None
    if prompts is not None:
        prompts = as_polars(prompts, "prompts")
        if missing := [name for name in ("id", "attributes") if name not in prompts.columns]:
            raise InputError(f"prompts have no column '{missing[0]}'", hint="give the whole prompts.parquet")
        attributes = evaluate_guards.attribute_rows(prompts)
    notes += [FORMAT_UNKNOWN.format(guard=own.guard) for own in guards if not _says_format(own)]
    results = evaluate_guards.evaluate(records, guards, prompts, taxonomy, config, seed=seed, simulated=simulated)
    judged = evaluate_guards.chosen_gold(records, attributes, config.where)
    evaluation = results.evaluation
    if not given.has_texts:
        evaluation = evaluation.model_copy(update={"gold": evaluation.gold.model_copy(update={"equal_texts": None})})
    return EvaluationResult(
        evaluation,
        results.thresholds,
        results.calibrations,
        gold=judged,
        guards=guards,
        taxonomy=taxonomy,
        config=config,
        notes=notes,
    )


def _says_format(scores: GuardScores) -> bool:
    """Whether the scores say how much is outside the answer format, or are of a guard that has none."""
    has_format = not scores.scores["estimator"].is_in(SOURCE_ESTIMATORS).all()
    return bool(scores.records["off_language"].count()) or not has_format


def _config(config: EvaluateSection | None, options: dict[str, Any]) -> EvaluateSection:
    known = list(EvaluateSection.model_fields)
    for name in options:
        if name not in known:
            near = did_you_mean(name, known) or f"; known: {', '.join(known)}"
            raise InputError(
                f"evaluate has no option '{name}'{near}", hint=f"marginalia config --explain evaluate.{known[0]}"
            )
    values = {**(config.model_dump(exclude_unset=True) if config is not None else {}), **options}
    try:
        return EvaluateSection.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = f"marginalia config --explain evaluate.{first['loc'][0]}"
        raise InputError(f"{where}: {first['msg']}", hint=hint) from None


def _taxonomy(gold: pl.DataFrame, guards: list[GuardScores]) -> tuple[Taxonomy, list[str]]:
    """(A taxonomy of all labels in the scores and in gold, notes on labels that only gold has).

    Not validated: the labels of other tools need not be valid ids of a taxonomy file."""
    scored = dict.fromkeys(label for own in guards for label in own.scores["label"].unique(maintain_order=True))
    scored.pop(UNSAFE, None)
    in_gold = pl.concat([gold["labels"].explode(), gold["judged"].explode()]).drop_nulls().unique().sort()
    only_gold = [label for label in in_gold if label not in scored]
    notes = [f"gold has the label '{label}', which no scores have{did_you_mean(label, scored)}" for label in only_gold]
    labels = [Label.model_construct(id=label, name=label, definition=label) for label in (*scored, *only_gold)]
    if not labels:
        raise InputError("the scores have no label but the verdict", hint="score with a guard that has labels")
    taxonomy = Taxonomy.model_construct(
        id="labels-of-the-scores",
        version="1",
        title="Labels",
        subject="texts",
        verdict=UNSAFE,
        none=NoneOption(),
        labels=labels,
    )
    return taxonomy, notes


def _check_common(gold: pl.DataFrame, guards: list[GuardScores]) -> None:
    for own in guards:
        ids = own.records["record_id"]
        if not gold["id"].is_in(ids.to_list()).any():
            first = f"'{ids[0]}'" if ids.len() else "none"
            problem = f"no record of gold has scores of {own.guard}: the first id in gold is '{gold['id'][0]}'"
            raise InputError(f"{problem}, in the scores {first}", hint="score the records under the ids of gold")
