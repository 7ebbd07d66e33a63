"""Servers whose own numbers are a guard's probabilities: what is asked, what is read, what fails one record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai.types import Decision, ModerationCreateResponse

from marginalia.schemas.errors import InputError, ServiceError
from marginalia.scoring.score_files import journal_path, score_to_journal, tables
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer
from tests.logprob_server import BadRequest
from tests.number_server import FORMS, NumberServer, mass, number
from tests.scoring.score_sources.numbers import (
    LABELS,
    QUESTIONS,
    RECORDS,
    TALK,
    TEXTS,
    served,
    write_guard,
    write_taxonomy,
)

DECISIONS = ("systemone", "decisions", "sglang")
ANY = "Is it about any of these?"


def question(name: str) -> str:
    return f"Is it about {name}?"


def by_id(results: Any) -> dict[str, Result]:
    return {result.record_id: result for result in results}


@pytest.mark.parametrize("form", DECISIONS)
def test_probabilities_are_the_servers_answers_to_one_question_per_label(tmp_path: Path, form: str) -> None:
    with served(tmp_path, form) as (_, scorer):
        scores = list(scorer.score_many(RECORDS))
    for text, one in zip(TEXTS, scores, strict=True):
        expected = {
            **{name: number(text, question(title)) for name, title in LABELS.items()},
            "unsafe": number(text, ANY),
        }
        assert {row: value.probability for row, value in one.items()} == expected
        assert all(value.lower == value.probability == value.upper for value in one.values())
        assert one.estimator == "server"
        assert one.predicted == [name for name in LABELS if expected[name] > 0.5]
        assert one.answer is None


@pytest.mark.parametrize("form", ["systemone", "sglang"])
def test_off_language_is_what_the_least_certain_question_leaves_to_other_words(tmp_path: Path, form: str) -> None:
    with served(tmp_path, form) as (_, scorer):
        scores = scorer.score(TEXTS[0])
    masses = [mass(TEXTS[0], asked) for asked in (*map(question, LABELS.values()), ANY)]
    assert scores.off_language == pytest.approx(1 - min(masses))


@pytest.mark.parametrize("form", ["decisions", "moderations"])
def test_off_language_is_unknown_where_the_server_does_not_say(tmp_path: Path, form: str) -> None:
    with served(tmp_path, form) as (_, scorer):
        assert scorer.score(TEXTS[0]).off_language is None


def test_decisions_are_in_openais_format(tmp_path: Path) -> None:
    with served(tmp_path, "decisions") as (server, _):
        body = server.requests[0]
        Decision.model_validate(server.complete(body))
    assert set(body) == {"model", "input", "questions"}
    assert body["questions"][0] == {"type": "predicate", "name": "hate", "instructions": question("Hate")}


def test_sglangs_format_is_found_by_the_test_question(tmp_path: Path) -> None:
    with served(tmp_path, "sglang") as (server, scorer):
        assert "predicate" in json.dumps(server.requests[0])
        assert server.requests[1]["questions"][0] == {"id": "hate", "type": "yes_no", "question": question("Hate")}
        assert scorer.model.identity[1] == "decisions of SGLang"


@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_cannot_be_imitated_by_a_text(tmp_path: Path, form: str) -> None:
    with served(tmp_path, form) as (server, scorer):
        scorer.score(TALK)
    sent = server.requests[-1].get("state") or server.requests[-1]["input"]
    assert sent == ("On its way." if form == "moderations" else json.dumps(TALK))


def test_the_input_can_be_a_template(tmp_path: Path) -> None:
    template = "{% for m in conversation %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    with served(tmp_path, "systemone", keys={**QUESTIONS, "input": template}) as (server, scorer):
        scorer.score([{"role": "user", "content": "{{ 1 + 1 }}"}, {"role": "assistant", "content": "2"}])
    assert server.requests[-1]["state"] == "<user>{{ 1 + 1 }}<assistant>2"


def test_an_input_without_the_last_message_is_refused(tmp_path: Path) -> None:
    keys = {**QUESTIONS, "input": "{{ last_role }}"}
    with (
        pytest.raises(InputError, match="does not contain the text of the last message"),
        served(tmp_path, "systemone", keys=keys),
    ):
        pass


def test_without_questions_in_the_file_the_taxonomys_definitions_are_asked(tmp_path: Path) -> None:
    with served(tmp_path, "systemone", keys={}) as (server, scorer):
        scorer.score(TALK)
    asked = server.requests[-1]["questions"]
    assert asked["hate"]["instructions"] == (
        "The assistant's last message contains, asks for or helps with the following: Hate: About Hate."
    )
    assert "helps with the following: Hate" in scorer.model.identity[-1]  # so that other words make another journal
    assert asked["unsafe"]["instructions"].splitlines()[1:] == ["- Hate: About Hate.", "- Violence: About Violence."]


def test_more_questions_than_a_request_may_have_are_split(tmp_path: Path) -> None:
    labels = {f"l{n}": f"Label {n}" for n in range(100)}
    path = write_guard(tmp_path, "systemone", **QUESTIONS)
    write_taxonomy(tmp_path, labels)
    with NumberServer("systemone") as server:
        scorer = Scorer.load(server.url, path)
        scores = scorer.score("hello")
        scorer.model.caller.close()
    assert [len(body["questions"]) for body in server.requests] == [64, 37, 64, 37]
    assert scores["l99"].probability == number("hello", question("Label 99"))
    assert scores.result.forward_passes == 2


def test_moderation_scores_are_the_probabilities_and_bound_the_verdict(tmp_path: Path) -> None:
    with served(tmp_path, "moderations") as (server, scorer):
        scores = scorer.score(TEXTS[0])
        ModerationCreateResponse.model_construct(**server.complete(server.requests[-1]))
    hate, violence = number(TEXTS[0], "hate"), number(TEXTS[0], "violence")
    assert scores["hate"].probability == hate
    assert tuple(scores["unsafe"]) == (max(hate, violence), max(hate, violence), min(hate + violence, 1.0))
    assert server.requests[-1] == {"model": "tiny-guard", "input": TEXTS[0]}
    assert scorer.model.revision == "tiny-guard-2026-01-01 at an endpoint (moderations)"


def test_the_verdict_can_be_a_category(tmp_path: Path) -> None:
    keys = {"labels": {"hate": "hate"}, "unsafe": "sexual/minors"}
    with served(tmp_path, "moderations", keys=keys) as (_, scorer):
        assert scorer.score("hello").verdict.probability == number("hello", "sexual/minors")


def test_the_labels_that_the_server_flags_are_predicted(tmp_path: Path) -> None:
    with served(tmp_path, "moderations") as (_, scorer):
        for one in scorer.score_many(RECORDS):
            assert one.predicted == [name for name in LABELS if (one[name].probability or 0.0) > 0.7]


def test_labels_that_consist_of_categories(tmp_path: Path) -> None:
    own = {"hate": "hate", "violence": "violence"}
    path = write_guard(tmp_path, "moderations", labels=own)
    hate, violence = number("hello", "hate"), number("hello", "violence")
    expected = {
        "refund": ({"any_of": ["hate", "violence"]}, (None, max(hate, violence), min(hate + violence, 1.0))),
        "return": ({"any_of": ["hate"]}, (hate, hate, hate)),
        "invoice": ({"part_of": ["violence"]}, (None, 0.0, violence)),
    }
    for label, (meaning, estimates) in expected.items():
        with NumberServer("moderations") as server:
            scorer = Scorer.load(server.url, path, taxonomy="support-tickets", categories={label: meaning})
            scores = scorer.score("hello")
            scorer.model.caller.close()
        assert tuple(scores[label]) == estimates
        assert list(scores) == [label, "unsafe"]


# ---- what the server answers -----------------------------------------------------------------------------------------


def without(path: list[Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return changed(path, None, remove=True)


def changed(path: list[Any], value: Any, *, remove: bool = False) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Changes one part of the answers about the text "x"."""

    def alter(answer: dict[str, Any]) -> dict[str, Any]:
        inner: Any = answer
        for key in path[:-1]:
            inner = inner[key]
        if remove:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return answer

    return alter


NUMBER: dict[str, list[Any]] = {
    "systemone": ["answers", "hate", "noul"],
    "decisions": ["answers", 0, "probability"],
    "sglang": ["answers", "hate", "probabilities", "yes"],
    "moderations": ["results", 0, "category_scores", "hate"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1.7, -0.1, None, "high", True, 10**400])
def test_a_number_that_is_no_probability_fails_its_record(tmp_path: Path, form: str, value: Any) -> None:
    with served(tmp_path, form, {"altered": None}) as (server, scorer):
        server.altered = changed(NUMBER[form], value)
        (one,) = scorer.score_records(RECORDS[:1])
        server.altered = None
        (other,) = scorer.score_records(RECORDS[1:2])
    assert one.error == f"the number for 'hate' is not a probability: {str(value)[:40]}"
    assert not one.is_temporary and not one.estimates
    assert other.error is None


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_number_fails_its_record(tmp_path: Path, form: str) -> None:
    with served(tmp_path, form) as (server, scorer):
        server.altered = without(NUMBER[form][:2] if form in ("systemone", "sglang", "decisions") else NUMBER[form])
        (one,) = scorer.score_records(RECORDS[:1])
    assert one.error is not None and not one.is_temporary
    assert one.error.startswith(
        {
            "systemone": "the server's answer has no 'hate'",
            "sglang": "the server's answer has no 'hate'",
            "decisions": "the server gave 2 answers to 3 questions",
            "moderations": "the server's answer has no category 'hate'; it has: harassment, ",
        }[form]
    )


@pytest.mark.parametrize("form", ["systemone", "sglang", "moderations"])
def test_additional_numbers_are_ignored(tmp_path: Path, form: str) -> None:
    path = [*NUMBER[form][: -1 if form == "moderations" else 1], "other"]
    with served(tmp_path, form) as (server, scorer):
        before = dict(scorer.score("hello"))
        server.altered = changed(path, 0.3)
        assert dict(scorer.score("hello")) == before


def test_answers_in_another_order_are_noticed(tmp_path: Path) -> None:
    def reverse(answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "answers": answer["answers"][::-1]}

    with served(tmp_path, "decisions") as (server, scorer):
        server.altered = reverse
        (one,) = scorer.score_records(RECORDS[:1])
    assert one.error == "the server answered 'unsafe' in the place of 'hate'"


def test_a_declined_question_fails_its_record(tmp_path: Path) -> None:
    with served(tmp_path, "decisions") as (server, scorer):
        server.altered = changed(["answers", 1], {"type": "refusal", "name": "violence"})
        (one,) = scorer.score_records(RECORDS[:1])
    assert one.error == "the model declined to answer the question 'violence'"


def test_rounding_in_32_bits_is_not_an_error(tmp_path: Path) -> None:
    with served(tmp_path, "systemone") as (server, scorer):
        server.altered = changed(NUMBER["systemone"], 1.0000001)
        assert scorer.score("hello")["hate"].probability == 1.0


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_of_another_form_is_asked_for_again(tmp_path: Path, form: str) -> None:
    with served(tmp_path, form, retries=1) as (server, scorer):
        server.altered = lambda _: {"detail": "not ready"}
        (one,) = scorer.score_records(RECORDS[:1])
    assert one.is_temporary and one.error is not None and "(2 calls)" in one.error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "truncated", "html"])
def test_faults_change_no_number(tmp_path: Path, form: str, fault: str) -> None:
    with served(tmp_path, form) as (_, scorer):
        truth = by_id(scorer.score_records(RECORDS))
    with served(tmp_path, form, {"faults": {fault: 0.5}}, retries=20) as (server, scorer):
        found = by_id(scorer.score_records(RECORDS))
    assert len(server.requests) > 1 + len(RECORDS)
    for name, result in found.items():
        assert result.error is None
        np.testing.assert_array_equal(
            result.estimates["server"].probability, truth[name].estimates["server"].probability
        )


def test_a_text_that_is_too_long_fails_only_its_record(tmp_path: Path) -> None:
    records = [("long", [{"role": "user", "content": "a" * 99}]), *RECORDS]
    with served(tmp_path, "systemone", {"longest": 50}) as (_, scorer):
        found = by_id(scorer.score_records(records))
    assert found.pop("long").error is not None
    assert all(result.error is None for result in found.values())


def test_a_server_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    many = [(f"r{n}", [{"role": "user", "content": f"text {n}"}]) for n in range(20)]
    with served(tmp_path, "decisions", retries=0) as (server, scorer):
        list(scorer.score_records(RECORDS))
        server.__exit__(None, None, None)
        with pytest.raises(ServiceError, match="records in a row"):
            list(scorer.score_records(many))
        server.__enter__()


# ---- connecting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (501, "The model does not support the Decisions API", "models that answer without thinking first"),
        (404, "Not Found", "OpenAI, vLLM 0.33 and SGLang have /v1/decisions"),
        (
            400,
            "thinking must be off",
            "kind: systemone with extra_body: {chat_template_kwargs: {enable_thinking: false}}",
        ),
        (401, "no key", "set api_key_env"),
        (429, "insufficient_quota", "quota is used up"),
    ],
)
def test_a_refusal_at_the_start_says_what_to_change(tmp_path: Path, status: int, message: str, hint: str) -> None:
    refusal = {"refusal": BadRequest(status, message)}
    with pytest.raises(ServiceError) as raised, served(tmp_path, "decisions", refusal, retries=0):
        pass
    assert message in raised.value.message
    assert hint in (raised.value.hint or "")


def test_an_unknown_category_is_found_by_the_test_question(tmp_path: Path) -> None:
    keys = {"labels": {"hate": "hat"}}
    with (
        pytest.raises(ServiceError, match="no category 'hat'; did you mean 'hate'"),
        served(tmp_path, "moderations", keys=keys),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "bundled"}, "needs no tokenizer"),
        ({"extra_body": {"state": "x"}}, "extra_body cannot contain 'state'"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message), served(tmp_path, "systemone", **options):
        pass


@pytest.mark.parametrize("kind", ["systemone", "decisions", "moderations"])
def test_a_local_model_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_guard(tmp_path, kind, labels={"hate": "hate"})
    with pytest.raises(InputError, match=f"a guard of kind {kind} is a server, and 'bundled' is not a URL"):
        Scorer.load("bundled", path)


@pytest.mark.parametrize("kind", ["systemone", "decisions", "moderations"])
def test_an_address_with_the_route_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_guard(tmp_path, kind, labels={"hate": "hate"})
    with pytest.raises(InputError, match=r"must not include the route: http://127\.0\.0\.1:9/v1, not"):
        Scorer.load(f"http://127.0.0.1:9/v1/{kind}", path)


def test_the_model_that_the_file_names_is_asked(tmp_path: Path) -> None:
    server = {"models": ("other", "mine")}
    with served(tmp_path, "systemone", server, {**QUESTIONS, "endpoint_model": "mine"}) as (started, scorer):
        assert started.requests[0]["model"] == scorer.model.name == "mine"
    with served(tmp_path, "systemone", server, {**QUESTIONS, "endpoint_model": "mine"}, endpoint_model="other") as (
        started,
        _,
    ):
        assert started.requests[0]["model"] == "other"


def test_further_keys_are_sent_with_each_request(tmp_path: Path) -> None:
    body = {"chat_template_kwargs": {"enable_thinking": False}}
    with served(tmp_path, "systemone", extra_body=body) as (server, scorer):
        scorer.score("hello")
    assert all(request["chat_template_kwargs"] == {"enable_thinking": False} for request in server.requests)


# ---- the journal -----------------------------------------------------------------------------------------------------


def test_a_resumed_run_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with served(tmp_path, "systemone", concurrency=1) as (server, scorer):
        job = score_to_journal(scorer, RECORDS, journal_path(out))
        next(job)
        job.close()
        asked = len(server.requests)
        assert asked < 1 + len(RECORDS)
        list(score_to_journal(scorer, RECORDS, journal_path(out)))
        assert len(server.requests) == 1 + len(RECORDS)
        list(score_to_journal(scorer, RECORDS, journal_path(out)))
        assert len(server.requests) == 1 + len(RECORDS)
        scores, records = tables(journal_path(out), [name for name, _ in RECORDS], ["server"])
    assert scores.height == 3 * len(RECORDS)
    assert records["error"].null_count() == records.height


def test_other_questions_are_another_fingerprint(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with served(tmp_path, "systemone") as (_, scorer):
        list(score_to_journal(scorer, RECORDS, journal_path(out)))
    with served(tmp_path, "systemone", keys={**QUESTIONS, "unsafe": "Is it bad?"}) as (server, scorer):
        list(score_to_journal(scorer, RECORDS, journal_path(out)))
    assert len(server.requests) == 1 + len(RECORDS)


def test_calls_are_made_at_the_same_time_up_to_the_limit(tmp_path: Path) -> None:
    many = [(f"r{n}", [{"role": "user", "content": f"text {n}"}]) for n in range(24)]
    with served(tmp_path, "moderations", {"latency": 0.05}, concurrency=4) as (server, scorer):
        assert len(list(scorer.score_records(many))) == 24
    assert server.most_in_flight == 4
