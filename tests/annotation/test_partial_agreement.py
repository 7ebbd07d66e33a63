"""Agreement between answers that judge only some of the labels, against plain loops over the definitions."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import krippendorff
import numpy as np
import polars as pl
import pytest

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold import chance_disagreement
from marginalia.annotation.gold.agreement import agreement_of
from marginalia.annotation.gold.anchoring import anchoring
from marginalia.annotation.gold.gold_questions import accuracy
from marginalia.annotation.gold.votes import votes_of
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.errors import InputError
from marginalia.schemas.tables import SuggestedRecord
from tests.annotation.answers import answers, partial

LABELS = "abcd"
Given = dict[str, dict[str, tuple[str, str | None]]]


def agreement(frame: pl.DataFrame, labels: str = LABELS, *, bootstrap: int = 0) -> Agreement:
    section = ReconcileSection(bootstrap=bootstrap)
    return agreement_of(frame, list(labels), section, seed=1, taxonomy="t", simulated=False)


def drawn(seed: int, *, records: int = 40, annotators: int = 6, noise: float = 0.2) -> Given:
    """Random answers with random masks: some empty, some complete; every label is judged, and ticked, by chance."""
    rng = np.random.default_rng(seed)
    given: Given = {}
    for record in range(records):
        truth = rng.random(len(LABELS)) < 0.4
        for annotator in rng.permutation(annotators)[: rng.integers(0, 5)]:
            asked = rng.random(len(LABELS)) < rng.choice([0.3, 0.7, 1.0])
            ticked = (truth ^ (rng.random(len(LABELS)) < noise)) & asked
            judged = "".join(label for label, flag in zip(LABELS, asked, strict=True) if flag)
            labels = "".join(label for label, flag in zip(LABELS, ticked, strict=True) if flag)
            given.setdefault(f"r{record:02}", {})[f"A{annotator}"] = (labels, None if asked.all() else judged)
    return given


def cells(given: Given) -> dict[str, dict[str, dict[str, bool]]]:
    """{record: {annotator: {judged label: ticked}}} of the answers that judge a label."""
    return {
        record: {
            annotator: {label: label in labels for label in (LABELS if judged is None else judged)}
            for annotator, (labels, judged) in by_annotator.items()
            if judged is None or judged
        }
        for record, by_annotator in given.items()
    }


def masi(a: dict[str, bool], b: dict[str, bool], common: set[str]) -> float:
    first, second = ({label for label in common if answer[label]} for answer in (a, b))
    if first == second:
        return 0.0
    if not first & second:
        return 1.0
    return 1 - len(first & second) / len(first | second) * (2 / 3 if first < second or second < first else 1 / 3)


def pairs(given: Given) -> list[tuple[str, str, str, set[str]]]:
    """(record, annotator, other annotator, common labels): ordered pairs of answers with a common label."""
    found = []
    for record, by_annotator in cells(given).items():
        for first, second in permutations(by_annotator, 2):
            common = by_annotator[first].keys() & by_annotator[second].keys()
            if common:
                found.append((record, first, second, set(common)))
    return found


def alpha_masi(given: Given) -> float:
    """By definition: every answer with a partner counts once, with its mean distance to its partners; the chance
    disagreement of each comparison is that of all pairs of answers that judge its labels."""
    compared, by_answer = pairs(given), cells(given)
    paired = [by_answer[record][annotator] for record, annotator in sorted({pair[:2] for pair in compared})]
    observed = expected = 0.0
    for record, first, second, common in compared:
        partners = sum(pair[:2] == (record, first) for pair in compared)
        observed += masi(by_answer[record][first], by_answer[record][second], common) / partners
        judging = [answer for answer in paired if common <= answer.keys()]
        chance = [masi(a, b, common) for a, b in permutations(judging, 2)]
        expected += sum(chance) / len(chance) / partners
    return 1 - observed / expected


@pytest.mark.parametrize("seed", range(6))
def test_each_label_has_the_nominal_alpha_of_the_answers_that_judge_it(seed: int) -> None:
    given = drawn(seed)
    result = agreement(partial(given))
    for label, row in zip(LABELS, result.per_label, strict=True):
        values = [
            [float(answer[label]) for answer in by_annotator.values() if label in answer]
            for by_annotator in cells(given).values()
        ]
        units = [unit for unit in values if len(unit) > 1]
        data = np.full((6, len(units)), np.nan)
        for at, unit in enumerate(units):
            data[: len(unit), at] = unit
        assert row.alpha.value == pytest.approx(krippendorff.alpha(data, level_of_measurement="nominal"))
        equal = [a == b for unit in units for at, a in enumerate(unit) for b in unit[:at]]
        assert row.percent.value == pytest.approx(np.mean(equal))
        assert row.alpha.n == row.percent.n == len(units)
        assert row.answers == sum(map(len, values))
        assert row.ticked == pytest.approx(sum(map(sum, values)) / sum(map(len, values)))


@pytest.mark.parametrize("seed", range(6))
def test_label_sets_are_compared_on_the_labels_that_both_judge(seed: int) -> None:
    given = drawn(seed)
    result, compared, by_answer = agreement(partial(given)), pairs(given), cells(given)
    assert result.alpha_masi.value == pytest.approx(alpha_masi(given))
    exact, jaccard = [], []
    for record, first, second, common in compared:
        a, b = ({label for label in common if by_answer[record][annotator][label]} for annotator in (first, second))
        exact.append(a == b)
        jaccard.append(len(a & b) / len(a | b) if a | b else 1.0)
    assert result.exact.value == pytest.approx(np.mean(exact))
    assert result.jaccard.value == pytest.approx(np.mean(jaccard))
    assert result.pairable == result.exact.n == len({pair[0] for pair in compared})
    assert result.answers == sum(map(len, by_answer.values()))


@pytest.mark.parametrize("seed", range(3))
def test_annotators_are_compared_with_those_who_judge_the_same_label(seed: int) -> None:
    given = drawn(seed, annotators=4)
    result, by_answer = agreement(partial(given)), cells(given)
    for person in result.per_annotator:
        table: dict[str, list[float]] = {label: [0.0] * 4 for label in LABELS}
        compared = dict.fromkeys(LABELS, 0)
        records = set()
        for record, by_annotator in by_answer.items():
            for label, own in by_annotator.get(person.annotator, {}).items():
                others = [
                    answer[label]
                    for name, answer in by_annotator.items()
                    if name != person.annotator and label in answer
                ]
                if others:
                    records.add(record)
                    compared[label] += 1
                for other in others:
                    table[label][2 * (not own) + (not other)] += 1 / len(others)
        both, own, theirs, _ = np.sum(list(table.values()), axis=0)
        assert person.precision.value == pytest.approx(both / (both + own))
        assert person.recall.value == pytest.approx(both / (both + theirs))
        assert person.kappa.value == pytest.approx(kappa(np.sum(list(table.values()), axis=0)))
        assert person.kappa.n == len(records)
        for row in person.per_label:
            assert row.n == compared[row.label]
            assert row.kappa == pytest.approx(kappa(np.array(table[row.label])))
    found = {(pair.first, pair.second): pair for pair in result.pairs}
    names = sorted({name for by_annotator in by_answer.values() for name in by_annotator})
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            both_asked = [
                [(a[first][label], a[second][label]) for label in a[first].keys() & a[second].keys()]
                for a in by_answer.values()
                if first in a and second in a
            ]
            both_asked = [record_cells for record_cells in both_asked if record_cells]
            pooled = np.zeros(4)
            for record_cells in both_asked:
                for x, y in record_cells:
                    pooled[2 * (not x) + (not y)] += 1
            pair = found[first, second]
            assert pair.records == len(both_asked)
            assert pair.exact == pytest.approx(np.mean([all(x == y for x, y in row) for row in both_asked]))
            assert pair.kappa == pytest.approx(kappa(pooled))


def kappa(table: np.ndarray) -> Any:
    """Cohen's, of [both, only the first, only the second, neither]."""
    both, first, second, neither = table / table.sum()
    chance = (both + first) * (both + second) + (neither + first) * (neither + second)
    return (both + neither - chance) / (1 - chance)


def test_a_label_that_was_not_judged_is_not_a_no() -> None:
    # 'b' was judged only in r1 and r2: yes/yes and no/no. With "not judged = no" r3 and r4 would be two disagreements
    given: Given = {
        "r1": {"X": ("b", "ab"), "Y": ("b", "ab")},
        "r2": {"X": ("", "ab"), "Y": ("", "ab")},
        "r3": {"X": ("b", None), "Y": ("", "a")},
        "r4": {"X": ("b", None), "Y": ("", "a")},
    }
    result = agreement(partial(given), "ab")
    row = result.per_label[1]
    assert (row.alpha.value, row.alpha.n, row.percent.value) == (1.0, 2, 1.0)
    assert (row.ticked, row.answers) == (4 / 6, 6)
    assert (result.exact.value, result.jaccard.value, result.alpha_masi.value) == (1.0, 1.0, 1.0)
    assert result.partial_answers == 2
    assert "2 of 8 answers judge only some of the labels" in " ".join(result.notes)
    as_no = agreement(partial({r: {w: (t, None) for w, (t, _) in by.items()} for r, by in given.items()}), "ab")
    assert as_no.per_label[1].percent.value == 0.5


def test_random_answers_have_an_alpha_of_about_zero_also_where_masks_are_nested() -> None:
    # half of the records were judged on all labels, half on 'a' alone. If all answers were paired with one another on
    # what they have in common, three quarters of the chance pairs had 'a' alone, but half of the compared pairs
    rng = np.random.default_rng(3)
    given: Given = {}
    for record in range(3000):
        judged = LABELS if record % 2 else "a"
        by_annotator = {
            name: ("".join(label for label in judged if rng.random() < 0.4), None if record % 2 else judged)
            for name in "XYZ"
        }
        given[f"r{record:04}"] = by_annotator
    value = agreement(partial(given)).alpha_masi.value
    assert value is not None and abs(value) < 0.02


def test_resamples_leave_out_what_was_not_judged() -> None:
    # records in which nobody judges 'd' say nothing about 'd', and their number does not narrow its interval
    given = drawn(1, records=150)
    more: Given = {f"s{at:03}": {"X": ("a", "abc"), "Y": ("a", "abc")} for at in range(200)}
    few, many = (agreement(partial(each), bootstrap=400) for each in (given, given | more))
    before, after = few.per_label[3].alpha, many.per_label[3].alpha
    assert (after.value, after.n) == (pytest.approx(before.value), before.n)
    assert before.low is not None and before.high is not None and after.low is not None and after.high is not None
    assert after.high - after.low == pytest.approx(before.high - before.low, rel=0.25)
    assert many.alpha_masi.low is not None and many.alpha_masi.high is not None
    assert many.alpha_masi.low < (many.alpha_masi.value or 0) < many.alpha_masi.high


def test_masks_that_leave_nothing_out_give_the_file_of_answers_without_masks() -> None:
    given = {f"r{at}": {"X": "ab"[: at % 3], "Y": "ab"[: at % 2], "Z": "b"} for at in range(20)}
    without = agreement(answers(given), bootstrap=50)
    full = partial({r: {w: (t, LABELS) for w, t in by.items()} for r, by in given.items()})
    assert agreement(full, bootstrap=50).model_dump_json() == without.model_dump_json()
    assert "partial_answers" not in without.model_dump_json()
    assert not any("n" in row for person in without.model_dump()["per_annotator"] for row in person["per_label"])


@pytest.mark.parametrize("seed", range(3))
def test_order_and_answers_that_judge_nothing_change_nothing(seed: int) -> None:
    frame = partial(drawn(seed))
    expected = agreement(frame, bootstrap=50)
    assert agreement(frame.sample(fraction=1.0, shuffle=True, seed=3), bootstrap=50) == expected
    silent = partial({f"r{at:02}": {"Q": ("", "")} for at in range(45)})
    assert agreement(pl.concat([frame, silent]), bootstrap=50) == expected


def test_an_answer_in_two_halves_keeps_what_labels_agree_on() -> None:
    # X's answers in two halves: the numbers per label stay; those over label sets compare other sets
    given = {r: {w: (t, m) for w, (t, m) in by.items() if m is None} for r, by in drawn(2, records=80).items()}
    halves: Given = {}
    for record, by_annotator in given.items():
        halves[record] = {}
        for name, (labels, judged) in by_annotator.items():
            if name != "A1":
                halves[record][name] = (labels, judged)
                continue
            for part, asked in (("A1-1", "ab"), ("A1-2", "cd")):
                halves[record][part] = ("".join(label for label in labels if label in asked), asked)
    whole, split = agreement(partial(given)), agreement(partial(halves))
    for before, after in zip(whole.per_label, split.per_label, strict=True):
        assert after.alpha == before.alpha
        assert (after.percent, after.ticked) == (before.percent, before.ticked)
    assert split.answers == whole.answers + sum("A1" in by_annotator for by_annotator in given.values())


def test_too_many_label_sets_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chance_disagreement, "MOST_SETS", 20)
    result = agreement(partial(drawn(1)), bootstrap=20)
    assert result.alpha_masi.value is None and result.exact.value is not None
    assert "alpha over label sets was not computed" in " ".join(result.notes)


def test_without_a_common_label_nothing_is_claimed() -> None:
    result = agreement(partial({"1": {"X": ("a", "ab"), "Y": ("c", "cd")}}), bootstrap=20)
    assert (result.pairable, result.pairs, result.exact.value, result.alpha_masi.value) == (0, [], None, None)
    assert {person.kappa.value for person in result.per_annotator} == {None}
    assert result.notes[0] == "No record has two answers that judge the same label, so agreement cannot be measured."


def test_masks_that_contradict_the_answer_or_the_taxonomy_are_refused() -> None:
    with pytest.raises(InputError, match="record '1': X ticked 'b', which the answer's column 'judged' leaves out"):
        votes_of(partial({"1": {"X": ("ab", "ac")}}), list(LABELS))
    with pytest.raises(InputError, match="record '1': X was asked about 'z', which is not in the taxonomy"):
        votes_of(partial({"1": {"X": ("a", "az")}}), list(LABELS))


def test_gold_questions_are_compared_on_what_the_answer_judges() -> None:
    # q1: {a} of the known {a, b}, and 'b' was not asked: exact. q2: nothing was asked. q3: 'b' was missed
    given = partial({"q1": {"X": ("a", "ac")}, "q2": {"X": ("", "")}, "q3": {"X": ("", "b")}}, round="gold_question")
    (result,) = accuracy(given, {"q1": ["a", "b"], "q2": ["a"], "q3": ["b"]})
    assert (result.exact.value, result.exact.n) == (0.5, 2)
    assert (result.precision, result.recall) == (1.0, 0.5)  # known and asked: 'a' and 'b'


def test_a_suggestion_is_compared_on_what_the_answer_judges() -> None:
    # suggested {a, b}: X was not asked about 'b' and follows, Y was asked about nothing, Z does not follow
    suggested = SuggestedRecord.frame([{"record_id": "r", "source": "intended", "labels": ["b", "a"], "shown": True}])
    given = partial({"r": {"X": ("a", "ac"), "Y": ("", ""), "Z": ("a", None)}})
    result = anchoring(given, suggested, 20, seed="s")
    assert result is not None
    assert (result.suggested.value, result.suggested.n) == (0.5, 1)
