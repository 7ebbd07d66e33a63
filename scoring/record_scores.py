"""What `Scorer.score` and `Scorer.score_many` return for one record: a dict that can be read and shown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import isnan
from typing import Any

from marginalia.schemas.errors import InputError, did_you_mean
from marginalia.schemas.evaluation_json import UNSAFE
from marginalia.schemas.text_checks import displayable, one_line
from marginalia.scoring.scored_record import Level, Probability, Result

MOST_SHOWN = 200  # characters of an answer or an error


class RecordScores(dict[str, Probability]):
    """The scores of one record: {label: (probability, lower, upper)}, in the order of the guard's labels, the verdict
    `unsafe` last.

        scores["refund"].probability
        "refund" in scores

    `estimator` names the estimator of these probabilities; `using(name)` gives those of another one. `result` contains
    everything about the record. The probability of a label that is known only within bounds (`categories`) is None. A
    record that could not be scored has no labels, and `error` says why. It prints as one line per label, the verdict
    first."""

    def __init__(self, result: Result, rows: Sequence[str], estimator: str) -> None:
        super().__init__()
        self.result, self.rows, self.estimator = result, tuple(rows), estimator
        if result.error is not None:
            return
        if estimator not in result.estimates:
            raise not_computed(estimator, list(result.estimates))
        estimates = result.estimates[estimator]
        values = zip(estimates.probability.tolist(), estimates.lower.tolist(), estimates.upper.tolist(), strict=True)
        for row, (probability, lower, upper) in zip(self.rows, values, strict=True):
            self[row] = Probability(None if isnan(probability) else probability, lower, upper)

    def __missing__(self, label: str) -> Probability:
        if self.error is not None:
            raise KeyError(f"the record was not scored: {self.error}")
        near = did_you_mean(str(label), self) or f"; the guard's labels are {', '.join(self)}"
        raise KeyError(f"no label '{label}'{near}")

    @property
    def record_id(self) -> str:
        """The record's id."""
        return self.result.record_id

    @property
    def verdict(self) -> Probability:
        """That at least one label applies: the row `unsafe`. Raises KeyError for a record that was not scored."""
        return self[UNSAFE]

    @property
    def labels(self) -> dict[str, Probability]:
        """The labels without the verdict."""
        return {label: value for label, value in self.items() if label != UNSAFE}

    @property
    def levels(self) -> dict[str, Level]:
        """Name → the expected level or integer by this estimator, for guards whose answers have levels or integers;
        empty for others, and for estimators that are not marginals."""
        return {
            level["name"]: Level(level["expected"], level["lower"], level["upper"])
            for level in self.result.levels or ()
            if level["estimator"] == self.estimator
        }

    @property
    def answer(self) -> str | None:
        """The guard's own answer, decoded greedily."""
        return self.result.answer

    @property
    def predicted(self) -> list[str] | None:
        """The labels that the answer names."""
        return self.result.predicted

    @property
    def off_language(self) -> float | None:
        """The probability (0–1) of answers outside the guard's format."""
        return self.result.off_language

    @property
    def unexplored(self) -> float | None:
        """The probability (0–1) of what the search left out."""
        return self.result.unexplored

    @property
    def error(self) -> str | None:
        """Why the record could not be scored; None if it was."""
        return self.result.error

    def using(self, estimator: str) -> RecordScores:
        """The same record's scores by another estimator. Raises InputError if the scorer did not compute it."""
        return RecordScores(self.result, self.rows, estimator)

    def to_dict(self) -> dict[str, Any]:
        """All of this as plain values, for JSON."""
        return {
            "record_id": self.record_id,
            "estimator": self.estimator,
            "verdict": self[UNSAFE]._asdict() if UNSAFE in self else None,
            "labels": {label: value._asdict() for label, value in self.labels.items()},
            "levels": {name: level._asdict() for name, level in self.levels.items()},
            "answer": self.answer,
            "predicted": self.predicted,
            "off_language": self.off_language,
            "unexplored": self.unexplored,
            "error": self.error,
        }

    def __repr__(self) -> str:
        if self.error is not None:
            return f"record {self.record_id!r} was not scored: {_shown(self.error)}"
        width = max(map(len, [*self, *self.levels]), default=0)
        rows = [
            f"{label:{width}}  {_number(value)}  [{value.lower:.3f}, {value.upper:.3f}]"
            for label, value in self._most_probable_first()
        ]
        rows += [
            f"{name:{width}}  {level.expected:.3f}  [{level.lower:.3f}, {level.upper:.3f}] (expected)"
            for name, level in self.levels.items()
        ]
        return "\n".join([*rows, f"({self._facts()})"])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """For notebooks."""
        if self.error is not None:
            return f"<p>{escape(repr(self))}</p>"
        rows = "".join(
            f"<tr><td style='text-align:left'>{escape(displayable(label))}</td><td>{_number(value)}</td>"
            f"<td>{value.lower:.3f} to {value.upper:.3f}</td></tr>"
            for label, value in self._most_probable_first()
        )
        head = "<tr><th style='text-align:left'>label</th><th>probability</th><th>bounds</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table><p>{escape(self._facts())}</p>"

    def _most_probable_first(self) -> list[tuple[str, Probability]]:
        """The verdict, then the labels by their probability as it is shown, or by their upper bound where there is no
        probability."""
        labels = sorted(self.labels.items(), key=lambda item: -round(_sortable(item[1]), 3))
        return [(UNSAFE, self[UNSAFE]), *labels] if UNSAFE in self else labels

    def _facts(self) -> str:
        return f"{self.estimator}; answer {_shown(self.answer or '')!r}; off_language {self.off_language or 0:.3f}"


def not_computed(estimator: str, computed: Sequence[str]) -> InputError:
    """The error for an estimator that a scorer does not compute."""
    near = did_you_mean(estimator, computed) or f"; it computes {', '.join(computed)}"
    hint = "Scorer.load(…, settings=Settings(estimators=[…])) chooses what is computed"
    return InputError(f"the scorer does not compute the estimator '{estimator}'{near}", hint=hint)


def _number(value: Probability) -> str:
    return "     " if value.probability is None else f"{value.probability:.3f}"


def _sortable(value: Probability) -> float:
    return value.upper if value.probability is None else value.probability


def _shown(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + " …"
