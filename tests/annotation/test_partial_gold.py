"""Gold from answers that judge only some of the labels, against counting and plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from marginalia.annotation.config import ReconcileSection, Splits
from marginalia.annotation.gold.label_posteriors import posteriors
from marginalia.annotation.gold.mace import FREQUENCY, HABIT, KNOWING
from marginalia.annotation.gold.reconcile import compare_methods, reconcile, reconcile_with_notes
from marginalia.annotation.gold.severity import gold_severity
from marginalia.annotation.gold.splits import assign_splits
from marginalia.annotation.gold.votes import votes_of
from marginalia.schemas.tables import GoldRecord, SeverityAnswer
from tests.annotation.answers import answers, partial, records

LABELS = "abcd"
METHODS = ("majority", "dawid_skene", "mace")
Given = dict[str, dict[str, tuple[str, str | None]]]


def gold(frame: pl.DataFrame, *ids: str, labels: str = LABELS, **config: Any) -> dict[str, dict[str, Any]]:
    section = ReconcileSection(compare=False, **config)
    table = reconcile(records(*ids), frame, list(labels), section, seed=1)
    assert table.schema == GoldRecord.polars_schema()
    return {row["id"]: row for row in table.iter_rows(named=True)}


def drawn(seed: int, *, records: int = 60, annotators: int = 5, asked_share: float = 0.6) -> Given:
    """Random answers with random masks. Annotator k errs with probability 0.05 + 0.08 k."""
    rng = np.random.default_rng(seed)
    given: Given = {}
    for record in range(records):
        truth = rng.random(len(LABELS)) < 0.35
        for annotator in rng.permutation(annotators)[: rng.integers(1, annotators + 1)]:
            asked = rng.random(len(LABELS)) < asked_share
            ticked = (truth ^ (rng.random(len(LABELS)) < 0.05 + 0.08 * annotator)) & asked
            judged = "".join(label for label, flag in zip(LABELS, asked, strict=True) if flag)
            labels = "".join(label for label, flag in zip(LABELS, ticked, strict=True) if flag)
            given.setdefault(f"r{record:02}", {})[f"A{annotator}"] = (labels, judged)
    return given


def judging(given: Given, label: str) -> dict[str, dict[str, bool]]:
    """{record: {annotator: whether it ticks the label}} of the answers that judge it."""
    found = {
        record: {
            annotator: label in labels
            for annotator, (labels, judged) in sorted(by_annotator.items())
            if judged is None or label in judged
        }
        for record, by_annotator in sorted(given.items())
    }
    return {record: by_annotator for record, by_annotator in found.items() if by_annotator}


@pytest.mark.parametrize("tie", ["adjudicate", "yes", "no"])
@pytest.mark.parametrize("least", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_majority_is_counted_among_the_answers_that_judge_the_label(seed: int, least: int, tie: str) -> None:
    given = drawn(seed)
    rows = gold(partial(given), *given, min_answers=least, tie=tie)
    for record, row in rows.items():
        votes = {label: list(judging(given, label).get(record, {}).values()) for label in LABELS}
        decided = [label for label in LABELS if len(votes[label]) >= least]
        tied = [label for label in decided if 2 * sum(votes[label]) == len(votes[label])]
        applies = [
            label for label in decided if 2 * sum(votes[label]) > len(votes[label]) or (label in tied and tie == "yes")
        ]
        status = "needs_answers" if not decided else "needs_adjudication" if tied and tie == "adjudicate" else "final"
        assert row["status"] == status
        assert row["labels"] == (applies if status == "final" else None)
        assert row["judged"] == (decided if status == "final" and decided != list(LABELS) else None)
        assert [(cell["label"], cell["yes"], cell["n"]) for cell in row["votes"]] == [
            (label, sum(votes[label]), len(votes[label])) for label in LABELS
        ]
        soft = {
            label: sum(votes[label]) / len(votes[label])
            for label in LABELS
            if votes[label] and (label in decided or status != "final")
        }
        assert {cell["label"]: cell["probability"] for cell in row["soft_labels"]} == pytest.approx(soft)
        assert row["n_annotators"] == sum(judged != "" for _, judged in given[record].values())


def plain_dawid_skene(sheet: dict[str, dict[str, bool]], smoothing: float) -> dict[str, float]:
    """Dawid & Skene's two steps in loops over the answers that exist, until nothing changes."""
    posterior = {record: sum(votes.values()) / len(votes) for record, votes in sheet.items()}
    for _ in range(20_000):
        frequency = (sum(posterior.values()) + smoothing) / (len(sheet) + 2 * smoothing)
        ticks: dict[tuple[str, bool], list[float]] = {}
        for record, votes in sheet.items():
            for annotator, ticked in votes.items():
                for applies, share in ((True, posterior[record]), (False, 1 - posterior[record])):
                    cell = ticks.setdefault((annotator, applies), [smoothing, 2 * smoothing])
                    cell[0] += share * ticked
                    cell[1] += share
        rate = {key: min(max(yes / n if n else 0.5, 1e-10), 1 - 1e-10) for key, (yes, n) in ticks.items()}
        before = posterior
        posterior = {}
        for record, votes in sheet.items():
            log = {True: math.log(frequency), False: math.log(1 - frequency)}
            for annotator, ticked in votes.items():
                for applies in log:
                    p = rate[annotator, applies]
                    log[applies] += math.log(p if ticked else 1 - p)
            posterior[record] = 1 / (1 + math.exp(min(log[False] - log[True], 700)))
        if max(abs(posterior[record] - before[record]) for record in sheet) < 1e-9:
            break
    return posterior


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dawid_skene_is_the_plain_loop_over_the_answers_that_judge_the_label(seed: int) -> None:
    given = drawn(seed, records=150)
    votes = votes_of(partial(given), list(LABELS))
    fitted = posteriors(votes, "dawid_skene", smoothing=1.0)
    assert fitted.unconverged == ()
    for at, label in enumerate(LABELS):
        expected = plain_dawid_skene(judging(given, label), 1.0)
        found = dict(zip(votes.records, fitted.probability[:, at], strict=True))
        assert {record: p for record, p in found.items() if np.isfinite(p)} == pytest.approx(expected, abs=1e-4)


def plain_mace(sheet: dict[str, dict[str, bool]], start: dict[str, float]) -> tuple[dict[str, float], float]:
    """One fit of MACE with its priors, in loops over the answers that exist: (posteriors, objective)."""
    given = [(record, annotator, ticked) for record, votes in sheet.items() for annotator, ticked in votes.items()]
    people = sorted({annotator for _, annotator, _ in given})
    usual = sum(ticked for *_, ticked in given) / len(given)
    knows = {}
    for person in people:
        right = [start[record] if ticked else 1 - start[record] for record, who, ticked in given if who == person]
        knows[person] = min(max(sum(right) / len(right), 0.05), 0.95)
    habit, frequency = dict.fromkeys(people, usual), min(max(sum(start.values()) / len(sheet), 0.001), 0.999)
    posterior: dict[str, float] = {}
    for _ in range(20_000):
        before, posterior, objective = posterior, {}, 0.0
        by_habit = {(w, t): (1 - knows[w]) * (habit[w] if t else 1 - habit[w]) for w in people for t in (True, False)}
        for record, votes in sheet.items():
            yes, no = frequency, 1 - frequency
            for who, ticked in votes.items():
                yes *= by_habit[who, ticked] + knows[who] * ticked
                no *= by_habit[who, ticked] + knows[who] * (not ticked)
            posterior[record] = yes / (yes + no)
            objective += math.log(yes + no)
        for person in people:
            objective += KNOWING[0] * math.log(knows[person]) + KNOWING[1] * math.log(1 - knows[person])
            objective += HABIT * (usual * math.log(habit[person]) + (1 - usual) * math.log(1 - habit[person]))
        objective += FREQUENCY * math.log(frequency * (1 - frequency))
        known, guessed, ticks, n = (dict.fromkeys(people, 0.0) for _ in range(4))
        for record, who, ticked in given:
            right = posterior[record] if ticked else 1 - posterior[record]
            knew = right * knows[who] / (knows[who] + by_habit[who, ticked])
            known[who] += knew
            guessed[who] += 1 - knew
            ticks[who] += (1 - knew) * ticked
            n[who] += 1
        knows = {person: (known[person] + KNOWING[0]) / (n[person] + sum(KNOWING)) for person in people}
        habit = {person: (ticks[person] + HABIT * usual) / (guessed[person] + HABIT) for person in people}
        frequency = (sum(posterior.values()) + FREQUENCY) / (len(sheet) + 2 * FREQUENCY)
        if before and max(abs(posterior[record] - before[record]) for record in sheet) < 1e-9:
            break
    return posterior, objective


@pytest.mark.parametrize("seed", [1, 2])
def test_mace_is_the_plain_loop_over_the_answers_that_judge_the_label(seed: int) -> None:
    given = drawn(seed, records=80, annotators=4)
    votes = votes_of(partial(given), list(LABELS))
    fitted = posteriors(votes, "mace")
    for at, label in enumerate(LABELS):
        sheet = judging(given, label)
        share = {record: sum(answer.values()) / len(answer) for record, answer in sheet.items()}
        people = sorted({annotator for answer in sheet.values() for annotator in answer})
        starts = [share] + [
            {record: float(answer.get(person, share[record])) for record, answer in sheet.items()} for person in people
        ]
        fits = [plain_mace(sheet, start) for start in starts]
        weights = np.exp(np.array([objective for _, objective in fits]) - max(objective for _, objective in fits))
        expected = {record: float(np.average([fit[record] for fit, _ in fits], weights=weights)) for record in sheet}
        found = dict(zip(votes.records, fitted.probability[:, at], strict=True))
        assert {record: p for record, p in found.items() if np.isfinite(p)} == pytest.approx(expected, abs=1e-3)


def test_who_never_judges_a_label_has_no_part_in_its_fit() -> None:
    # several fits explain X's and Y's answers about 'a'; Z would add a start, and with it weight to one of them
    given: Given = {f"r{at}": {"X": ("a" * (at == 2), "a"), "Y": ("a", "a")} for at in range(6)}
    with_z = {record: by_annotator | {"Z": ("b", "b")} for record, by_annotator in given.items()}
    alone, together = (posteriors(votes_of(partial(each), ["a", "b"]), "mace") for each in (given, with_z))
    assert together.probability[:, 0] == pytest.approx(alone.probability[:, 0], abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_label_that_few_were_asked_about_keeps_its_yes(method: str) -> None:
    # eight annotators per record; two were asked about 'a' and say yes. With "not judged = no" 'a' would have 2 of 8
    given: Given = {}
    for at in range(30):
        told = "a" if at % 2 else ""
        given[f"r{at:02}"] = {f"A{who}": ("b" if at % 3 else "", "b") for who in range(6)}
        given[f"r{at:02}"] |= {"A6": (told, "a"), "A7": (told, "a")}
    rows = gold(partial(given), *given, labels="ab", method=method)
    assert [("a" in row["labels"]) for row in rows.values()] == [at % 2 == 1 for at in range(30)]
    assert {row["judged"] for row in rows.values()} == {None}
    assert rows["r01"]["votes"] == [{"label": "a", "yes": 2, "n": 2}, {"label": "b", "yes": 6, "n": 6}]


def test_a_label_with_too_few_answers_is_left_out_and_the_others_are_decided() -> None:
    given: Given = {
        "part": {"X": ("a", None), "Y": ("a", "a")},
        "one": {"X": ("a", "ab"), "Y": ("c", "cd")},
        "nothing": {"X": ("", "")},
        "tie": {"X": ("a", None), "Y": ("", "a")},
    }
    section = ReconcileSection(compare=False)
    table, notes = reconcile_with_notes(records(*given), partial(given), list(LABELS), section, seed=1)
    rows = {row["id"]: row for row in table.iter_rows(named=True)}
    assert {record: row["status"] for record, row in rows.items()} == {
        "part": "final",
        "one": "needs_answers",  # two answers, but one to each label
        "nothing": "needs_answers",
        "tie": "needs_adjudication",
    }
    assert (rows["part"]["labels"], rows["part"]["judged"]) == (["a"], ["a"])
    assert rows["part"]["soft_labels"] == [{"label": "a", "probability": 1.0}]
    assert {rows[record]["judged"] for record in ("one", "nothing", "tie")} == {None}
    assert [cell["label"] for cell in rows["one"]["soft_labels"]] == list(LABELS)
    assert (rows["one"]["agreement"], rows["nothing"]["n_annotators"]) == (None, 0)
    assert notes == [
        "In 1 of 1 final records only some labels were judged. The other labels of these records are neither positive "
        "nor negative."
    ]


def test_agreement_is_measured_on_what_both_judge() -> None:
    # on 'a', the only common label, they agree; with "not judged = no" their Jaccard would be 1/3
    rows = gold(partial({"r": {"X": ("abc", None), "Y": ("a", "a")}}), "r", adjudicate_below_agreement=0.5)
    assert (rows["r"]["agreement"], rows["r"]["status"], rows["r"]["labels"]) == (1.0, "final", ["a"])


def test_an_uncertain_label_that_is_not_judged_asks_no_expert() -> None:
    given: Given = {f"r{at}": dict.fromkeys("XYZ", ("a" * (at % 2), "a")) for at in range(12)}
    given["r0"]["V"] = ("b", "b")
    given["r1"]["V"] = ("", "b")
    for method in ("dawid_skene", "mace"):
        rows = gold(partial(given), *given, labels="ab", method=method, adjudicate_below_posterior=0.7)
        assert {row["status"] for row in rows.values()} == {"final"}
        assert [row["labels"] for row in rows.values()] == [["a"] * (at % 2) for at in range(12)]


def test_an_expert_decides_the_labels_that_the_expert_judged() -> None:
    crowd = answers({"r": {"X": "ab", "Y": "b"}, "s": {"X": "ab", "Y": ""}, "t": {"X": "a"}, "u": {"X": "b", "Y": "b"}})
    expert = partial(
        {
            "r": {"E": ("", "a")},  # 'a' was a tie, 'b' is the crowd's
            "s": {"E": ("a", "a")},  # 'b' is still a tie
            "t": {"E": ("c", "c")},  # one answer settles nothing but what the expert judged
            "u": {"E": ("", "")},  # judged nothing
            "v": {"E": ("d", "cd"), "F": ("", "d")},  # two experts disagree on 'd'
        },
        round="adjudicate",
    )
    rows = gold(pl.concat([crowd, expert]), *"rstuv")
    shown = {name: (row["status"], row["labels"], row["judged"], row["adjudicated"]) for name, row in rows.items()}
    assert shown == {
        "r": ("final", ["b"], None, True),
        "s": ("needs_adjudication", None, None, False),
        "t": ("final", ["c"], ["c"], True),
        "u": ("final", ["b"], None, False),
        "v": ("needs_adjudication", None, None, False),
    }
    assert [row["method"] for row in rows.values()] == ["expert", "majority", "expert", "majority", "majority"]
    assert rows["t"]["soft_labels"] == [{"label": "c", "probability": 0.0}]  # X's answer
    assert rows["v"]["soft_labels"] == []


def test_two_experts_with_other_labels_decide_together() -> None:
    crowd = answers({"r": {"X": "ab", "Y": "cd"}})
    expert = partial({"r": {"E": ("a", "ab"), "F": ("d", "cd")}}, round="adjudicate")
    row = gold(pl.concat([crowd, expert]), "r")["r"]
    assert (row["status"], row["labels"], row["judged"]) == ("final", ["a", "d"], None)


def test_little_agreement_is_settled_only_by_experts_who_judge_all_that_was_judged() -> None:
    crowd = answers({"r": {"X": "a", "Y": "b", "Z": "c"}})
    for judged, status in (("abc", "needs_adjudication"), ("abcd", "final")):
        expert = partial({"r": {"E": ("b", judged)}}, round="adjudicate")
        assert gold(pl.concat([crowd, expert]), "r", adjudicate_below_agreement=0.5)["r"]["status"] == status
    narrow = partial({"r": {"X": ("a", "ab"), "Y": ("b", "ab")}})
    expert = partial({"r": {"E": ("b", "abc")}}, round="adjudicate")
    row = gold(pl.concat([narrow, expert]), "r", adjudicate_below_agreement=0.5)["r"]
    assert (row["status"], row["labels"], row["judged"]) == ("final", ["b"], ["a", "b", "c"])


@pytest.mark.parametrize("method", METHODS)
def test_masks_that_leave_nothing_out_give_the_gold_of_answers_without_masks(method: str) -> None:
    given = {r: {w: t for w, (t, _) in by.items()} for r, by in drawn(4, asked_share=1.0).items()}
    full = {r: {w: (t, LABELS) for w, t in by.items()} for r, by in given.items()}
    assert gold(partial(full), *given, method=method) == gold(answers(given), *given, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [1, 2])
def test_order_and_answers_that_judge_nothing_change_nothing(method: str, seed: int) -> None:
    given = drawn(seed)
    frame = partial(given)
    expected = gold(frame, *given, method=method)
    assert gold(frame.sample(fraction=1.0, shuffle=True, seed=3), *given, method=method) == expected
    silent = partial({record: {"Q": ("", "")} for record in [*given, "other"]})
    assert gold(pl.concat([frame, silent]), *given, method=method) == expected


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_in_two_halves_gives_the_same_labels(method: str) -> None:
    # each label is judged by the same answers; the posteriors, labels and votes are the same, and there is one
    # annotator more. `agreement` is over label sets, which are other ones
    given = {r: {w: (t, None) for w, (t, _) in by.items()} for r, by in drawn(5, asked_share=1.0).items()}
    halves: Given = {}
    for record, by_annotator in given.items():
        halves[record] = {w: answer for w, answer in by_annotator.items() if w != "A1"}
        if "A1" in by_annotator:
            ticked = by_annotator["A1"][0]
            for name, asked in (("A1-1", "ab"), ("A1-2", "cd")):
                halves[record][name] = ("".join(label for label in ticked if label in asked), asked)
    whole, split = gold(partial(given), *given, method=method), gold(partial(halves), *given, method=method)
    for record in given:
        before, after = whole[record], split[record]
        for name in ("status", "labels", "judged", "votes", "split"):
            assert after[name] == before[name]
        for old, new in zip(before["soft_labels"], after["soft_labels"], strict=True):
            assert new["probability"] == pytest.approx(old["probability"], abs=1e-6)
        assert after["n_annotators"] == before["n_annotators"] + ("A1" in given[record])


def test_other_methods_are_compared_on_the_judged_labels() -> None:
    given: Given = {f"r{at:02}": dict.fromkeys("XYZ", ("a" * (at % 2), "ab")) for at in range(20)}
    given["r00"]["V"] = ("c", "c")  # one answer to 'c': not judged
    comparisons = compare_methods(votes_of(partial(given), list("abc")), ReconcileSection(), seed=1)
    assert [(row.records, row.same_labels) for row in comparisons] == [(20, 20), (20, 20)]


def test_expert_levels_come_first_only_for_the_labels_that_the_expert_rated() -> None:
    crowd = answers({"r": {"X": "ab", "Y": "b"}})
    expert = partial({"r": {"E": ("a", "a")}}, round="adjudicate")
    table = reconcile(records("r"), pl.concat([crowd, expert]), ["a", "b"], ReconcileSection(compare=False), seed=1)
    levels = [
        ("X", "annotate", "a", 1),
        ("X", "annotate", "b", 2),
        ("Y", "annotate", "b", 3),
        ("E", "adjudicate", "a", 3),
    ]
    given = SeverityAnswer.frame(
        [{"record_id": "r", "annotator": w, "round": r, "label": label, "level": n} for w, r, label, n in levels]
    )
    assert gold_severity(table, given).rows() == [("r", "a", 3.0, 1, True), ("r", "b", 2.5, 2, False)]


def test_splits_share_out_the_negatives_of_a_label_that_few_records_judge() -> None:
    # 'b' was judged in 12 of 400 records: 4 with it, 8 without it. Taken for negatives, all 396 would count as without,
    # and the eight would be where chance puts them
    shares = Splits(train=0.5, calibration=0.25, test=0.25)
    schema = {name: GoldRecord.polars_schema()[name] for name in ("id", "messages", "labels", "judged")}
    rows = []
    for at in range(400):
        labels = ["a"] if at % 2 else []
        judged = ["a"] if at >= 12 else ["a", "b"]
        labels += ["b"] if at < 4 else []
        rows.append((f"r{at:03}", [{"role": "user", "content": f"text {at}"}], labels, judged))
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    for seed in range(10):
        split = assign_splits(frame, ["a", "b"], shares, seed)
        counted = frame.with_columns(split).filter(pl.col("judged").list.len() == 2)
        for with_b, expected in ((True, [2, 1, 1]), (False, [4, 2, 2])):
            part = counted.filter(pl.col("labels").list.contains("b") == with_b)["split"]
            assert [int((part == name).sum()) for name in ("train", "calibration", "test")] == expected
