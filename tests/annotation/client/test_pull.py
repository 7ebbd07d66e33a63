from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import timedelta

import pytest

from marginalia.annotation.server.server_control import add_annotators
from marginalia.schemas.tables import Answer
from tests.annotation.runs import SimulatedRun

NewRun = Callable[..., SimulatedRun]


def counts(work: SimulatedRun) -> dict[str, int]:
    manifest = work.stage("pull").manifest
    return {**manifest.counts_in, **manifest.counts_out}


def state(work: SimulatedRun) -> dict[tuple[str, str], tuple[str, list[str] | None]]:
    """(record, annotator) → (status, labels)."""
    rows = work.annotations().iter_rows(named=True)
    return {(row["record_id"], row["annotator"]): (row["status"], row["labels"]) for row in rows}


@pytest.fixture
def work(new_run: NewRun) -> SimulatedRun:
    made = new_run()
    made.stage("push")
    return made


def test_each_kind_of_answer_has_its_defined_state(work: SimulatedRun) -> None:
    work.answer("ann", {"r1": ["a", "c"]}, note="really?", unsure="unsure")
    work.answer("ann", {"r2": ["none"]})
    work.answer("ann", {"r3": ["b"]}, status="draft")
    work.answer("ben", {"r1": ["a"]}, status="discarded")
    work.answer("ben", {"r2": ["none", "b"]})
    numbers = counts(work)
    ann, ben = work.pseudonym("ann"), work.pseudonym("ben")
    assert state(work) == {
        ("r1", ann): ("submitted", ["a", "c"]),
        ("r2", ann): ("submitted", []),
        ("r3", ann): ("draft", None),
        ("r1", ben): ("discarded", None),
        ("r2", ben): ("draft", None),
    }
    assert {k: numbers[k] for k in ("submitted", "discarded", "draft", "rejected")} == {
        "submitted": 2,
        "discarded": 1,
        "draft": 1,
        "rejected": 1,
    }
    assert (numbers["answers"], numbers["on_server"], numbers["new"], numbers["notes"], numbers["unsure"]) == (
        5,
        5,
        5,
        1,
        1,
    )
    assert work.stage("pull").manifest.facts["to_mend"] == [f"r2: {ben}: none_with_category"]
    assert work.annotations().schema == Answer.polars_schema()
    assert work.annotations().filter(note="really?")["record_id"].to_list() == ["r1"]
    kept = next(entry for entry in work.journal() if entry["annotator"] == ben and entry["record_id"] == "r2")
    assert (kept["labels"], kept["status"], kept["rejected"]) == (["none", "b"], "submitted", "none_with_category")


def test_a_second_pull_appends_only_what_changed(work: SimulatedRun) -> None:
    work.answer("ann", {"r1": ["a"], "r2": ["b"]})
    work.answer("ben", {"r1": ["a"]})
    counts(work)
    before = (work.folder / "annotations.jsonl").read_bytes()
    assert counts(work)["unchanged"] == 3
    assert (work.folder / "annotations.jsonl").read_bytes() == before
    work.answer("ann", {"r1": ["c"]})
    work.answer("ben", {"r3": ["none"]})
    numbers = counts(work)
    assert (numbers["new"], numbers["edited"], numbers["unchanged"], numbers["on_server"]) == (1, 1, 2, 4)
    assert (work.folder / "annotations.jsonl").read_bytes().startswith(before)
    assert len(work.journal()) == 5
    assert state(work)["r1", work.pseudonym("ann")] == ("submitted", ["c"])


def test_a_submitted_answer_that_is_discarded_later_no_longer_counts(work: SimulatedRun) -> None:
    work.answer("ann", {"r1": ["a"]})
    counts(work)
    work.answer("ann", {"r1": ["a"]}, status="discarded")
    assert counts(work)["edited"] == 1
    assert state(work) == {("r1", work.pseudonym("ann")): ("discarded", None)}


def test_answers_that_vanish_from_the_server_are_kept_and_counted(work: SimulatedRun) -> None:
    add_annotators(work.home, ["leaver"], "clients")
    work.answer("ann", {"r1": ["a"], "r2": ["b"]})
    work.answer("leaver", {"r1": ["c"]})
    counts(work)
    with work.as_user("owner") as owner:
        users = {user["username"]: user["id"] for user in owner.get("/users")["items"]}
        responses = work.on_server(responses=True)[1]["responses"]
        owner.delete(f"/users/{users['leaver']}")
    with work.as_user("ann") as ann:
        ann.delete(f"/responses/{responses[0]['id']}")
    numbers = counts(work)
    assert (numbers["on_server"], numbers["gone"], numbers["submitted"]) == (1, 2, 3)
    assert len(state(work)) == 3
    assert len(work.journal()) == 3
    assert work.pseudonym("leaver") == "A02"


def test_pseudonyms_stay_and_the_key_is_private(work: SimulatedRun) -> None:
    work.answer("ben", {"r3": ["a"]})
    counts(work)
    first = work.pseudonym("ben")
    work.answer("ann", {"r1": ["a"]})
    counts(work)
    assert (first, work.pseudonym("ben"), work.pseudonym("ann")) == ("A01", "A01", "A02")
    assert stat.S_IMODE((work.folder / "annotators.key.json").stat().st_mode) == 0o600
    for name in ("annotations.jsonl", "manifests/pull.json"):
        text = (work.folder / name).read_text()
        assert 'ann"' not in text and "ben" not in text


def test_a_journal_torn_by_a_kill_is_repaired_by_the_next_pull(work: SimulatedRun) -> None:
    work.answer("ann", {"r1": ["a"], "r2": ["b"]})
    counts(work)
    path = work.folder / "annotations.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    numbers = counts(work)
    assert (numbers["new"], numbers["unchanged"]) == (1, 1)
    assert numbers["torn_bytes"] > 0
    assert len(work.journal()) == 2


def test_more_answers_than_a_record_needs_all_count(work: SimulatedRun) -> None:
    add_annotators(work.home, ["carl"], "clients")
    for name in ("ann", "ben", "carl"):
        work.answer(name, {"r1": ["a"]})
    assert counts(work)["submitted"] == 3


def test_answers_become_gold(work: SimulatedRun) -> None:
    import polars as pl

    work.answer("ann", {"r1": ["a"], "r2": ["none"], "r3": ["a"]})
    work.answer("ben", {"r1": ["a"], "r2": ["none"], "r3": ["b"]})
    work.stage("pull")
    done = work.stage("reconcile")
    gold = pl.read_parquet(work.folder / "gold.parquet").sort("id")
    assert gold["status"].to_list() == ["final", "final", "needs_adjudication"]
    assert gold["labels"].to_list() == [["a"], [], None]
    assert done.manifest.counts_out == {
        "records": 3,
        "final": 2,
        "needs_answers": 0,
        "needs_adjudication": 1,
        "adjudicated": 0,
    }


def pull_changes(work: SimulatedRun, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts of a pull that reads the changes since the last one, without the margin of MARGIN seconds."""
    monkeypatch.setattr("marginalia.annotation.client.pull_answers.MARGIN", timedelta(0))
    return counts(work)


def test_a_second_pull_reads_the_records_with_new_edited_and_deleted_answers_only(
    work: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.answer("ann", {"r1": ["a"], "r2": ["b"], "r3": ["c"]})
    work.answer("ben", {"r1": ["a"]})
    assert pull_changes(work, monkeypatch)["records_read"] == 3
    numbers = pull_changes(work, monkeypatch)
    assert (numbers["records_read"], numbers["unchanged"], numbers["on_server"]) == (0, 4, 4)
    work.answer("ann", {"r2": ["c"]})  # edits an answer without completing the record
    work.answer("ben", {"r3": ["c"]})  # completes it
    numbers = pull_changes(work, monkeypatch)
    assert (numbers["records_read"], numbers["edited"], numbers["new"], numbers["unchanged"]) == (2, 1, 1, 3)
    answer = next(r for r in work.on_server(responses=True) if r["external_id"] == "r1")["responses"][0]
    with work.as_user("ann") as ann:
        ann.delete(f"/responses/{answer['id']}")
    for records_read in (1, 0):  # a deleted answer is counted again, without reading its record
        numbers = pull_changes(work, monkeypatch)
        assert (numbers["records_read"], numbers["gone"], numbers["on_server"]) == (records_read, 1, 4)
    assert state(work)["r2", work.pseudonym("ann")] == ("submitted", ["c"])


def test_answers_missing_from_the_changed_records_are_noticed_by_their_number(
    work: SimulatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.answer("ann", {"r1": ["a"]})
    pull_changes(work, monkeypatch)
    work.answer("ann", {"r2": ["b"]})
    monkeypatch.setattr("marginalia.annotation.client.pull_answers.changed_since", lambda *arguments: iter(()))
    assert pull_changes(work, monkeypatch)["new"] == 1


def test_a_journal_that_the_last_pull_did_not_leave_is_compared_with_everything(work: SimulatedRun) -> None:
    work.answer("ann", {"r1": ["a"], "r2": ["b"]})
    counts(work)
    path = work.folder / "annotations.jsonl"
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    numbers = counts(work)
    assert (numbers["records_read"], numbers["new"], numbers["unchanged"]) == (3, 1, 1)
