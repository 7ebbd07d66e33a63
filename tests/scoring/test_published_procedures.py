"""The paper's procedures on scripted models, against numbers computed by hand: what they do correctly, and every
fault."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import digamma
from transformers import AutoTokenizer, LlamaForCausalLM

from marginalia.scoring.paper import published_procedures
from marginalia.scoring.paper.published_procedures import CachedModel, PlainModel
from tests.scoring.tiny import END, save

LABELS = ["unsafe", "S1", "S2", "S10"]
STOP = "<end>"
PROMPT = [0]
ALMOST = 0.999999  # a nucleus of everything that has any probability


class Scripted:
    """A model given by a table: the answer's text so far → {text of the next token: probability}.

    A token is written `text` or `text#n`: different ids of the same text."""

    def __init__(self, table: dict[str, dict[str, float]]) -> None:
        self.table = table
        self.tokens = ["<start>", STOP, *sorted({token for row in table.values() for token in row} - {STOP})]
        self.end_ids = {1}

    def decode(self, ids: Sequence[int], /) -> str:
        return "".join(self.tokens[index].partition("#")[0] for index in ids)

    def next_probabilities(self, ids: Sequence[int], /) -> np.ndarray:
        result = np.zeros(len(self.tokens))
        for token, probability in self.table[self.decode(ids).removeprefix("<start>")].items():
            result[self.tokens.index(token)] = probability
        return result

    def visited(self, result: published_procedures.AnyPlace) -> list[str]:
        return [self.decode(answer) for answer in result.visited]


def scores(table: dict[str, dict[str, float]], **options: float) -> dict[str, float]:
    """Any place without its eps, where none is given."""
    return published_procedures.any_place(Scripted(table), PROMPT, LABELS, **{"eps": 1e-9, **options}).scores  # type: ignore[arg-type]


TWO_LABELS = {
    "": {"unsafe": 0.8, "safe": 0.2},
    "unsafe": {"\n": 1.0},
    "unsafe\n": {"S1": 0.7, "S2": 0.3},
    "unsafe\nS1": {",": 0.6, STOP: 0.4},
    "unsafe\nS1,": {"S2": 0.9, "S10": 0.1},
    "unsafe\nS1,S2": {STOP: 1.0},
    "unsafe\nS1,S10": {STOP: 1.0},
    "unsafe\nS2": {STOP: 1.0},
    "safe": {STOP: 1.0},
}


def test_token_probability_is_the_steps_own() -> None:
    result = published_procedures.token_probability(Scripted(TWO_LABELS), PROMPT, LABELS)
    assert result == pytest.approx({"unsafe": 0.8, "S1": 0.7, "S2": 0.9})


def test_fixed_place_multiplies_the_hits_and_nothing_between_them() -> None:
    result = published_procedures.fixed_place(Scripted(TWO_LABELS), PROMPT, LABELS)
    assert result == pytest.approx(
        {"unsafe": 0.8, "S1": 0.8 * 0.7, "S2": 0.8 * 0.7 * 0.9}
    )  # the comma's 0.6 is left out


def test_any_place_sums_over_answers() -> None:
    result = scores(TWO_LABELS, top_p=ALMOST)
    assert result == pytest.approx(
        {
            "unsafe": 0.8,
            "S1": 0.8 * 0.7,
            "S2": 0.8 * 0.3 + 0.8 * 0.7 * 0.6 * 0.9,
            "S10": 0.8 * 0.7 * 0.6 * 0.1,
        }
    )


def test_greedy_labels_leave_out_the_verdict() -> None:
    assert published_procedures.greedy(Scripted(TWO_LABELS), PROMPT, LABELS) == ["S1", "S2"]


def test_greedy_stops_at_its_length() -> None:
    result = published_procedures.token_probability(Scripted(TWO_LABELS), PROMPT, LABELS, max_new_tokens=3)
    assert result == pytest.approx({"unsafe": 0.8, "S1": 0.7})


DIGITS = {
    "": {"unsafe\n": 1.0},
    "unsafe\n": {"S": 1.0},
    "unsafe\nS": {"1": 0.9, "2": 0.1},
    "unsafe\nS1": {"0": 0.8, STOP: 0.2},
    "unsafe\nS10": {STOP: 1.0},
    "unsafe\nS2": {STOP: 1.0},
}


def test_fault_a_prefix_label_is_credited_on_the_way() -> None:
    model = Scripted(DIGITS)  # S1 is meant with probability 0.9 × 0.2 only
    assert published_procedures.token_probability(model, PROMPT, LABELS) == pytest.approx({"S1": 0.9, "S10": 0.8})
    assert published_procedures.fixed_place(model, PROMPT, LABELS) == pytest.approx({"S1": 0.9, "S10": 0.72})
    assert published_procedures.greedy(model, PROMPT, LABELS) == ["S1", "S10"]
    assert scores(DIGITS, top_p=ALMOST) == pytest.approx({"S1": 0.9, "S10": 0.72, "S2": 0.1})


REPEATED = {
    "": {"unsafe": 1.0},
    "unsafe": {"S1": 0.9, "S2": 0.1},
    "unsafeS1": {",": 1.0},
    "unsafeS1,": {"S1": 0.8, "S2": 0.2},
    "unsafeS1,S1": {STOP: 1.0},
    "unsafeS1,S2": {STOP: 1.0},
    "unsafeS2": {STOP: 1.0},
}


def test_fault_a_repeated_label_is_added_twice() -> None:
    result = scores(REPEATED, top_p=ALMOST)
    assert result["S1"] == pytest.approx(0.9 + 0.9 * 0.8)  # 1.62
    assert published_procedures.token_probability(Scripted(REPEATED), PROMPT, LABELS)["S1"] == pytest.approx(
        0.8
    )  # the later one
    assert published_procedures.fixed_place(Scripted(REPEATED), PROMPT, LABELS)["S1"] == pytest.approx(0.9 * 0.8)


def test_fault_ids_of_one_text_collide_and_the_later_wins() -> None:
    table = {"": {"S1#a": 0.6, "S1#b": 0.3, "S2": 0.1}, "S1": {STOP: 1.0}, "S2": {STOP: 1.0}}
    assert scores(table, top_p=ALMOST) == pytest.approx({"S1": 0.3, "S2": 0.1})
    model = Scripted(table)
    assert published_procedures.token_probability(model, PROMPT, LABELS, top_p=ALMOST) == pytest.approx({"S1": 0.3})
    # outside the nucleus it does no harm
    assert published_procedures.token_probability(model, PROMPT, LABELS, top_p=0.5) == pytest.approx({"S1": 0.6})
    kept = published_procedures.nucleus(model, torch.tensor(model.next_probabilities(PROMPT)), ALMOST)
    assert [round(probability, 6) for probability, _ in kept] == [0.3, 0.1]  # in the place of the first


def test_the_nucleus_holds_the_token_that_exceeds_it() -> None:
    table = {"": {"S1": 0.5, "S2": 0.25, "S10": 0.1875, "safe": 0.0625}, **{label: {STOP: 1.0} for label in LABELS}}
    assert scores(table, top_p=0.7) == pytest.approx({"S1": 0.5, "S2": 0.25})
    # a sum that only reaches top_p does not exceed it
    assert scores(table, top_p=0.75) == pytest.approx({"S1": 0.5, "S2": 0.25, "S10": 0.1875})


def test_eps_is_checked_on_entering() -> None:
    table = {
        "": {"unsafe": 0.005, "safe": 0.995},
        "unsafe": {"S1": 1.0},
        "safe": {STOP: 1.0},
    }
    model = Scripted(table)
    result = published_procedures.any_place(model, PROMPT, LABELS, top_p=ALMOST, eps=0.01)
    assert result.scores == pytest.approx({"unsafe": 0.005})  # the hit counts, what follows it does not
    assert model.visited(result) == ["", "safe"]


def siblings(end: float) -> dict[str, dict[str, float]]:
    rest = 1.0 - end
    table = {"": {STOP: end, "S1": rest * 0.6, "S2": rest * 0.3, "S10": rest * 0.1}}
    return {**table, **{label: {STOP: 1.0} for label in ("S1", "S2", "S10")}}


def test_fault_a_sure_end_skips_the_siblings_after_it() -> None:
    assert scores(siblings(0.7), top_p=ALMOST) == {}
    assert scores(siblings(0.69), top_p=ALMOST) == pytest.approx({"S1": 0.186, "S2": 0.093})


def test_fault_where_the_answer_may_end_the_third_sibling_is_the_last_and_not_followed() -> None:
    model = Scripted(siblings(0.4))
    result = published_procedures.any_place(model, PROMPT, LABELS, top_p=ALMOST)
    assert result.scores == pytest.approx({"S1": 0.36, "S2": 0.18})  # S10 is lost
    assert model.visited(result) == ["", "S1"]  # S2 was scored, not descended
    # an end outside the nucleus changes nothing
    table = {"": {"S1": 0.4, "S2": 0.3, "S10": 0.2, STOP: 0.1}, **{label: {STOP: 1.0} for label in LABELS}}
    inside = published_procedures.any_place(Scripted(table), PROMPT, LABELS, top_p=0.85)
    assert inside.scores == pytest.approx({"S1": 0.4, "S2": 0.3, "S10": 0.2})
    assert len(inside.visited) == 4


def test_depth_is_inclusive() -> None:
    table = {"": {"S1": 1.0}, "S1": {"S2": 1.0}, "S1S2": {"S10": 1.0}, "S1S2S10": {STOP: 1.0}}
    assert scores(table, max_new_tokens=0) == pytest.approx({"S1": 1.0})  # one token, though none is allowed
    assert scores(table, max_new_tokens=1) == pytest.approx({"S1": 1.0, "S2": 1.0})
    assert scores(table, max_new_tokens=2) == pytest.approx({"S1": 1.0, "S2": 1.0, "S10": 1.0})


LOGITS = {"S1": 2.0, "S2": 1.0, "S10": -1.0}


def test_uncertainties_by_hand() -> None:
    values = np.array([2.0, 1.0, -1.0])
    shares = np.exp(values) / np.exp(values).sum()
    assert published_procedures.uncertainty(values, "probability") == pytest.approx(1 / (shares[0] + 1))
    assert published_procedures.uncertainty(values, "entropy") == pytest.approx(
        -sum(p * log(p + 1e-10) for p in shares)
    )
    aleatoric = -(2 / 3 * (digamma(3) - digamma(4)) + 1 / 3 * (digamma(2) - digamma(4)))
    assert digamma(4) - digamma(3) == pytest.approx(1 / 3)  # ψ(x + 1) = ψ(x) + 1/x
    assert aleatoric == pytest.approx(2 / 3 * 1 / 3 + 1 / 3 * (1 / 3 + 1 / 2))
    assert published_procedures.uncertainty(values, "LogTokU", k=2) == pytest.approx(2 / (3 + 2) / aleatoric)


def test_negative_logits_are_no_evidence_but_count_in_the_spread() -> None:
    values = np.array([2.0, -0.5])
    alpha = values / 1.5
    aleatoric = -(alpha[1] * (digamma(0.5) - digamma(2.5)) + alpha[0] * (digamma(3) - digamma(2.5)))
    assert published_procedures.uncertainty(values, "LogTokU") == pytest.approx(2 / (2 + 2) / aleatoric)


def test_the_cut_is_where_the_gain_of_a_second_label_peaks_first() -> None:
    def record(top: float) -> dict[str, float]:
        return {"S1": top, "S2": 1.0, "S10": 0.0}

    logits = [record(1.5), record(4.0), record(3.0), record(2.0)]  # rising u: 4, 3, 2, 1.5
    truth = [["S1"], ["S1", "S2"], ["S10"], ["S1", "S2"]]  # gains in that order: +1, 0, +1, −1
    cut = published_procedures.choose_cut(logits, truth, "probability")
    assert cut == pytest.approx(published_procedures.uncertainty(np.array([2.0, 0.0, 1.0]), "probability"))
    chosen = published_procedures.cut_labels(logits, cut, "probability")
    assert chosen == [["S1"], ["S1", "S2"], ["S1", "S2"], ["S1", "S2"]]
    # a second peak of the same height is not taken
    truth[2], truth[3] = ["S1"], ["S1", "S2"]  # +1, −1, +1, −1
    assert published_procedures.choose_cut(logits, truth, "probability") == pytest.approx(
        published_procedures.uncertainty(np.array([4.0, 0.0, 1.0]), "probability")
    )


def test_fault_labels_that_share_a_token_come_in_reverse_order_of_name() -> None:
    digits = {label: [50, *(60 + int(digit) for digit in label[1:])] for label in ("S1", "S2", "S10", "S14")}
    shared = published_procedures.label_tokens(digits.__getitem__, ["unsafe", "S1", "S2", "S10", "S14"])
    assert shared == {"S1": 61, "S2": 62, "S10": 61, "S14": 61}
    logits = {label: {61: 3.0, 62: 1.0}[token] for label, token in shared.items()}
    assert published_procedures.ranked(logits) == ["S14", "S10", "S1", "S2"]


@pytest.mark.parametrize("kind", [PlainModel, CachedModel])
def test_a_real_model(tmp_path: Path, kind: type[PlainModel]) -> None:
    folder = save(tmp_path / "model", 3, sharpness=2.0)
    tokenizer, network = AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder)
    prompt = tokenizer("judge this", add_special_tokens=False)["input_ids"]
    model = kind(network, tokenizer, [END])
    result = published_procedures.any_place(model, prompt, ["s", "S1"], top_p=0.9, eps=0.01, max_new_tokens=3)
    assert model.forward_passes == len(result.visited) > 5
    plain = PlainModel(network, tokenizer, [END])
    again = published_procedures.any_place(plain, prompt, ["s", "S1"], top_p=0.9, eps=0.01, max_new_tokens=3)
    assert again.visited == result.visited
    assert again.scores == pytest.approx(result.scores, abs=1e-5)
    with torch.no_grad():
        whole = network(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    assert torch.allclose(model.next_probabilities(prompt), whole, atol=1e-5)
    assert published_procedures.greedy(
        model, prompt, ["unsafe", "S1"], max_new_tokens=4
    ) == published_procedures.greedy(plain, prompt, ["unsafe", "S1"], max_new_tokens=4)
