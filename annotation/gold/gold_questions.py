"""Gold questions: records with known answers, mixed among the others to measure each annotator's accuracy.

To annotators they look like any other record. Their answers have a separate round, `gold_question`, so that they count
neither for agreement nor for gold."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import Field

from marginalia.annotation.gold.votes import judges_a_label
from marginalia.schemas.agreement_json import Estimate, GoldQuestionAccuracy
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError
from marginalia.schemas.input_records import read_records
from marginalia.schemas.storage.files import read_model
from marginalia.schemas.taxonomy import Taxonomy

FILE = "gold_questions.json"
ROUND = "gold_question"
Z = 1.959963984540054  # the standard normal quantile of a 95 % interval
Payload = TypeVar("Payload")


class GoldQuestion(StrictModel):
    """One record with a known answer."""

    messages: list[dict[str, str]]
    labels: list[str] = Field(description="the known answer; empty when no category applies")


class GoldQuestions(StrictModel):
    """gold_questions.json, mode 600: everything that was ever pushed as a gold question, by record id."""

    questions: dict[str, GoldQuestion] = Field(default={})

    @property
    def known(self) -> dict[str, list[str]]:
        """The known labels by record id."""
        return {record: question.labels for record, question in self.questions.items()}


def read_gold_questions(path: Path) -> GoldQuestions:
    """The gold questions that were pushed; empty when the file does not exist."""
    return read_model(path, GoldQuestions, made_by="the push stage") if path.exists() else GoldQuestions()


def choose(path: Path, taxonomy: Taxonomy, ids: Sequence[str], share: float, seed: int) -> GoldQuestions:
    """A seeded choice of questions from a file of records with labels, as many as `share` of `ids` (rounded up). With
    more ids the choice only grows.

    Raises InputError for a question without labels, with an unknown label or with a label that was not judged, too few
    questions for the share, or a question with the id of a record."""
    questions: dict[str, GoldQuestion] = {}
    for row in read_records(path).iter_rows(named=True):
        where = f"{path}: record '{row['id']}'"
        if row["labels"] is None:
            raise InputError(f"{where} has no labels", hint="add the known labels; [] when no category applies")
        if row["judged"] is not None and (unknown := [label for label in taxonomy.ids if label not in row["judged"]]):
            raise InputError(
                f"{where}: the label '{unknown[0]}' was not judged",
                hint="a gold question needs an answer that is right for all labels",
            )
        labels = [taxonomy.require(label, where) for label in row["labels"]]
        questions[_record_like_id(row["messages"])] = GoldQuestion(messages=row["messages"], labels=labels)
    needed = math.ceil(share * len(ids))
    if needed > len(questions):
        raise InputError.at(
            path,
            f"has {len(questions)} gold questions, but a share of {share:g} of {len(ids):,} records needs {needed}",
            hint="add gold questions, or lower annotation.gold_share",
        )
    taken = sorted(questions.keys() & set(ids))
    if taken:
        raise InputError.at(path, f"a gold question and a record have the same id '{taken[0]}'")
    order = sorted(questions, key=lambda record: hashlib.sha256(f"{seed}:gold question:{record}".encode()).digest())
    return GoldQuestions(questions={record: questions[record] for record in order[:needed]})


def _record_like_id(messages: list[dict[str, str]]) -> str:
    """An id from the text that looks like a generated record's, so that annotators cannot recognise a gold question."""
    digest = hashlib.sha256("\0".join(f"{m['role']}\0{m['content']}" for m in messages).encode()).hexdigest()
    return f"{int(digest[:12], 16) % 1_000_000:06}-{digest[-8:]}"


def mixed(records: list[Payload], questions: list[Payload], seed: int) -> list[Payload]:
    """`records` in their order with `questions` at seeded random positions among them."""
    rng = random.Random(f"{seed}:gold question places")
    positions = set(rng.sample(range(len(records) + len(questions)), len(questions)))
    next_record, next_question = iter(records), iter(questions)
    return [next(next_question if at in positions else next_record) for at in range(len(records) + len(questions))]


def accuracy(answers: pl.DataFrame, known: Mapping[str, Sequence[str]]) -> list[GoldQuestionAccuracy]:
    """Each annotator's accuracy on the gold questions in `known` (labels by record id), from a frame of `Answer` rows.
    An answer is compared on the labels that it judges."""
    rows = answers.filter((pl.col("round") == ROUND) & pl.col("record_id").is_in(list(known)))
    return [
        _of_annotator(str(name), own, known)
        for (name,), own in sorted(rows.partition_by("annotator", as_dict=True).items())
    ]


def _of_annotator(name: str, answers: pl.DataFrame, known: Mapping[str, Sequence[str]]) -> GoldQuestionAccuracy:
    submitted = answers.filter((pl.col("status") == "submitted") & judges_a_label())
    pairs: list[tuple[set[Any], set[Any]]] = [
        (set(labels), set(known[record]) if judged is None else set(known[record]) & set(judged))
        for record, labels, judged in submitted.select("record_id", "labels", "judged").iter_rows()
    ]
    hits = sum(len(ticked & right) for ticked, right in pairs)
    return GoldQuestionAccuracy(
        annotator=name,
        skipped=answers.filter(pl.col("status") == "discarded").height,
        exact=wilson(sum(ticked == right for ticked, right in pairs), len(pairs)),
        precision=_share(hits, sum(len(ticked) for ticked, _ in pairs)),
        recall=_share(hits, sum(len(right) for _, right in pairs)),
    )


def wilson(successes: int, n: int) -> Estimate:
    """A share with its 95 % interval (Wilson 1927), which is valid for few questions and for shares of 0 and 1."""
    if n == 0:
        return Estimate(value=None, low=None, high=None, n=0)
    share = successes / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), n=n)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
