"""Moderator: decisions equal those of plain loops over the scorer's own scores, and no failure lets a record pass."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from marginalia import InputError, Moderator, Scorer, Settings
from marginalia.schemas.errors import ModelError, ServiceError
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.moderation_profile import Profile
from marginalia.scoring.scored_record import Result

LABELS = load_taxonomy("support-tickets").ids
TEXTS = [
    "Where is my parcel? I have been waiting for two weeks.",
    "My invoice is wrong, and I want my money back.",
    "hello",
    "The lamp arrived broken. Can I return it?",
]
EXAMPLES = Path(__file__).parents[2] / "pipeline/demo/examples.jsonl"
GUARD = {"name": "demo", "guard": "support-tickets", "model": "bundled-guard"}


def profile_with(label: dict[str, Any], **values: Any) -> Profile:
    return Profile.model_validate({"guard": GUARD, "labels": dict.fromkeys(LABELS, label), **values})


# ---- the demo guard --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Moderator:
    path = tmp_path_factory.mktemp("profile") / "profile.yaml"
    path.write_text(yaml.safe_dump({"guard": GUARD, "labels": {key: {"block": 0.9, "review": 0.2} for key in LABELS}}))
    return Moderator.load(path)


def loop(scores: Any, label_rule: dict[str, float], off_format: float) -> str:
    """The decision by the batch scores and thresholds, with no bounds between."""
    action = "review" if scores.off_language >= off_format else "pass"
    for label in LABELS:
        if "block" in label_rule and scores[label].probability >= label_rule["block"]:
            return "block"
        if "review" in label_rule and scores[label].probability >= label_rule["review"]:
            action = "review"
    return action


@pytest.mark.parametrize(
    ("label_rule", "off_format"),
    [({"block": 0.9, "review": 0.2}, 0.2), ({"review": 0.6}, 0.2), ({"block": 0.95}, 0.2), ({"block": 0.9}, 1e-9)],
)
def test_decisions_are_those_of_the_batch_scores(
    loaded: Moderator, label_rule: dict[str, float], off_format: float
) -> None:
    scorer = loaded.scorer
    scored = list(scorer.score_many(TEXTS, progress=False))
    moderator = Moderator(scorer, profile_with(label_rule, rules={"off_format": {"share": off_format}}))
    decided = list(moderator.decide_many(TEXTS))
    assert [one.action for one in decided] == [loop(scores, label_rule, off_format) for scores in scored]
    for one, scores in zip(decided, scored, strict=True):
        for label in LABELS:
            assert one.labels[label].probability == pytest.approx(scores[label], abs=1e-4)
        assert one.off_language == pytest.approx(scores.off_language, abs=1e-4)
    alone = [moderator.decide(text).action for text in TEXTS]
    assert alone == [one.action for one in decided]


def test_straddling_bounds_are_searched_on(loaded: Moderator) -> None:
    """A coarse search leaves a threshold between the bounds of a label; the second one decides."""
    scorer = Scorer(loaded.scorer.model, loaded.scorer.guard, Settings(tolerance=0.9, estimators=("marginal",)))
    coarse = {text: scorer.score(text) for text in TEXTS}
    exact = {text: loaded.scorer.score(text) for text in TEXTS}
    pairs = [(text, label) for text in TEXTS for label in LABELS]
    exactly = {(text, label): exact[text][label].probability or 0.0 for text, label in pairs}
    above = max(pairs, key=lambda pair: coarse[pair[0]][pair[1]].upper - exactly[pair])
    below = max(pairs, key=lambda pair: exactly[pair] - coarse[pair[0]][pair[1]].lower)
    halfway = (
        (coarse[above[0]][above[1]].upper + exactly[above]) / 2,
        (coarse[below[0]][below[1]].lower + exactly[below]) / 2,
    )
    for (text, label), at in zip((above, below), halfway, strict=True):
        bounds, probability = coarse[text][label], exactly[text, label]
        assert bounds.lower < at < bounds.upper and abs(at - probability) > 1e-3
        rules = {key: {"ignore": True} for key in LABELS} | {label: {"block": at}}
        search = {"search": {"tolerance": 0.9}}
        moderator = Moderator(scorer, profile_with({}, labels=rules, **search))
        decided = moderator.decide(text)
        assert (decided.searches, decided.action) == (2, "block" if probability >= at else "pass")
        assert decided.forward_passes > coarse[text].result.forward_passes
        assert scorer.settings.tolerance == 0.9
        (streamed,) = moderator.decide_many([text])
        assert (streamed.action, streamed.searches) == (decided.action, 2)
        none = profile_with({}, labels=rules, rules={"straddling": {"tolerance": None}}, **search)
        undecided = Moderator(scorer, none).decide(text)
        assert (undecided.searches, undecided.action) == (1, "review")


def test_a_coarse_first_search_decides_the_same_with_fewer_passes(loaded: Moderator) -> None:
    texts = [json.loads(line)["text"] for line in EXAMPLES.read_text("utf-8").splitlines()[::36]]
    decided = {}
    for tolerance in (1e-4, 0.1):
        settings = loaded.scorer.settings.model_copy(update={"tolerance": tolerance})
        scorer = Scorer(loaded.scorer.model, loaded.scorer.guard, settings)
        chosen = profile_with({"block": 0.9, "review": 0.3}, search={"tolerance": tolerance})
        decided[tolerance] = list(Moderator(scorer, chosen).decide_many(texts))
    fine, coarse = decided.values()
    assert [one.action for one in coarse] == [one.action for one in fine]
    assert {"block", "pass"} <= {one.action for one in fine}
    assert sum(one.forward_passes for one in coarse) < sum(one.forward_passes for one in fine)


def test_a_record_that_is_too_long(loaded: Moderator) -> None:
    decided = loaded.decide("parcel " * 9000)
    assert decided.action == "review" and (decided.error or "").startswith("too long: ")
    assert decided.labels == {} and decided.reasons[0].endswith(": review")


def test_many_records_of_every_form_in_their_order(loaded: Moderator) -> None:
    records = [TEXTS[2], None, {"id": "x", "messages": [{"role": "user", "content": TEXTS[1]}]}]
    decided = list(loaded.decide_many(record for record in records))
    assert [one.record_id for one in decided] == ["0", "1", "x"]
    assert [one.action for one in decided] == ["pass", "block", "block"]
    assert decided[1].reasons[0].startswith("not scored: expected a text")
    with pytest.raises(InputError, match="decide takes one text"):
        loaded.decide_many("one text")
    with pytest.raises(InputError, match="expected a text"):
        loaded.decide(3)  # type: ignore[arg-type]


def test_the_same_decisions_from_tasks(loaded: Moderator) -> None:
    async def decide() -> list[str]:
        return [one.action for one in await asyncio.gather(*map(loaded.adecide, TEXTS))]

    assert asyncio.run(decide()) == [one.action for one in loaded.decide_many(TEXTS)]


def test_a_changed_file_is_refused_before_the_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scorer, "from_request", lambda request: pytest.fail("loaded"))
    (tmp_path / "thresholds.json").write_text("{}")
    path, named = tmp_path / "profile.yaml", {"path": "thresholds.json", "sha256": "0" * 64}
    labels = {key: {"review": 0.5} for key in LABELS}
    path.write_text(yaml.safe_dump({"guard": GUARD, "labels": labels, "thresholds": named}))
    with pytest.raises(InputError, match="has changed since the profile was written"):
        Moderator.load(path)


# ---- a scorer that fails ---------------------------------------------------------------------------------------------


class StandIn:
    """A scorer that gives each text's own number as the probability of its only label."""

    def __init__(self, fails: BaseException | None = None, seconds: float = 0.0) -> None:
        self.guard = SimpleNamespace(rows=("a",), file=SimpleNamespace(reasoning=None))
        self.settings, self.notes = Settings(), list[str]()
        self.fails, self.seconds, self.batches = fails, seconds, list[int]()

    def score_records(self, records: Iterable[tuple[str, Any]]) -> Iterator[Result]:
        items = list(records)
        self.batches.append(len(items))
        time.sleep(self.seconds)
        for record_id, messages in reversed(items):
            if messages[0]["content"] == "fail" and self.fails is not None:
                raise self.fails
            value = np.array([float(messages[0]["content"])])
            yield Result(record_id, {"marginal": LabelEstimates(value, value, value)}, off_language=0.0)


def moderator(scorer: StandIn, fail: str = "closed") -> Moderator:
    values = {"guard": GUARD, "labels": {"a": {"block": 0.8, "review": 0.4}}, "rules": {"fail": fail}}
    return Moderator(scorer, Profile.model_validate(values))  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ServiceError("the server is down"), ModelError("NaN"), RuntimeError("a bug")])
@pytest.mark.parametrize(("fail", "action"), [("closed", "block"), ("open", "pass"), ("review", "review")])
def test_a_scorer_that_raises(error: Exception, fail: str, action: str) -> None:
    failing = moderator(StandIn(error), fail)
    decided = failing.decide("fail")
    assert decided.action == action and str(error) in (decided.error or "")
    # records after it in the same batch have no scores either; those before it and in later calls do
    many = list(failing.decide_many(["0.1", "fail", "0.9"]))
    assert [one.action for one in many] == [action, action, "block"]
    assert failing.decide("0.1").action == "pass"

    async def asked() -> str:
        return (await failing.adecide("fail")).action

    assert asyncio.run(asked()) == action


def test_a_record_without_a_result_does_not_pass() -> None:
    scorer = StandIn()
    scorer.score_records = lambda records: iter(())  # type: ignore[method-assign]
    assert moderator(scorer).decide("0.1").action == "block"


def test_a_share_outside_the_format_that_is_not_known_yet_is_searched_on() -> None:
    scorer = StandIn()
    value = np.array([0.1])

    def score_records(records: Iterable[tuple[str, Any]]) -> Iterator[Result]:
        outside = 0.1 if scorer.settings.tolerance == 1e-4 else 0.25
        for record_id, _ in records:
            estimates = {"marginal": LabelEstimates(value, value, value)}
            yield Result(record_id, estimates, off_language=outside, unexplored=0.35 - outside)

    scorer.score_records = score_records  # type: ignore[method-assign]
    decided = moderator(scorer).decide("0.1")
    assert (decided.action, decided.searches, decided.off_language) == ("review", 2, 0.25)


def test_ctrl_c_is_not_a_decision() -> None:
    stopped = moderator(StandIn(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        stopped.decide("fail")
    assert stopped.decide("0.5").action == "review"


# ---- tasks -----------------------------------------------------------------------------------------------------------


def test_the_event_loop_goes_on_and_waiting_records_share_a_batch() -> None:
    scorer = StandIn(seconds=0.2)

    async def main() -> tuple[list[str], int]:
        turns, done = 0, False

        async def count() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count())
        with moderator(scorer) as shared:
            decided = await asyncio.gather(*(shared.adecide(f"{number / 10}") for number in range(10)))
        done = True
        await counting
        return [one.action for one in decided], turns

    actions, turns = asyncio.run(main())
    assert actions == ["pass"] * 4 + ["review"] * 4 + ["block"] * 2
    assert turns >= 5
    assert sum(scorer.batches) == 10 and len(scorer.batches) <= 3


def test_cancelled_records_are_not_scored() -> None:
    scorer = StandIn(seconds=0.2)

    async def main() -> None:
        shared = moderator(scorer)
        first = asyncio.create_task(shared.adecide("0.1"))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(shared.adecide("0.2")) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in waiting[1:]:
            task.cancel()
        assert (await first).action == (await waiting[0]).action == "pass"
        shared.close()

    asyncio.run(main())
    assert scorer.batches == [1, 1]


def test_threads_share_a_model() -> None:
    shared, actions = moderator(StandIn(seconds=0.01)), dict[int, str]()

    def decide(number: int) -> None:
        actions[number] = shared.decide(f"{number / 10}").action

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [actions[number] for number in range(10)] == ["pass"] * 4 + ["review"] * 4 + ["block"] * 2


def test_a_generator_of_any_length_is_read_in_pieces() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "0.5"

    shared = moderator(StandIn())
    decisions = shared.decide_many(endless())
    assert next(decisions).action == "review"
    assert taken <= 64
    assert shared.decide("0.1").action == "pass"  # a stream that is not read further holds nothing
