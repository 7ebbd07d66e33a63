"""Token ids that the model does not have: refused when the guard is loaded, or with the one record that needs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import GenerationConfig

from marginalia.schemas.errors import ModelError
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.hashed import sentencepiece
from tests.scoring.networks import GUARD
from tests.scoring.tiny import END, model, save, tokenizer

SETTINGS = Settings(tolerance=0.1, node_budget=8)
SIZE = END + 2


def scorer(folder: Path) -> Scorer:
    (folder / "g.yaml").write_text(GUARD)
    return Scorer.load(str(folder / "m"), str(folder / "g.yaml"), settings=SETTINGS)


def add(folder: Path, token: str, *, special: bool, chat: str | None = None) -> None:
    fast = tokenizer()
    fast.add_tokens([AddedToken(token, special=special)], special_tokens=special)
    assert fast.convert_tokens_to_ids(token) == SIZE
    if chat is not None:
        fast.chat_template = chat
    fast.save_pretrained(folder / "m")


def refusal(where: str, token: str) -> str:
    return f"^{where} needs the token '{token}' with id {SIZE}, but the model's ids are 0 to {SIZE - 1} "


def test_a_token_of_the_answers(tmp_path: Path) -> None:
    save(tmp_path / "m")
    add(tmp_path, "unsafe", special=False)
    with pytest.raises(ModelError, match=refusal("an answer", "unsafe")):
        scorer(tmp_path)


def test_a_token_of_every_prompt(tmp_path: Path) -> None:
    save(tmp_path / "m")
    add(tmp_path, "<|turn|>", special=True, chat="{% for m in messages %}{{ m.content }}{% endfor %}<|turn|>")
    with pytest.raises(ModelError, match=refusal("every prompt", r"<\|turn\|>")):
        scorer(tmp_path)


def test_a_token_that_ends_the_answer(tmp_path: Path) -> None:
    save(tmp_path / "m")
    add(tmp_path, "<|eot|>", special=True)
    GenerationConfig(eos_token_id=[END, SIZE]).save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match=refusal("the end of an answer", r"<\|eot\|>")):
        scorer(tmp_path)


def test_a_token_of_one_record_fails_that_record(tmp_path: Path) -> None:
    fast = sentencepiece(("ZZ",)).tokenizer
    last = len(fast) - 1
    assert fast.convert_ids_to_tokens(last) == "ZZ"
    model(vocab_size=last, eos_token_id=fast.eos_token_id).save_pretrained(tmp_path / "m")
    fast.save_pretrained(tmp_path / "m")
    records = [("a", [{"role": "user", "content": "text"}]), ("z", [{"role": "user", "content": "a ZZ"}])]
    found = {result.record_id: result.error for result in scorer(tmp_path).score_records(records)}
    assert found["a"] is None
    assert str(found["z"]).startswith(f"the record needs the token 'ZZ' with id {last}, but the model's ids are 0 to")


def test_tokens_that_nothing_needs_do_no_harm(tmp_path: Path) -> None:
    save(tmp_path / "m")
    add(tmp_path, "[PAD]", special=True)
    found = scorer(tmp_path)
    found.settings = Settings(tolerance=1e-4, node_budget=100)  # so far that the lower bound is above 0
    assert found.score("text")["unsafe"].probability > 0
