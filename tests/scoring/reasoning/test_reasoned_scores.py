"""Scores of guards that reason first, against plain sampling and plain forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import LlamaForCausalLM

from marginalia.schemas.errors import InputError, ModelError
from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.marginal.passages import PassageEnd, PassageRequest
from marginalia.scoring.reasoning.reasoned_scores import passage_seed
from marginalia.scoring.score_request import EndpointOptions
from marginalia.scoring.scorer import Scorer, Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.reasoning.thinker import CODES, RECORDS, TOKENS, write

FOUR = Settings(tolerance=0, node_budget=10**6, passages=4, answer_tokens=12)
ROWS = len(CODES) + 1


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("thinker"))


@pytest.fixture(scope="module")
def network(guard: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(guard.parent / "model").eval()


def load(guard: Path, settings: Settings) -> Scorer:
    return Scorer.load(str(guard.parent / "model"), str(guard), settings=settings)


def end_of(scorer: Scorer) -> PassageEnd:
    assert scorer.guard.file.reasoning is not None
    return PassageEnd(scorer.guard.file.reasoning, scorer.model.tokenizer, scorer.tokens.token_bytes)


def next_probabilities(network: LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)


def plain_passage(network: LlamaForCausalLM, prompt: list[int], rng: np.random.Generator) -> tuple[list[int], bool]:
    """One sampled passage, token by token without a cache, and whether it reached `</t>`."""
    ids: list[int] = []
    while len(ids) < TOKENS and tiny.END not in ids:
        total = next_probabilities(network, prompt + ids).cumsum(-1)
        ids.append(int(torch.searchsorted(total, torch.tensor(rng.random() * float(total[-1])), right=True)))
        if tiny.tokenizer().decode(ids).endswith("</t>"):
            return ids, True
    return ids, False


def test_passages_are_those_of_plain_sampling(guard: Path, network: LlamaForCausalLM) -> None:
    """Sampled together as branches of trees, they equal those that are sampled one by one."""
    scorer = load(guard, FOUR)
    prompts = [scorer.prompts.build(messages).ids for _, messages in RECORDS]
    requests = [PassageRequest(prompt, range(10 * n, 10 * n + 6), TOKENS) for n, prompt in enumerate(prompts)]
    sampled = scorer.source.passages(end_of(scorer)).sample(requests)
    finished = 0
    for request, passages in zip(requests, sampled, strict=True):
        assert not isinstance(passages, ModelError)
        for seed, passage in zip(request.seeds, passages, strict=True):
            ids, reached = plain_passage(network, request.prompt, np.random.default_rng(seed))
            assert (list(passage.ids), passage.finished) == (ids, reached)
            finished += reached
    assert 9 <= finished < 18, "a test needs both kinds"


def test_scores_are_the_means_of_the_marginals_after_each_passage(guard: Path, network: LlamaForCausalLM) -> None:
    scorer = load(guard, FOUR.model_copy(update={"passages": 8, "passage_interval": 0}))
    answers, complete = tiny.guard_answers(CODES, "safe", "unsafe\n", ",")
    oracle = tiny.Oracle(network, tiny.tokenizer(), [tiny.END], answers)
    results = {result.record_id: result for result in scorer.score_records(RECORDS)}
    some_unanswered = 0
    for record_id, messages in RECORDS:
        prompt = scorer.prompts.build(messages).ids
        values: list[dict[str, torch.Tensor] | None] = []
        tokens = 0
        for number in range(8):
            rng = np.random.default_rng(passage_seed(FOUR.seed, record_id, number))
            ids, reached = plain_passage(network, prompt, rng)
            tokens += len(ids)
            values.append(oracle.run(prompt + ids, ROWS, complete) if reached else None)
        result = results[record_id]
        some_unanswered += values.count(None)
        assert (result.passages, result.unanswered, result.passage_tokens) == (8, values.count(None), tokens)
        done = [value for value in values if value is not None]
        weights = [1 - float(value["off"]) for value in done]
        expected = {
            "marginal": sum(value["marginal"] for value in done) / 8,
            "marginal_in_language": sum(w * v["marginal_in_language"] for w, v in zip(weights, done, strict=True))
            / sum(weights),
            "marginal_constrained": sum(value["marginal_constrained"] for value in done) / len(done),
        }
        for name in MARGINALS:
            estimates = result.estimates[name]
            assert estimates.probability == pytest.approx(expected[name].numpy(), abs=1e-5)
            assert (estimates.lower <= estimates.probability).all()
            assert (estimates.probability <= estimates.upper).all()
        assert result.off_language == pytest.approx(1 - sum(weights) / 8, abs=1e-5)
    assert some_unanswered


def test_the_mean_is_that_of_the_guard(guard: Path, network: LlamaForCausalLM) -> None:
    """Against 600 whole outputs, sampled plainly: the share that names a label."""
    most = Settings(tolerance=1e-3, passages=256, passage_interval=0, answer_tokens=12)
    (result,) = load(guard, most).score_records(RECORDS[:1])
    prompt = load(guard, FOUR).prompts.build(RECORDS[0][1]).ids
    rng, named = np.random.default_rng(5), np.zeros(ROWS)
    cached: dict[tuple[int, ...], np.ndarray] = {}
    for _ in range(600):
        ids: list[int] = []
        while len(ids) < TOKENS + 12 and tiny.END not in ids:
            if tuple(ids) not in cached:
                cached[tuple(ids)] = next_probabilities(network, prompt + ids).cumsum(-1).numpy()
            total = cached[tuple(ids)]
            ids.append(min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(total) - 1))
        text = tiny.tokenizer().decode(ids, skip_special_tokens=True)
        reasoning, found, answer = text.partition("</t>")
        if found and len(tiny.tokenizer()(reasoning + found)["input_ids"]) <= TOKENS and answer.startswith("unsafe"):
            named[-1] += 1
            codes = answer.removeprefix("unsafe\n").split(",")
            named[:-1] += [code in codes for code in CODES]
    share = named / 600
    error = 4 * np.sqrt(share * (1 - share) / 600 + 0.25 / 256) + 0.005
    assert (np.abs(result.estimates["marginal"].probability - share) < error).all()
    assert (result.estimates["marginal"].lower <= share + error).all()
    assert share[-1] > 0.2, "a test needs labels"


def test_sampling_stops_when_the_intervals_are_narrow(guard: Path) -> None:
    wide = load(guard, Settings(passages=64, passage_interval=1.0))
    narrow = load(guard, Settings(passages=64, passage_interval=0.45))
    for result in wide.score_records(RECORDS):
        assert result.passages == 4
    for result in narrow.score_records(RECORDS):
        assert result.passages in (8, 16, 32, 64)
        widths = [float((one.upper - one.lower).max()) for one in result.estimates.values()]
        assert max(widths) <= 0.45 or result.passages == 64


def test_a_record_has_the_same_passages_in_any_company(guard: Path) -> None:
    scorer = load(guard, FOUR)
    together = {result.record_id: result for result in scorer.score_records(RECORDS)}
    for record in RECORDS:
        (alone,) = scorer.score_records([record])
        assert alone.passage_tokens == together[record[0]].passage_tokens
        for name, estimates in alone.estimates.items():
            assert estimates.probability == pytest.approx(together[record[0]].estimates[name].probability, abs=1e-5)
    other_seed = load(guard, FOUR.model_copy(update={"seed": 1}))
    (changed,) = other_seed.score_records(RECORDS[:1])
    assert changed.estimates["marginal"].probability != pytest.approx(
        together["r0"].estimates["marginal"].probability, abs=1e-4
    )


def test_what_the_last_token_of_a_passage_says_belongs_to_the_answer(tmp_path: Path) -> None:
    """`sa` is one token: a passage that ends with `s` has begun the answer `a…`."""
    guard = write(tmp_path, until="s", tokens=12)
    guard.write_text(guard.read_text().replace("- safe", "- afe").replace("unsafe", "afar"))
    scorer = load(guard, Settings(tolerance=0, node_budget=10**6, passages=32, passage_interval=0, answer_tokens=12))
    requests = [PassageRequest(scorer.prompts.build(RECORDS[0][1]).ids, range(200), 12)]
    (passages,) = scorer.source.passages(end_of(scorer)).sample(requests)
    assert not isinstance(passages, ModelError)
    begun = {passage.begun for passage in passages if passage.finished}
    assert {b"a", b"afe"} & begun
    (result,) = scorer.score_records(RECORDS[:1])
    assert result.answer is not None and result.answer.startswith("a")
    assert result.error is None


def test_a_guard_that_never_answers_is_off_its_format(tmp_path: Path) -> None:
    guard = write(tmp_path, until="no such text")
    (result,) = load(guard, FOUR).score_records(RECORDS[:1])
    assert (result.passages, result.unanswered, result.off_language) == (4, 4, 1.0)
    assert result.estimates["marginal"].probability.tolist() == [0.0] * ROWS
    assert result.estimates["marginal"].upper.min() > 0.5
    assert result.estimates["marginal_in_language"].lower.tolist() == [0.0] * ROWS
    assert result.estimates["marginal_in_language"].upper.tolist() == [1.0] * ROWS


def test_wrong_files(tmp_path: Path) -> None:
    wrong = {
        r"line \d+: reasoning.until: the tokenizer has no token '<\|ennd\|>'; did you mean '<\|end\|>'": {
            "token": "<|ennd|>"
        },
        r"line \d+: reasoning.until: '<\|end\|>' ends the output of this model": {"token": "<|end|>"},
        r"line \d+: reasoning.until: '<\|stop\|>' is a special token .* write it as {token: ": "a<|stop|>",
    }
    for message, until in wrong.items():
        guard = write(tmp_path, until=[until])
        with pytest.raises(InputError, match=message):
            load(guard, FOUR)
    write(tmp_path, until="")
    with pytest.raises(InputError, match=r"thinker.yaml: line \d+: 'until' must not be empty"):
        load(guard, FOUR)
    with pytest.raises(InputError, match="reasons first"):
        load(write(tmp_path), FOUR).search(RECORDS[0][1])


@pytest.fixture
def endpoint(
    guard: Path, network: LlamaForCausalLM, request: pytest.FixtureRequest
) -> Iterator[tuple[Scorer, LogprobServer]]:
    with LogprobServer(network, tiny.tokenizer(), max_logprobs=300, **request.param) as server:
        options = EndpointOptions(tokenizer=str(guard.parent / "model"), top_logprobs=270)
        settings = Settings(tolerance=1e-3, passages=8, passage_interval=0, answer_tokens=12)
        scorer = Scorer.load(server.url, str(guard), settings=settings, endpoint=options)
        yield scorer, server
        scorer.model.caller.close()


@pytest.mark.parametrize("endpoint", [{}, {"token_ids": False}, {"strict": True}], indirect=True)
def test_passages_over_an_endpoint(
    guard: Path, network: LlamaForCausalLM, endpoint: tuple[Scorer, LogprobServer]
) -> None:
    """Each passage is one request; the answers after it are those of the same model on this machine."""
    scorer, server = endpoint
    (result,) = scorer.score_records(RECORDS[:1])
    sampled = [body for body in server.requests if body["max_tokens"] > 1]
    assert result.error is None and result.passages == 8 and len(sampled) == 8
    assert len({body["seed"] for body in sampled}) == 8
    local = load(guard, FOUR)
    inner = local.record_batches()
    expected = np.zeros(ROWS)
    prompt = local.prompts.build(RECORDS[0][1]).ids
    for body in sampled:
        passage = end_of(local).cut(server._generate(prompt, body), TOKENS, [tiny.END])
        if passage.finished:
            job = local._job("x", RECORDS[0][1])
            job.ids = [*prompt, *passage.ids]
            ((done,),) = inner.run([job])
            expected += local.result(done).estimates["marginal"].probability
    assert result.estimates["marginal"].probability == pytest.approx(expected / 8, abs=2e-3)


def changed(guard: Path, folder: Path, **keys: object) -> Path:
    """A copy of the guard in `folder`, with other keys; those that are None are removed."""
    data = {**yaml.safe_load(guard.read_text()), **keys}
    (folder / "taxonomy.yaml").write_text((guard.parent / "taxonomy.yaml").read_text())
    (folder / "model").symlink_to(guard.parent / "model")
    (folder / "thinker.yaml").write_text(
        yaml.safe_dump({key: value for key, value in data.items() if value is not None})
    )
    return folder / "thinker.yaml"


def test_each_call_of_a_guard_with_one_policy_per_call_has_passages_of_its_own(guard: Path, tmp_path: Path) -> None:
    answer = [["safe"], [{"verdict": "unsafe"}, "\nS1"]]
    scorer = load(changed(guard, tmp_path, calls="per_label", answer=answer), FOUR)
    (result,) = scorer.score_records(RECORDS[:1])
    assert result.passages == 8 and result.error is None
    for row, label in enumerate(("l0", "l1")):
        (call,) = scorer.calls[label].score_records(RECORDS[:1])
        for name, estimates in result.estimates.items():
            assert estimates.probability[row] == pytest.approx(call.estimates[name].probability[0], abs=1e-5)
            assert estimates.lower[row] == pytest.approx(call.estimates[name].lower[0], abs=1e-5)


def test_expected_levels_are_means_over_passages(guard: Path, tmp_path: Path) -> None:
    """With two levels, 0 and 1, the expected one is the probability of the higher one."""
    answer = [[{"levels": ["safe", "unsafe"], "rows": {"l0": 1, "unsafe": 1}, "name": "harm"}, {"any": ["", "\nS1"]}]]
    labels = {"l0": "S1"}
    scorer = load(changed(guard, tmp_path, answer=answer, labels=labels), FOUR)
    (result,) = scorer.score_records(RECORDS[:1])
    assert result.levels is not None
    for entry in result.levels:
        estimates = result.estimates[entry["estimator"]]
        assert entry["expected"] == pytest.approx(float(estimates.probability[0]), abs=1e-6)
        assert entry["lower"] == pytest.approx(float(estimates.lower[0]), abs=1e-6)
        assert entry["upper"] == pytest.approx(float(estimates.upper[0]), abs=1e-6)
    assert [entry["estimator"] for entry in result.levels] == list(MARGINALS)
