"""generation.json: how varied the written texts are, and what the blind check says of them."""

from __future__ import annotations

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class Lengths(StrictModel):
    """Characters of a text."""

    mean: float
    p10: float
    median: float
    p90: float


class Diversity(StrictModel):
    """How varied the accepted texts of one generator are. Null where there are too few texts to say."""

    generator: str = Field(description="as in prompts.parquet: the model that wrote them, or the file they came from")
    texts: int
    distinct_1: float | None = Field(description="different words over all words, in [0, 1] (Li et al. 2016)")
    distinct_2: float | None = Field(description="the same of word pairs")
    distinct_3: float | None = Field(description="the same of word triples")
    self_bleu: float | None = Field(
        description="mean BLEU-4 of a text against the others, in [0, 1] (Zhu et al. 2018): lower is more varied"
    )
    self_bleu_texts: int = Field(description="size of the seeded sample that self_bleu was measured on")
    embedding_spread: float | None = Field(
        default=None,
        description="mean cosine distance of two texts' embeddings, on the same sample, in [0, 2]: higher is more "
        "varied; null without generate.duplicates.method embeddings",
    )
    lengths: Lengths | None
    labels: dict[str, int] = Field(description="texts asked to carry each label")
    without_label: int
    label_balance: float | None = Field(
        description="entropy of the labels' shares over its maximum, in [0, 1]: 1 is equally many of each"
    )


class CheckedLabel(StrictModel):
    """One label in the blind check; counts are of records that the check could label."""

    label: str
    intended: int = Field(description="records that were to carry it")
    found: int = Field(description="records that the check says carry it")
    both: int


class Check(StrictModel):
    """A model's labels of the written texts, given blind to the intended ones: a second opinion, never gold."""

    model: str
    records: int
    labelled: int = Field(description="records whose answer could be read; the sum of the next two")
    agree: int = Field(description="its labels are exactly the intended ones")
    differ: int
    unreadable: int = Field(description="answers that were not in the form asked for: no labels are taken from them")
    failed: int = Field(description="records without an answer, or left out because of the budget")
    per_label: list[CheckedLabel]
    planted: int = Field(description="copies of records that order the check to give a certain wrong answer")
    obeyed: int = Field(description="of these, how many got the answer that they ordered")
    obedience: float | None = Field(description="obeyed / planted; null when none was planted")


class Generation(StrictModel):
    diversity: list[Diversity] = Field(description="one entry a generator, the one with most texts first")
    check: Check | None = Field(description="null when generate.check is off")
