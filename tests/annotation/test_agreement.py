from __future__ import annotations

from typing import Any

import krippendorff
import numpy as np
import polars as pl
import pytest

from marginalia.annotation.config import ReconcileSection
from marginalia.annotation.gold.agreement import agreement_of, agreement_of_votes
from marginalia.annotation.gold.bootstrap import MOST_UNITS, bundles, resampled_weights
from marginalia.annotation.gold.pairwise_disagreement import PairSums
from marginalia.annotation.gold.votes import Votes, masi_distance, votes_of
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.errors import InputError
from tests.annotation.answers import answers, skipped


def agreement(frame: pl.DataFrame, labels: str = "abc", *, bootstrap: int = 200, seed: int = 1) -> Agreement:
    section = ReconcileSection(bootstrap=bootstrap)
    return agreement_of(frame, list(labels), section, seed=seed, taxonomy="t", simulated=False)


def test_nominal_alpha_equals_the_one_computed_by_hand() -> None:
    # votes on 'a': (1, 1) (1, 0) (0, 0) (0, 0). D_o = 2 / 8, D_e = 2 · 3 · 5 / (8 · 7), alpha = 1 - 14 / 30
    result = agreement(
        answers(
            {"1": {"X": "a", "Y": "a"}, "2": {"X": "a", "Y": ""}, "3": {"X": "", "Y": ""}, "4": {"X": "", "Y": ""}}
        ),
        "ab",
    )
    assert result.per_label[0].alpha.value == pytest.approx(8 / 15)
    assert result.per_label[0].alpha.n == 4
    assert result.per_label[0].percent.value == pytest.approx(3 / 4)
    assert result.per_label[0].ticked == pytest.approx(3 / 8)


def test_alpha_is_undefined_where_no_answer_differs_and_is_left_out_of_the_mean() -> None:
    result = agreement(answers({"1": {"X": "a", "Y": "a"}, "2": {"X": "", "Y": ""}}), "ab")
    assert result.per_label[0].alpha.value == pytest.approx(1.0)
    assert result.per_label[1].alpha.value is None
    assert result.alpha_mean.value == pytest.approx(1.0)


def test_alpha_takes_missing_answers_and_unequal_numbers_and_drops_single_ones() -> None:
    # three answers (1, 1, 0), two (0, 0), and a single one (1), which is in no pair.
    # D_o = (2 · 2 · 1 / 2) / 5 = 2 / 5, D_e = 2 · 2 · 3 / (5 · 4) = 3 / 5
    result = agreement(answers({"1": {"X": "a", "Y": "a", "Z": ""}, "2": {"X": "", "Z": ""}, "3": {"Y": "a"}}), "a")
    assert result.per_label[0].alpha.value == pytest.approx(1 / 3)
    assert (result.records, result.pairable, result.answers) == (3, 2, 6)


def test_krippendorffs_own_example_has_its_published_alpha() -> None:
    # Krippendorff 2011, section C: nominal data, four observers, missing values; the published alpha is 0.743.
    # One label per value, exactly one ticked: only equal sets have MASI distance 0, all others 1.
    observers = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    given: dict[str, dict[str, str]] = {}
    for name, values in zip("WXYZ", observers, strict=True):
        for unit, value in enumerate(values.split()):
            if value != ".":
                given.setdefault(f"u{unit:02}", {})[name] = value
    assert agreement(answers(given), "12345").alpha_masi.value == pytest.approx(0.743, abs=0.0005)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("ab", "ab", 0.0),
        ("ab", "a", 1 - 1 / 2 * 2 / 3),
        ("ab", "bc", 1 - 1 / 3 * 1 / 3),
        ("ab", "c", 1.0),
        ("", "", 0.0),
        ("", "a", 1.0),
    ],
)
def test_masi_distance_equals_the_definition(first: str, second: str, distance: float) -> None:
    votes = votes_of(answers({"r": {"X": first, "Y": second}}), list("abc"))
    assert masi_distance(votes, np.array([0]), np.array([1]))[0] == pytest.approx(distance)
    assert masi_distance(votes, np.array([1]), np.array([0]))[0] == pytest.approx(distance)


def test_alpha_over_label_sets_equals_the_one_computed_by_hand() -> None:
    # {a, b} {a}: 2/3, {c} {c}: 0. D_o = 2 · 2/3 / 4 = 1/3, D_e = 2 · (2/3 + 4 · 1) / (4 · 3) = 7/9
    result = agreement(answers({"1": {"X": "ab", "Y": "a"}, "2": {"X": "c", "Y": "c"}}))
    assert result.alpha_masi.value == pytest.approx(4 / 7)
    assert result.exact.value == pytest.approx(1 / 2)
    assert result.jaccard.value == pytest.approx(3 / 4)


def test_alpha_over_label_sets_equals_the_librarys_on_ragged_data() -> None:
    random = np.random.default_rng(5)
    sets = [frozenset(s) for s in ("", "a", "b", "ab", "bc", "abc")]
    given: dict[str, dict[str, str]] = {}
    counts = np.zeros((40, len(sets)), dtype=int)
    for unit in range(40):
        for annotator in range(random.integers(1, 6)):
            set_index = int(random.integers(len(sets)))
            counts[unit, set_index] += 1
            given.setdefault(f"u{unit:02}", {})[f"P{annotator}"] = "".join(sorted(sets[set_index]))

    def distance(v1: Any, v2: Any, i1: Any, i2: Any, n_v: Any, dtype: Any = float) -> Any:
        return np.vectorize(lambda a, b: _masi(sets[a], sets[b]))(*np.broadcast_arrays(i1, i2))

    # the library includes units with one answer in its total; here only pairs count
    expected = krippendorff.alpha(value_counts=counts[counts.sum(axis=1) > 1], level_of_measurement=distance)
    assert agreement(answers(given)).alpha_masi.value == pytest.approx(expected)


def _masi(a: frozenset[str], b: frozenset[str]) -> float:
    if a == b:
        return 0.0
    shape = 2 / 3 if a < b or b < a else 1 / 3
    return 1 - len(a & b) / len(a | b) * shape


def test_kappa_precision_and_recall_of_two_annotators_equal_those_computed_by_hand() -> None:
    # both 4, only X 1, only Y 2, neither 3: p_o = 0.7, p_e = 0.5 · 0.6 + 0.5 · 0.4 = 0.5
    pairs = [("a", "a")] * 4 + [("a", "")] + [("", "a")] * 2 + [("", "")] * 3
    frame = answers({str(at): {"X": x, "Y": y} for at, (x, y) in enumerate(pairs)})
    result = agreement(frame, "a")
    first, second = result.per_annotator
    assert first.kappa.value == pytest.approx(0.4)
    assert (first.precision.value, first.recall.value) == (pytest.approx(4 / 5), pytest.approx(4 / 6))
    assert (second.precision.value, second.recall.value) == (pytest.approx(4 / 6), pytest.approx(4 / 5))
    (pair,) = result.pairs
    assert (pair.first, pair.second, pair.records) == ("X", "Y", 10)
    assert (pair.kappa, pair.exact) == (pytest.approx(0.4), pytest.approx(0.7))


def test_an_annotator_is_compared_with_the_share_of_the_others() -> None:
    # X ticks 'a', and one of the two others: half a true positive, half a false positive
    result = agreement(answers({"1": {"X": "a", "Y": "a", "Z": ""}, "2": {"X": "", "Y": ""}}), "a")
    assert result.per_annotator[0].precision.value == pytest.approx(1 / 2)
    assert result.per_annotator[0].recall.value == pytest.approx(1.0)


def test_intervals_hold_the_value_and_narrow_with_more_records() -> None:
    random = np.random.default_rng(1)
    ticked = random.random((400, 2)) < 0.5
    ticked[:, 1] = np.where(random.random(400) < 0.2, ~ticked[:, 0], ticked[:, 0])
    given = {f"r{at:03}": {"X": "a" * first, "Y": "a" * second} for at, (first, second) in enumerate(ticked.tolist())}
    few = agreement(answers(dict(list(given.items())[:50])), "a").per_label[0].alpha
    many = agreement(answers(given), "a").per_label[0].alpha
    for estimate in (few, many):
        assert estimate.low is not None and estimate.high is not None and estimate.value is not None
        assert estimate.low < estimate.value < estimate.high
    assert many.high - many.low < (few.high - few.low) / 2  # type: ignore[operator]


def test_the_order_of_answers_changes_nothing_and_the_seed_does() -> None:
    frame = answers({f"r{at}": {"X": "ab"[: at % 3], "Y": "ab"[: at % 2], "Z": "b"} for at in range(20)})
    assert agreement(frame) == agreement(frame.sample(fraction=1.0, shuffle=True, seed=3))
    assert agreement(frame) != agreement(frame, seed=2)


@pytest.mark.parametrize("frame", [answers({}), answers({"1": {"X": "a"}, "2": {"Y": "b"}}), skipped("1", "X")])
def test_without_two_answers_to_a_record_nothing_is_claimed(frame: pl.DataFrame) -> None:
    result = agreement(frame)
    assert result.pairable == 0
    assert result.alpha_masi.value is result.exact.value is result.per_label[0].alpha.value is None
    assert result.notes


def test_few_records_with_two_answers_are_noted() -> None:
    assert agreement(answers({"1": {"X": "a", "Y": "a"}, "2": {"X": "a"}})).notes == [
        "Only 1 record has two or more answers; the intervals are wide."
    ]
    assert agreement(answers({at: {"X": "a", "Y": "a"} for at in "12"})).notes == [
        "Only 2 records have two or more answers; the intervals are wide."
    ]


def test_a_label_that_the_taxonomy_lacks_is_refused_with_record_and_annotator() -> None:
    with pytest.raises(InputError, match=r"record '1': X ticked 'z', which is not in the taxonomy"):
        agreement(answers({"1": {"X": "z"}}))


def test_many_records_are_drawn_in_bundles_and_the_interval_keeps_its_width() -> None:
    # a fifth of the pairs differ: the share that agrees has a standard error of sqrt(0.2 · 0.8 / n)
    n = 4 * MOST_UNITS
    random = np.random.default_rng(3)
    differs = random.random(n) < 0.2
    given = {f"r{at:05}": {"X": "a", "Y": "" if differ else "a"} for at, differ in enumerate(differs.tolist())}
    percent = agreement(answers(given), "a", bootstrap=1000).per_label[0].percent
    assert percent.low is not None and percent.high is not None
    assert percent.value == pytest.approx(1 - differs.mean())
    assert percent.high - percent.low == pytest.approx(2 * 1.96 * np.sqrt(0.2 * 0.8 / n), rel=0.1)
    assert percent.n == n


def test_bundles_are_of_equal_size_and_few_records_are_not_bundled() -> None:
    assert bundles(7, "s").tolist() == list(range(7))
    sizes = np.bincount(bundles(2 * MOST_UNITS + 1, "s"))
    assert (len(sizes), sizes.min(), sizes.max()) == (MOST_UNITS, 2, 3)


def test_each_resample_draws_as_many_units_as_there_are() -> None:
    blocks = list(resampled_weights(40, 70, "s"))
    assert [block.shape for block in blocks] == [(40, 50), (40, 20)]
    assert all((block.sum(axis=0) == 40).all() for block in blocks)
    assert np.concatenate(blocks, axis=1).var() == pytest.approx(39 / 40, rel=0.1)  # multinomial


def drawn_crowd(records: int, seed: int) -> Votes:
    """Three annotators, labels of 30, 10 and 3 %; each annotator misses 20 % and adds 3 %."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.random((records, 3)) < [0.3, 0.1, 0.03], 3, axis=0)
    ticked = np.where(truth, rng.random(truth.shape) >= 0.2, rng.random(truth.shape) < 0.03)
    names = [f"r{at:05}" for at in range(records)]
    record, who = np.repeat(np.arange(records), 3), np.tile(range(3), records)
    return Votes(names, ["X", "Y", "Z"], tuple("abc"), record, who, ticked, np.ones(ticked.shape, dtype=bool))


def test_intervals_cover_and_are_missing_where_a_label_is_too_rare() -> None:
    everywhere = PairSums(drawn_crowd(40_000, 0), "all").statistics()
    true_values = {
        "masi": everywhere.alpha_masi[0],
        "exact": everywhere.exact[0],
        "mean": everywhere.alpha[:, 0].mean(),
    }
    true_values |= {label: everywhere.alpha[at, 0] for at, label in enumerate("abc")}
    covered, with_interval = dict.fromkeys(true_values, 0), dict.fromkeys(true_values, 0)
    for seed in range(1, 151):
        result = agreement_of_votes(drawn_crowd(60, seed), ReconcileSection(bootstrap=200), seed=seed)
        estimates = {"masi": result.alpha_masi, "exact": result.exact, "mean": result.alpha_mean}
        estimates |= {row.label: row.alpha for row in result.per_label}
        for name, estimate in estimates.items():
            if estimate.low is not None and estimate.high is not None:
                assert estimate.low < estimate.high
                with_interval[name] += 1
                covered[name] += estimate.low <= true_values[name] <= estimate.high
            elif estimate.value is not None:
                assert estimate.reason == "fewer than 10 records with or without the label: too few for an interval"
    assert all(with_interval[name] == 150 for name in ("a", "masi", "exact"))
    assert with_interval["c"] < 75  # 3 % of 60 records
    for name in ("a", "b", "masi", "exact", "mean"):
        assert covered[name] >= 0.88 * with_interval[name], name  # 0.93 minus two to three standard errors


def test_where_all_agree_the_interval_is_that_of_n_records_and_alpha_has_none() -> None:
    result = agreement(answers({f"r{at}": {"X": "a" * (at % 2), "Y": "a" * (at % 2)} for at in range(40)}), "a")
    assert (result.exact.value, result.exact.low, result.exact.high) == (1.0, pytest.approx(0.025 ** (1 / 40)), 1.0)
    assert (result.per_label[0].alpha.value, result.per_label[0].alpha.low) == (1.0, None)
    assert result.per_label[0].alpha.reason == "every resample gave the same value: too little data for an interval"
    assert (result.per_annotator[0].precision.value, result.per_annotator[0].precision.low) == (1.0, None)
