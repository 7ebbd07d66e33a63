"""generation.json: diversity of the generated texts, and the results of the blind check."""

from __future__ import annotations

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class Lengths(StrictModel):
    """Distribution of text lengths, in characters."""

    mean: float
    p10: float
    median: float
    p90: float


class Diversity(StrictModel):
    """Diversity of the accepted texts of one generator. A measure is null where there are too few texts for it."""

    generator: str = Field(
        description="as in prompts.parquet: the model that wrote the texts, or the file that they came from"
    )
    texts: int
    distinct_1: float | None = Field(description="distinct words divided by all words, in [0, 1] (Li et al. 2016)")
    distinct_2: float | None = Field(description="the same for word pairs")
    distinct_3: float | None = Field(description="the same for word triples")
    self_bleu: float | None = Field(
        description="mean BLEU-4 of a text against the others, in [0, 1] (Zhu et al. 2018); lower is more diverse"
    )
    self_bleu_texts: int = Field(description="size of the seeded sample that self_bleu was measured on")
    embedding_spread: float | None = Field(
        default=None,
        description="mean cosine distance of two texts' embeddings, on the same sample, in [0, 2]; higher is more "
        "diverse; null unless generate.duplicates.method is embeddings",
    )
    lengths: Lengths | None
    labels: dict[str, int] = Field(description="label → texts that were planned with it")
    without_label: int
    label_balance: float | None = Field(
        description="entropy of the labels' shares divided by its maximum, in [0, 1]; 1: all labels equally frequent"
    )


class CheckedLabel(StrictModel):
    """One label in the blind check; counts are over the records whose answer could be read."""

    label: str
    intended: int = Field(description="records that were planned with the label")
    found: int = Field(description="records to which the check gives the label")
    both: int


class Check(StrictModel):
    """A model's labels of the generated texts, given without knowing the intended ones; never gold."""

    model: str
    records: int
    labelled: int = Field(description="records whose answer could be read: agree + differ")
    agree: int = Field(description="records whose labels equal the intended ones")
    differ: int
    unreadable: int = Field(
        description="records whose answer is not in the requested format; no labels are taken from it"
    )
    failed: int = Field(description="records without an answer, or left out when the budget was spent")
    per_label: list[CheckedLabel]
    planted: int = Field(description="copies of records whose text instructs the check to give a certain wrong answer")
    obeyed: int = Field(description="planted copies that got the answer they instruct")
    obedience: float | None = Field(description="obeyed / planted; null if none was planted")


class Generation(StrictModel):
    """The whole of generation.json."""

    diversity: list[Diversity] = Field(description="one entry per generator, the one with most texts first")
    check: Check | None = Field(description="null if generate.check is off")
