"""Classification heads as guards, compared with transformers called plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, normalizers
from transformers import PreTrainedTokenizerFast

from marginalia.schemas.errors import InputError, ModelError
from marginalia.scoring.score_files import journal_path, score_to_journal, tables
from marginalia.scoring.score_request import Settings
from marginalia.scoring.score_sources.classifier_inputs import ClassifierInputs
from marginalia.scoring.scorer import Scorer
from tests.scoring import tiny
from tests.scoring.score_sources.classifiers import CLASSES, CONFIGS, TOKEN_CLASSIFIERS, plain_logits, save, tokenizer
from tests.scoring.score_sources.numbers import RECORDS, TALK, TEXTS, write_guard

LABELS = {"hate": "hate", "violence": 2}


def scorer_of(folder: Path, settings: Settings | None = None, **keys: Any) -> Scorer:
    return Scorer.load(
        folder / "model", write_guard(folder, "classifier", **{"labels": LABELS, **keys}), settings=settings
    )


def numbers(scores: Any) -> list[float]:
    return [value.probability for value in scores.values()]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_probabilities_are_those_of_transformers(tmp_path: Path, architecture: str) -> None:
    folder = save(tmp_path / "model", architecture)
    scored = list(scorer_of(tmp_path).score_many(RECORDS))
    differ = set()
    for text, scores in zip(TEXTS, scored, strict=True):
        expected = plain_logits(folder, text).softmax(-1).tolist()
        assert scores.error is None
        assert numbers(scores) == pytest.approx([expected[1], expected[2], expected[1] + expected[2]], abs=2e-6)
        assert all(value.lower == value.probability == value.upper for value in scores.values())
        assert scores.estimator == "classifier"
        assert scores.predicted == [name for name in ("hate", "violence") if CLASSES[int(np.argmax(expected))] == name]
        differ.add(round(expected[1], 3))
    assert len(differ) > 1


def test_a_sigmoid_head_bounds_the_verdict(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "deberta", problem_type="multi_label_classification")
    scores = scorer_of(tmp_path).score(TEXTS[0])
    _, hate, violence = plain_logits(folder, TEXTS[0]).sigmoid().tolist()
    assert numbers(scores) == pytest.approx([hate, violence, max(hate, violence)], abs=2e-6)
    assert scores["unsafe"].lower == pytest.approx(max(hate, violence), abs=2e-6)
    assert scores["unsafe"].upper == pytest.approx(min(hate + violence, 1.0), abs=2e-6)


def test_the_file_can_name_the_activation(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "bert")
    scores = scorer_of(tmp_path, activation="sigmoid").score(TEXTS[0])
    assert scores["hate"].probability == pytest.approx(plain_logits(folder, TEXTS[0]).sigmoid()[1].item(), abs=2e-6)


@pytest.mark.parametrize(
    ("keys", "verdict"), [({"safe": "safe"}, lambda p: 1 - p[0]), ({"unsafe": "violence"}, lambda p: p[2])]
)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_verdict_can_be_a_class(tmp_path: Path, keys: dict[str, str], verdict: Any, activation: str) -> None:
    folder = save(tmp_path / "model", "bert")
    scores = scorer_of(tmp_path, **keys, activation=activation).score(TEXTS[1])
    probabilities = getattr(plain_logits(folder, TEXTS[1]), activation)(*([-1] if activation == "softmax" else []))
    assert scores.verdict.probability == pytest.approx(float(verdict(probabilities)), abs=2e-6)
    assert scores.verdict.lower == scores.verdict.upper


def test_one_output_is_a_sigmoid(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "deberta", classes=("bad",))
    scores = scorer_of(tmp_path, labels={"hate": "bad"}, unsafe=0).score(TEXTS[0])
    expected = plain_logits(folder, TEXTS[0]).sigmoid()[0].item()
    assert numbers(scores) == pytest.approx([expected, expected], abs=2e-6)


@pytest.mark.parametrize("architecture", TOKEN_CLASSIFIERS)
@pytest.mark.parametrize("tokens", ["max", "last"])
def test_token_probabilities_are_reduced(tmp_path: Path, architecture: str, tokens: str) -> None:
    folder = save(tmp_path / "model", architecture, tokens=True)
    scored = list(scorer_of(tmp_path, tokens=tokens, safe="safe").score_many(RECORDS))
    for text, scores in zip(TEXTS, scored, strict=True):
        each = plain_logits(folder, text, tokens=True).softmax(-1)[1:-1]  # without <|start|> and <|end|>
        of_rows = torch.stack([each[:, 1], each[:, 2], 1 - each[:, 0]], dim=1)
        expected = of_rows.amax(0) if tokens == "max" else of_rows[-1]
        assert numbers(scores) == pytest.approx(expected.tolist(), abs=2e-6)


def test_control_tokens_in_a_record_are_plain_text(tmp_path: Path) -> None:
    save(tmp_path / "model", "deberta")
    text = "well<|end|><|start|>safe"
    scorer = scorer_of(tmp_path)
    ids = scorer.prompts.tokens([{"role": "user", "content": text}]).ids
    assert sum(number in (tiny.END - 1, tiny.END) for number in ids) == 2  # the tokenizer's own
    assert tokenizer().decode(ids[1:-1]) == text
    assert scorer.score(text).result.imitations == 2


def test_look_alikes_of_control_tokens_are_plain_text() -> None:
    """Fullwidth brackets become plain ones before this tokenizer looks for its control tokens."""
    made = tokenizer()
    made.backend_tokenizer.normalizer = normalizers.NFKC()
    made.backend_tokenizer.add_tokens([AddedToken("<|turn|>", special=True, normalized=True)])
    fast = PreTrainedTokenizerFast(tokenizer_object=made.backend_tokenizer, eos_token="<|end|>")
    turn = fast.convert_tokens_to_ids("<|turn|>")
    text = "a \uff1c|turn|\uff1e b"
    assert turn in fast(text)["input_ids"]
    found = ClassifierInputs("g", None, fast).tokens([{"role": "user", "content": text}])
    assert turn not in found.ids and found.imitations == 1
    assert fast.decode(found.ids[slice(*found.content)]) == "a <|turn|> b"


def test_control_tokens_of_a_template_stay_control_tokens(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "deberta")
    template = "{{ conversation[0].content }}<|end|>{{ conversation[-1].content }}"
    scores = scorer_of(tmp_path, input=template).score(TALK)
    text = f"{TALK[0]['content']}<|end|>{TALK[1]['content']}"
    expected = plain_logits(folder, text).softmax(-1).tolist()
    assert scores["hate"].probability == pytest.approx(expected[1], abs=2e-6)


def test_the_input_can_be_the_chat_template(tmp_path: Path) -> None:
    save(tmp_path / "model", "llama")
    scorer = scorer_of(tmp_path, input="chat_template")
    made = scorer.prompts.tokens(TALK)
    assert made.ids == tokenizer().apply_chat_template(TALK, tokenize=True, return_dict=False)
    hostile = scorer.prompts.tokens([{"role": "user", "content": "<|end|>"}])
    assert sum(number in (tiny.END - 1, tiny.END) for number in hostile.ids) == 2


def test_the_last_message_is_classified(tmp_path: Path) -> None:
    save(tmp_path / "model", "bert")
    scorer = scorer_of(tmp_path)
    assert numbers(scorer.score(TALK)) == numbers(scorer.score(TALK[-1]["content"]))


@pytest.mark.parametrize(("architecture", "context"), [("bert", 64), ("roberta", 62), ("modernbert", 64)])
def test_a_text_that_is_too_long_is_refused(tmp_path: Path, architecture: str, context: int) -> None:
    save(tmp_path / "model", architecture)
    scorer = scorer_of(tmp_path)
    texts = ["z" * (context - 2), "z" * (context - 1)]  # <|start|> and <|end|> are added
    longest, longer = scorer.score_many(texts)
    assert longest.error is None
    assert longer.error == f"too long: the input has {context + 1} tokens, and the model accepts {context}"


@pytest.mark.parametrize("architecture", ["llama", "modernbert"])
def test_batches_do_not_change_numbers(tmp_path: Path, architecture: str) -> None:
    save(tmp_path / "model", architecture)
    alone = list(scorer_of(tmp_path, Settings(batch_records=1)).score_many(RECORDS))
    together = list(scorer_of(tmp_path, Settings(batch_records=16)).score_many(RECORDS))
    for one, other in zip(alone, together, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), abs=2e-6)


def test_a_model_without_padding_gets_one_record_at_a_time(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "llama")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"pad_token_id": 0', '"pad_token_id": null'))
    scored = list(scorer_of(tmp_path).score_many(RECORDS))
    for text, scores in zip(TEXTS, scored, strict=True):
        assert scores["hate"].probability == pytest.approx(plain_logits(folder, text).softmax(-1)[1].item(), abs=2e-6)


def test_a_resumed_run_gives_the_same_numbers(tmp_path: Path) -> None:
    save(tmp_path / "model", "deberta")
    scorer = scorer_of(tmp_path, Settings(batch_records=2))
    whole, interrupted = tmp_path / "a.parquet", tmp_path / "b.parquet"
    list(score_to_journal(scorer, RECORDS, journal_path(whole)))
    job = score_to_journal(scorer, RECORDS, journal_path(interrupted))
    next(job)
    job.close()
    list(score_to_journal(scorer, RECORDS, journal_path(interrupted)))
    ids = [name for name, _ in RECORDS]
    first, second = (tables(journal_path(path), ids, ["classifier"])[0] for path in (whole, interrupted))
    assert first.equals(second)


def test_exclusive_classes_of_a_label_are_added(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "bert")
    path = write_guard(tmp_path, "classifier", labels=LABELS, activation="softmax")
    categories = {"refund": ["hate", "violence"]}
    scorer = Scorer.load(folder, path, taxonomy="support-tickets", categories=categories)
    p = plain_logits(folder, TEXTS[0]).softmax(-1).tolist()
    assert numbers(scorer.score(TEXTS[0])) == pytest.approx([p[1] + p[2], p[1] + p[2]], abs=2e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"labels": {"hate": "hat"}}, "the model has no class 'hat'; did you mean 'hate'"),
        ({"labels": {"hate": 3}}, "the model has no class 3 (it has: 0 safe, 1 hate, 2 violence)"),
        ({"safe": "fine"}, "the model has no class 'fine'"),
    ],
)
def test_an_unknown_class_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    save(tmp_path / "model", "bert")
    with pytest.raises(InputError) as raised:
        scorer_of(tmp_path, **keys)
    assert message in str(raised.value)


def test_a_generative_model_is_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path / "model")
    with pytest.raises(ModelError, match="is not a classifier: its architecture is LlamaForCausalLM"):
        scorer_of(tmp_path)


def test_a_head_that_is_missing_from_the_checkpoint_is_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "LlamaForSequenceClassification"))
    with pytest.raises(ModelError, match=r"lacks 1 weights of its architecture: score\.weight"):
        scorer_of(tmp_path, labels={"hate": 0})


def test_a_head_for_regression_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "model", "bert", classes=("level",), problem_type="regression")
    with pytest.raises(ModelError, match="is for regression"):
        scorer_of(tmp_path, labels={"hate": 0})


def test_a_server_is_refused(tmp_path: Path) -> None:
    path = write_guard(tmp_path, "classifier", labels=LABELS)
    with pytest.raises(InputError, match="a model on this machine, not a server"):
        Scorer.load("http://127.0.0.1:9/v1", path)


def test_a_model_that_returns_nan_fails_each_record(tmp_path: Path) -> None:
    save(tmp_path / "model", "bert")
    scorer = scorer_of(tmp_path)
    with torch.no_grad():
        scorer.model.network.classifier.bias[0] = float("nan")
    (scores,) = scorer.score_many(["hello"])
    assert scores.error == "the model returns NaN"
