from __future__ import annotations

import html
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from marginalia.annotation.client import annotator_words
from marginalia.annotation.client.connection import Connection
from marginalia.annotation.server.server_control import accounts
from marginalia.pipeline.annotating import push_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.schemas.errors import InputError, ServiceError
from tests.annotation.runs import TAXONOMY, SimulatedRun, write_prompts

NewRun = Callable[..., SimulatedRun]
HOSTILE = """<img src=x onerror=alert(1)> **md** [x](http://192.0.2.1/) &lt; <|eot_id|>\u2028 "q" 'q'
second line"""


def test_push_shows_the_records_with_the_taxonomys_questions(new_run: NewRun) -> None:
    work = new_run()
    done = work.stage("push")
    assert done.manifest.counts_out == {"sent": 3, "already_there": 0, "on_server_only": 0}
    assert [(r["external_id"], r["fields"]["record"]) for r in work.on_server()] == [
        (i, [{"role": "user", "content": text}]) for i, text in (("r1", "one"), ("r2", "two"), ("r3", "three"))
    ]
    with work.as_user("ann") as ann:
        questions = {q["name"]: q for q in ann.get(f"/datasets/{work.pushed()['dataset_id']}/questions")["items"]}
        dataset = ann.get(f"/datasets/{work.pushed()['dataset_id']}")
    options = [(option["value"], option["text"]) for option in questions["labels"]["settings"]["options"]]
    assert options == [("a", "Apples <b>"), ("b", "Boats"), ("c", "Cats"), ("none", "None of these")]
    assert [(name, q["required"]) for name, q in questions.items()] == [
        ("labels", True),
        ("unsure", False),
        ("note", False),
    ]
    assert dataset["distribution"]["min_submitted"] == 2
    assert "You may skip" in dataset["guidelines"]
    assert "api" not in (work.folder / "push.json").read_text().lower()


def test_a_second_push_sends_nothing_and_more_prompts_only_themselves(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    assert work.stage("push").status == "up to date"
    assert work.stage("push", force=True).manifest.counts_out["sent"] == 0
    write_prompts(work.folder, {"r1": "one", "r2": "two", "r3": "three", "r4": "four"}, {})
    assert work.stage("push").manifest.counts_out == {"sent": 1, "already_there": 3, "on_server_only": 0}
    assert len(work.on_server()) == 4


def test_an_interrupted_push_continues_where_it_ended(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    work = new_run(texts={f"r{at}": f"text {at}" for at in range(25)}, annotation={"batch": 10})
    put, calls = Connection.put, []

    def breaks(self: Connection, path: str, body: Any, **named: Any) -> Any:
        calls.extend([path] if path.endswith("/bulk") else [])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return put(self, path, body, **named)

    monkeypatch.setattr(Connection, "put", breaks)
    with pytest.raises(KeyboardInterrupt):
        work.stage("push")
    assert len(work.on_server_named()) == 10
    assert work.stage("push").manifest.counts_out == {"sent": 15, "already_there": 10, "on_server_only": 0}
    assert sorted(r["external_id"] for r in work.on_server()) == sorted(f"r{at}" for at in range(25))


def test_hostile_text_reaches_the_page_escaped(new_run: NewRun) -> None:
    work = new_run(texts={"r1": HOSTILE})
    work.stage("push")
    (record,) = work.on_server()
    assert record["fields"]["record"][0]["content"] == html.escape(HOSTILE, quote=False)
    assert work.stage("push", force=True).manifest.counts_out["already_there"] == 1


def test_a_text_longer_than_argilla_takes_is_shown_in_parts(new_run: NewRun) -> None:
    text = "<&>" * 20_000
    work = new_run(texts={"r1": text})
    work.stage("push")
    parts = [html.unescape(part["content"]) for part in work.on_server()[0]["fields"]["record"]]
    assert "".join(parts) == text
    assert len(parts) > 1


def test_a_changed_text_of_a_pushed_record_is_refused(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    write_prompts(work.folder, {"r1": "one", "r2": "TWO", "r3": "three"}, {})
    with pytest.raises(InputError, match="the text of record 'r2' differs from the one that annotators see"):
        work.stage("push")


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("{id: c, name: Cats", "{id: d, name: Cats", "d was added; c was removed"),
        ("name: Boats", "name: Ships", "b was renamed from 'Boats' to 'Ships'"),
    ],
)
def test_changed_labels_after_a_push_are_explained(new_run: NewRun, old: str, new: str, change: str) -> None:
    work = new_run()
    work.stage("push")
    (work.folder / "taxonomy.yaml").write_text(TAXONOMY.replace(old, new))
    with pytest.raises(InputError, match=f"the taxonomy 'topics' changed after.*{change}.*annotation.dataset"):
        work.stage("push")


def test_a_changed_definition_is_brought_into_the_guidelines(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    (work.folder / "taxonomy.yaml").write_text(TAXONOMY.replace("About cats", "About cats and kittens"))
    work.stage("push")
    with work.as_user("ann") as ann:
        assert "kittens" in ann.get(f"/datasets/{work.pushed()['dataset_id']}")["guidelines"]


def test_a_changed_number_of_annotators_changes_which_records_are_done(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    work.answer("ann", {"r1": ["a"]})
    assert {record["status"] for record in work.on_server()} == {"pending"}
    config = work.folder / "config.yaml"
    config.write_text(config.read_text().replace('"annotators": 2', '"annotators": 1'))
    work.stage("push")
    deadline = time.monotonic() + 60  # Argilla recounts in the background
    while work.on_server()[0]["status"] != "completed" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [record["status"] for record in work.on_server()] == ["completed", "pending", "pending"]


def test_your_own_argilla_needs_the_key_in_the_environment(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch, argilla_home: Path
) -> None:
    work = new_run(annotation={"api_key_env": "MY_ARGILLA_KEY", "team": [], "experts": []})
    config = work.folder / "config.yaml"
    config.write_text(config.read_text().replace('"annotation": {', f'"annotation": {{"url": "{work.url}", '))
    monkeypatch.delenv("MY_ARGILLA_KEY", raising=False)
    with pytest.raises(InputError, match="MY_ARGILLA_KEY is not set"):
        work.stage("push")
    monkeypatch.setenv("MY_ARGILLA_KEY", "wrong-canary")
    with pytest.raises(
        ServiceError, match="the API key is wrong: check the environment variable MY_ARGILLA_KEY"
    ) as error:
        work.stage("push")
    assert "canary" not in str(error.value)
    monkeypatch.setenv("MY_ARGILLA_KEY", accounts(argilla_home)[0].api_key)
    assert work.stage("push").manifest.counts_out["sent"] == 3


def test_team_members_without_an_account_are_named(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch, argilla_home: Path
) -> None:
    work = new_run(annotation={"team": ["owner", "nobody-here"]})
    config = work.folder / "config.yaml"
    config.write_text(config.read_text().replace('"annotation": {', f'"annotation": {{"url": "{work.url}", '))
    monkeypatch.setenv("ARGILLA_API_KEY", accounts(argilla_home)[0].api_key)
    with pytest.raises(ServiceError, match="has no user nobody-here"):
        work.stage("push")


def test_an_address_where_nobody_answers_names_the_setting(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marginalia.annotation.client.connection.RETRIES", 0)
    monkeypatch.setenv("ARGILLA_API_KEY", "key")
    work = new_run()
    config = work.folder / "config.yaml"
    config.write_text(config.read_text().replace('"annotation": {', '"annotation": {"url": "http://127.0.0.1:9", '))
    with pytest.raises(ServiceError, match=r"http://127.0.0.1:9 does not answer.*annotation\.url"):
        work.stage("push")


def test_pull_reports_a_dataset_deleted_on_the_server(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    with work.as_user("owner") as owner:
        owner.delete(f"/datasets/{work.pushed()['dataset_id']}")
    with pytest.raises(ServiceError, match="was the dataset deleted"):
        work.stage("pull")


def test_a_pilot_comes_first_and_more_adds_to_it(new_run: NewRun) -> None:
    work = new_run(texts={f"r{at}": f"text {at}" for at in range(12)}, annotation={"first": 4})
    assert work.stage("push").manifest.counts_out["sent"] == 4
    pilot = {record["external_id"] for record in work.on_server()}
    work.answer("ann", {record: ["a"] for record in pilot})
    done = run_stage(push_stage.stage(more=5), work.run)
    assert done.manifest.counts_out == {"sent": 5, "already_there": 4, "on_server_only": 0}
    assert pilot < {record["external_id"] for record in work.on_server()}
    assert work.stage("push", force=True).manifest.counts_out["already_there"] == 9
    assert run_stage(push_stage.stage(more=100), work.run).manifest.counts_out["sent"] == 3


def test_argillas_own_client_reads_the_dataset_as_it_was_meant(new_run: NewRun) -> None:
    work = new_run(annotation={"severity": ["mild", "bad"]})
    work.stage("push")
    with warnings.catch_warnings(), work.as_user("owner") as owner:
        warnings.simplefilter("ignore")  # the SDK 2.8 warns about its own use of pydantic
        import argilla

        key = accounts(work.home)[0].api_key
        client = argilla.Argilla(api_url=owner.url, api_key=key)
        with closing(client.http_client):
            dataset = client.datasets(name=work.pushed()["dataset"], workspace="clients")
            settings = dataset.settings.serialize()
            texts = [record.fields["record"][0].content for record in dataset.records]
    assert texts == ["one", "two", "three"]
    assert [(field["name"], field["settings"]["type"]) for field in settings["fields"]] == [("record", "chat")]
    asked = {question["name"]: question for question in settings["questions"]}
    assert list(asked) == ["labels", "severity-a", "severity-b", "severity-c", "unsure", "note"]
    assert [question["required"] for question in asked.values()] == [True, False, False, False, False, False]
    options = [option["value"] for option in asked["labels"]["settings"]["options"]]
    assert (options, asked["labels"]["settings"]["visible_options"]) == (["a", "b", "c", "none"], 4)
    assert settings["distribution"] == {"strategy": "overlap", "min_submitted": 2}
    assert not settings["allow_extra_metadata"]


def test_records_and_datasets_that_were_deleted_on_the_server_are_sent_again(new_run: NewRun) -> None:
    work = new_run()
    work.stage("push")
    work.answer("ann", {"r1": ["a"], "r2": ["b"]})
    work.stage("pull")
    assert work.stage("push").status == "up to date"
    deleted = next(record["id"] for record in work.on_server() if record["external_id"] == "r1")
    with work.as_user("owner") as owner:
        owner.delete(f"/records/{deleted}")
    done = work.stage("push")
    assert (done.why, done.manifest.counts_out["sent"]) == ("2 of 3 records are on the server", 1)
    assert work.stage("push").status == "up to date"
    with work.as_user("owner") as owner:
        owner.delete(f"/datasets/{work.pushed()['dataset_id']}")
    done = work.stage("push")
    assert (done.why, done.manifest.counts_out["sent"]) == ("the dataset is not on the server any more", 3)
    work.answer("ann", {"r1": ["c"]})
    counts = work.stage("pull").manifest.counts_out
    assert (counts["answers"], counts["edited"], counts["gone"]) == (2, 1, 1)
    assert work.annotations().sort("record_id")["labels"].to_list() == [["c"], ["b"]]


def test_a_dataset_with_english_questions_and_german_texts_stays_in_use(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = new_run(annotation={"severity": ["mild", "schwer"]})
    (work.folder / "taxonomy.yaml").write_text(TAXONOMY.replace("subject:", "language: de\nsubject:"))
    with monkeypatch.context() as earlier_version:
        earlier_version.setattr(annotator_words, "WORDS", {})  # English for every language
        work.stage("push")
    dataset = work.pushed()["dataset_id"]
    work.answer("ann", {"r1": ["a"]}, unsure="unsure", **{"severity-a": "2"})
    write_prompts(work.folder, {"r1": "one", "r2": "two", "r3": "three", "r4": "four"}, {})
    assert work.stage("push").manifest.counts_out == {"sent": 1, "already_there": 3, "on_server_only": 0}
    assert work.pushed()["dataset_id"] == dataset
    counts = work.stage("pull").manifest.counts_out
    assert (counts["answers"], counts["unsure"], counts["levels"]) == (1, 1, 1)
    with work.as_user("ann") as ann:
        assert "**Aufgabe.**" in ann.get(f"/datasets/{dataset}")["guidelines"]
        titles = [question["title"] for question in ann.get(f"/datasets/{dataset}/questions")["items"]]
    assert titles[0] == "Which labels apply?"


def test_a_new_dataset_asks_in_the_language_of_the_taxonomy(new_run: NewRun) -> None:
    work = new_run(annotation={"severity": ["mild", "schwer"]})
    (work.folder / "taxonomy.yaml").write_text(TAXONOMY.replace("subject:", "language: de\nsubject:"))
    work.stage("push")
    with work.as_user("ann") as ann:
        questions = ann.get(f"/datasets/{work.pushed()['dataset_id']}/questions")["items"]
    assert [question["title"] for question in questions][1:3] == [
        "Falls „Apples <b>“ angekreuzt ist: Wie schwer ist es?",
        "Falls „Boats“ angekreuzt ist: Wie schwer ist es?",
    ]
    work.answer("ann", {"r1": ["a"]}, unsure="unsure")
    assert work.stage("pull").manifest.counts_out["unsure"] == 1
