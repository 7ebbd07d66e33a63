"""One definition of the scorer's options: config, command line, `marginalia paper` and Scorer.load agree with it."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from marginalia.pipeline.paper.paper_command import paper
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.command import _parser
from marginalia.scoring.config import GuardRun, ScoreSection
from marginalia.scoring.engines.portable_request import portable
from marginalia.scoring.request_options import request_of
from marginalia.scoring.score_request import (
    ESTIMATOR_NAMES,
    GuardModel,
    ScoreRequest,
    SearchOptions,
    Settings,
    fields_of,
)
from marginalia.scoring.scorer import Scorer

PLAIN = ScoreRequest(model="bundled", guard="instruct")
WORDS = ["r.jsonl", "--model", "bundled", "--guard", "instruct"]


def asked_of_load(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> ScoreRequest:
    requests: list[ScoreRequest] = []
    monkeypatch.setattr(Scorer, "from_request", requests.append)
    Scorer.load("bundled", "instruct", **arguments)
    return requests[0]


def test_every_view_has_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_of_load(monkeypatch) == PLAIN
    for words in ([*WORDS, "--out", "s.parquet"], WORDS):
        assert request_of(_parser(explains="--out" not in words).parse_args(words), ESTIMATOR_NAMES) == PLAIN
    guard, section = GuardRun(name="g", model="bundled", guard="instruct"), ScoreSection()
    assert ScoreRequest(**fields_of(GuardModel, guard), settings=fields_of(SearchOptions, section)) == PLAIN
    paper_defaults = {name: parameter.default for name, parameter in inspect.signature(paper).parameters.items()}
    assert {name: paper_defaults[name] for name in ("device", "dtype", "revision", "taxonomy")} == {
        name: getattr(PLAIN, name) for name in ("device", "dtype", "revision", "taxonomy")
    }
    assert {name: paper_defaults[name] for name in ("tolerance", "node_budget")} == {
        name: getattr(PLAIN.settings, name) for name in ("tolerance", "node_budget")
    }


def test_every_field_is_an_option_of_the_command_line() -> None:
    options = vars(_parser().parse_args([*WORDS, "--out", "s.parquet"]))
    assert (GuardModel.model_fields.keys() | SearchOptions.model_fields.keys()) - {"estimators"} <= options.keys()


def test_what_is_given_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--out s.parquet --dtype bfloat16 --device cpu --tolerance 0.1 --revision abc --allow-http --retries 2"
    given = {"dtype": "bfloat16", "device": "cpu", "revision": "abc", "allow_http": True, "retries": 2}
    settings = Settings(estimators=("joint",), tolerance=0.1)
    expected = PLAIN.model_copy(update={**given, "settings": settings})
    assert request_of(_parser().parse_args([*WORDS, *words.split()]), ["joint"]) == expected
    endpoint = GuardRun(name="g", model="x", guard="y", allow_http=True, retries=2)
    found = asked_of_load(
        monkeypatch, dtype="bfloat16", device="cpu", revision="abc", settings=settings, endpoint=endpoint
    )
    assert found == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float8"}, "dtype: Input should be 'float32', 'bfloat16' or 'float16'"),
        ({"taxonomy": 5}, "taxonomy: Input should be a valid string"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_loaded(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scorer.load("bundled", "instruct", **arguments)


@pytest.mark.parametrize("wrong", [{"tolerance": 2}, {"node_budget": 0}, {"estimators": ["marginl"]}, {"seeds": 1}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_a_request_travels_with_the_contents_of_its_files(tmp_path: Path) -> None:
    sent = pickle.loads(pickle.dumps(portable(PLAIN.model_copy(update={"taxonomy": "support-tickets"}))))
    assert sent.taxonomy == load_taxonomy("support-tickets")
    assert sent.guard_text is not None and "answer:" in sent.guard_text
    assert sent.folder.is_absolute()
