from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.annotation.server.rest import LABELS, QUESTION, Dataset, one_filter, post, respond, search, text_query

TEXTS = [
    "How do I whittle a wooden spoon?",  # r0
    "how do i pick a lock of my OWN door",  # r1
    '100% of users_say it\'s "fine"',  # r2
    "ﬁne STRASSE, or Straße",  # r3
    "nothing &lt;b&gt; in common",  # r4
]
METADATA = [
    {"form": "question", "difficulty": 1},
    {"form": "question", "difficulty": 2},
    {"form": "claim", "difficulty": 3},
    {"form": 'odd"form.é', "difficulty": 10},
    {},
]
SUGGESTIONS = [
    [{"value": [LABELS[1]], "score": [0.9], "agent": "guard-a", "type": "model"}],
    [{"value": [LABELS[2], LABELS[1]], "score": [0.2, 0.4], "agent": "guard-b", "type": "model"}],
    [{"value": [LABELS[0]], "agent": "guard-b", "type": "human"}],
    [],
    [],
]


@pytest.fixture(scope="module")
def dataset(new_dataset: Callable[..., Dataset], ann: httpx.Client, ben: httpx.Client) -> Dataset:
    """Ann has submitted r0, drafted r1 and discarded r2; Ben has submitted r0."""
    created = new_dataset(TEXTS, metadata=METADATA, suggestions=SUGGESTIONS)
    respond(ann, created.records[0], [LABELS[1]])
    respond(ann, created.records[1], [LABELS[2]], "draft")
    respond(ann, created.records[2], [LABELS[2]], "discarded")
    respond(ben, created.records[0], [LABELS[2], LABELS[3]])
    return created


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("how", ["r0", "r1"]),
        ("HOW spoon", ["r0"]),
        ('"pick a lock"', ["r1"]),
        ('"lock a pick"', []),
        ("how -spoon", ["r1"]),
        ("100%", ["r2"]),
        ("%", ["r2"]),
        ("users_say", ["r2"]),
        ("usersXsay", []),
        ("fine", ["r2", "r3"]),
        ("strasse", ["r3"]),
        ("<b>", ["r4"]),  # as the UI shows it
        ("context", ["r0", "r1", "r2", "r3", "r4"]),
        ("user ", ["r2"]),  # the role of a chat message is no text
    ],
)
def test_text_query(owner: httpx.Client, dataset: Dataset, text: str, expected: list[str]) -> None:
    assert search(owner, dataset, text_query(text)) == (expected, len(expected))


def test_a_text_query_for_one_field_searches_only_that_field(owner: httpx.Client, dataset: Dataset) -> None:
    assert search(owner, dataset, text_query("context", field="text"))[1] == 0
    assert search(owner, dataset, text_query("context", field="context"))[1] == 5


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ('"', 1),
        ("say it's \"fine", 1),
        ("'; DROP TABLE records; --", 0),
        ("\\", 0),
        ("\0", 0),
        ("how\0", 0),
        ('""', 5),
        ("-", 0),
        ("+ -", 0),
        ("* ( ) ~ |", 0),
        ("\u202ehow", 0),
        ("$.text", 0),
        ("spoon " * 1500, 1),
        ("(" * 5000, 0),
    ],
)
def test_hostile_text_is_plain_text(owner: httpx.Client, dataset: Dataset, text: str, total: int) -> None:
    assert search(owner, dataset, text_query(text))[1] == total


def test_a_search_text_beyond_ten_thousand_characters_is_refused(owner: httpx.Client, dataset: Dataset) -> None:
    answer = owner.post(f"/datasets/{dataset.id}/records/search", json=text_query("a" * 10_001))
    assert answer.status_code == 422
    assert "10,001 characters" in answer.text


FORM = {"entity": "metadata", "metadata_property": "form"}
DIFFICULTY = {"entity": "metadata", "metadata_property": "difficulty"}
SUGGESTED = {"entity": "suggestion", "question": QUESTION}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (one_filter("terms", FORM, values=["question"]), ["r0", "r1"]),
        (one_filter("terms", FORM, values=['odd"form.é', "claim"]), ["r2", "r3"]),
        (one_filter("terms", FORM, values=["unheard of"]), []),
        (one_filter("terms", DIFFICULTY, values=["10"]), ["r3"]),
        (one_filter("range", DIFFICULTY, ge=2, le=3), ["r1", "r2"]),
        (one_filter("range", DIFFICULTY, ge="3"), ["r2", "r3"]),
        (one_filter("terms", SUGGESTED, values=[LABELS[1]]), ["r0", "r1"]),
        (one_filter("terms", {**SUGGESTED, "property": "agent"}, values=["guard-b"]), ["r1", "r2"]),
        (one_filter("terms", {**SUGGESTED, "property": "type"}, values=["human", "robot"]), ["r2"]),
        (one_filter("terms", {"entity": "response", "question": QUESTION}, values=[LABELS[3]]), ["r0"]),
        (one_filter("terms", {"entity": "response", "question": QUESTION}, values=[LABELS[0]]), []),
        (one_filter("terms", {"entity": "record", "property": "external_id"}, values=["r4", "x"]), ["r4"]),
        (one_filter("terms", {"entity": "record", "property": "status"}, values=["completed"]), ["r0"]),
        (one_filter("terms", {"entity": "record", "property": "status"}, values=["lost"]), []),
        (one_filter("terms", {"entity": "record", "property": "id"}, values=["not an id"]), []),
        (one_filter("range", {"entity": "record", "property": "inserted_at"}, le="2020-01-01T00:00:00Z"), []),
        (
            one_filter("range", {"entity": "record", "property": "inserted_at"}, ge="2020-01-01"),
            ["r0", "r1", "r2", "r3", "r4"],
        ),
    ],
)
def test_filter(owner: httpx.Client, dataset: Dataset, body: dict[str, Any], expected: list[str]) -> None:
    assert search(owner, dataset, body) == (expected, len(expected))


@pytest.mark.parametrize(
    "body",
    [
        one_filter("range", DIFFICULTY, ge="easy"),
        one_filter("range", {"entity": "record", "property": "id"}, ge="a"),
        one_filter("range", {"entity": "record", "property": "inserted_at"}, ge="yesterday"),
        one_filter("range", {"entity": "response", "property": "status"}, ge="a"),
        one_filter("terms", {"entity": "response"}, values=["a"]),
        one_filter("terms", {"entity": "response", "question": "no such question"}, values=["a"]),
        one_filter("terms", {"entity": "metadata", "metadata_property": "no.such"}, values=["a"]),
        text_query("how", field="no such field"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(owner: httpx.Client, dataset: Dataset, body: dict[str, Any]) -> None:
    assert owner.post(f"/datasets/{dataset.id}/records/search", json=body).status_code == 422


@pytest.mark.parametrize(
    ("status", "of_ann", "of_ben", "of_anybody"),
    [
        (["pending"], {"r3", "r4"}, {"r1", "r2", "r3", "r4"}, {"r3", "r4"}),
        (["submitted"], {"r0"}, {"r0"}, {"r0"}),
        (["draft"], {"r1"}, set(), {"r1"}),
        (["discarded", "pending"], {"r2", "r3", "r4"}, {"r1", "r2", "r3", "r4"}, {"r2", "r3", "r4"}),
        (["unheard of"], set(), set(), set()),
    ],
)
def test_response_status_is_the_users_own(
    clients: dict[str, httpx.Client],
    dataset: Dataset,
    status: list[str],
    of_ann: set[str],
    of_ben: set[str],
    of_anybody: set[str],
) -> None:
    body = one_filter("terms", {"entity": "response", "property": "status"}, values=status)
    found = {name: set(search(client, dataset, body)[0]) for name, client in clients.items()}
    assert found == {"ann": of_ann, "ben": of_ben, "owner": of_anybody}


@pytest.mark.parametrize(
    ("scope", "order", "expected"),
    [
        (DIFFICULTY, "asc", ["r0", "r1", "r2", "r3", "r4"]),
        (DIFFICULTY, "desc", ["r3", "r2", "r1", "r0", "r4"]),
        (FORM, "desc", ["r0", "r1", "r3", "r2", "r4"]),
        ({**SUGGESTED, "property": "score"}, "asc", ["r1", "r0", "r2", "r3", "r4"]),
        ({**SUGGESTED, "property": "agent"}, "desc", ["r1", "r2", "r0", "r3", "r4"]),
        ({"entity": "record", "property": "external_id"}, "desc", ["r4", "r3", "r2", "r1", "r0"]),
        ({"entity": "response", "property": "status"}, "asc", ["r2", "r1", "r0", "r3", "r4"]),
    ],
)
def test_sort(owner: httpx.Client, dataset: Dataset, scope: dict[str, str], order: str, expected: list[str]) -> None:
    """Ties keep the order of insertion; records without a value come last."""
    assert search(owner, dataset, {"sort": [{"scope": scope, "order": order}]}) == (expected, 5)


def test_pages_follow_each_other(ann: httpx.Client, dataset: Dataset) -> None:
    pages = [search(ann, dataset, {}, offset=offset, limit=2) for offset in (0, 2, 4, 6)]
    assert [len(page) for page, _ in pages] == [2, 2, 1, 0]
    assert {total for _, total in pages} == {5}
    assert sorted(record for page, _ in pages for record in page) == ["r0", "r1", "r2", "r3", "r4"]


def test_an_offset_beyond_64_bits_is_an_empty_page(owner: httpx.Client, dataset: Dataset) -> None:
    assert search(owner, dataset, {}, offset=2**70) == ([], 5)


def test_each_annotator_has_a_different_order_that_stays(
    new_dataset: Callable[..., Dataset], ann: httpx.Client, ben: httpx.Client
) -> None:
    many = new_dataset([f"text {number}" for number in range(30)])
    of_ann, of_ben = search(ann, many, {})[0], search(ben, many, {})[0]
    assert set(of_ann) == set(of_ben)
    assert of_ann != of_ben
    assert of_ann == search(ann, many, {})[0]


def test_metadata_metrics(owner: httpx.Client, dataset: Dataset) -> None:
    properties = owner.get(f"/me/datasets/{dataset.id}/metadata-properties").json()["items"]
    metrics = {p["name"]: owner.get(f"/metadata-properties/{p['id']}/metrics").json() for p in properties}
    assert metrics["difficulty"] == {"type": "integer", "min": 1, "max": 10}
    assert metrics["form"]["total"] == 4
    assert metrics["form"]["values"][0] == {"term": "question", "count": 2}


def test_similarity_search_ranks_by_cosine(owner: httpx.Client, new_dataset: Callable[..., Dataset]) -> None:
    three = new_dataset(["east", "north", "west"])
    post(owner, f"/datasets/{three.id}/vectors-settings", {"name": "v", "title": "v", "dimensions": 2})
    for record, vector in zip(three.records, ([2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]), strict=True):
        owner.patch(f"/records/{record}", json={"vectors": {"v": vector}}).raise_for_status()
    query = {"query": {"vector": {"name": "v", "value": [1.0, 0.5]}}}
    assert search(owner, three, query)[0] == ["r0", "r1", "r2"]
    query["query"]["vector"]["order"] = "least_similar"
    assert search(owner, three, query)[0] == ["r2", "r1", "r0"]
