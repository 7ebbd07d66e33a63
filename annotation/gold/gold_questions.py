"""Gold questions: records with known answers among the others, which give each annotator a measured accuracy.

They look like every other record to annotators. Their answers have a round of their own, `gold_question`, so that they
count neither for agreement nor for gold."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import Field

from marginalia.schemas.agreement_json import Estimate, GoldQuestionAccuracy
from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.errors import InputError
from marginalia.schemas.input_records import read_records
from marginalia.schemas.storage.files import read_model
from marginalia.schemas.taxonomy import Taxonomy

FILE = "gold_questions.json"
ROUND = "gold_question"
Z = 1.959963984540054  # of a 95 % interval
Thing = TypeVar("Thing")


class GoldQuestion(StrictModel):
    messages: list[dict[str, str]]
    labels: list[str] = Field(description="the known answer; empty when no category applies")


class GoldQuestions(StrictModel):
    """gold_questions.json, mode 600: what was ever pushed as a gold question, by record id."""

    questions: dict[str, GoldQuestion] = Field(default={})

    @property
    def known(self) -> dict[str, list[str]]:
        return {record: question.labels for record, question in self.questions.items()}


def read_gold_questions(path: Path) -> GoldQuestions:
    """Those that were pushed; none when there is no such file."""
    return read_model(path, GoldQuestions, made_by="the push stage") if path.exists() else GoldQuestions()


def choose(path: Path, taxonomy: Taxonomy, ids: Sequence[str], share: float, seed: int) -> GoldQuestions:
    """The seeded share of `ids` (rounded up) from a file of records with labels; more ids only ever add to it.

    Raises InputError for a question without labels or with an unknown one, or with too few questions for the share."""
    found: dict[str, GoldQuestion] = {}
    for row in read_records(path).iter_rows(named=True):
        where = f"{path}: record '{row['id']}'"
        if row["labels"] is None:
            raise InputError(f"{where} has no labels", hint="give the known answer, [] when no category applies")
        labels = [taxonomy.require(label, where) for label in row["labels"]]
        found[_disguised(row["messages"])] = GoldQuestion(messages=row["messages"], labels=labels)
    wanted = math.ceil(share * len(ids))
    if wanted > len(found):
        raise InputError.at(
            path,
            f"holds {len(found)} gold questions; a share of {share:g} of {len(ids):,} records takes {wanted}",
            hint="write more of them, or lower annotation.gold_share",
        )
    taken = sorted(found.keys() & set(ids))
    if taken:
        raise InputError.at(path, f"a gold question and a record have the same id '{taken[0]}'")
    order = sorted(found, key=lambda record: hashlib.sha256(f"{seed}:gold question:{record}".encode()).digest())
    return GoldQuestions(questions={record: found[record] for record in order[:wanted]})


def _disguised(messages: list[dict[str, str]]) -> str:
    """An id that reads like a written record's."""
    digest = hashlib.sha256("\0".join(f"{m['role']}\0{m['content']}" for m in messages).encode()).hexdigest()
    return f"{int(digest[:12], 16) % 1_000_000:06}-{digest[-8:]}"


def mixed(records: list[Thing], questions: list[Thing], seed: int) -> list[Thing]:
    """`records` in their order with `questions` at random places among them."""
    chance = random.Random(f"{seed}:gold question places")
    places = set(chance.sample(range(len(records) + len(questions)), len(questions)))
    plain, gold = iter(records), iter(questions)
    return [next(gold if at in places else plain) for at in range(len(records) + len(questions))]


def accuracy(answers: pl.DataFrame, known: Mapping[str, Sequence[str]]) -> list[GoldQuestionAccuracy]:
    """How each annotator did on the questions in `known`, from a frame of `Answer` rows."""
    rows = answers.filter((pl.col("round") == ROUND) & pl.col("record_id").is_in(list(known)))
    return [
        _one(str(name), mine, known) for (name,), mine in sorted(rows.partition_by("annotator", as_dict=True).items())
    ]


def _one(name: str, mine: pl.DataFrame, known: Mapping[str, Sequence[str]]) -> GoldQuestionAccuracy:
    given = mine.filter(pl.col("status") == "submitted").select("record_id", "labels")
    pairs: list[tuple[set[Any], set[Any]]] = [(set(labels), set(known[record])) for record, labels in given.iter_rows()]
    hits = sum(len(ticked & right) for ticked, right in pairs)
    return GoldQuestionAccuracy(
        annotator=name,
        skipped=mine.filter(pl.col("status") == "discarded").height,
        exact=wilson(sum(ticked == right for ticked, right in pairs), len(pairs)),
        precision=_share(hits, sum(len(ticked) for ticked, _ in pairs)),
        recall=_share(hits, sum(len(right) for _, right in pairs)),
    )


def wilson(successes: int, n: int) -> Estimate:
    """A share with its 95 % interval (Wilson 1927), which is sound for few questions and for all right."""
    if n == 0:
        return Estimate(value=None, low=None, high=None, n=0)
    share = successes / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), n=n)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
