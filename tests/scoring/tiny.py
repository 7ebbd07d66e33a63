"""A tiny random Llama with a byte-level tokenizer that knows some merges, and the brute-force oracle over it."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAIRS = ["u n", "s a", "f e", "sa fe", "S 1", "S1 0", ", S", ", Ġ", "Ċ S"]  # merges, in byte-level letters
END = 256 + len(PAIRS) + 1  # <|end|>, between <|start|> and <|stop|>
CHAT = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """All 256 bytes and a few merges, so that answers have several tokenisations."""
    vocabulary = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [tuple(pair.split(" ")) for pair in PAIRS]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in ("<|start|>", "<|end|>", "<|stop|>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    if chat:
        fast.chat_template = CHAT
    return fast


def model(seed: int = 0, *, sharpness: float = 1.0, **overrides: object) -> LlamaForCausalLM:
    """Random weights; `sharpness` above 1 makes its answers peaked."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": END + 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "eos_token_id": END,
        "bos_token_id": None,
        "pad_token_id": None,
        **overrides,
    }
    made = LlamaForCausalLM(LlamaConfig(**settings))
    with torch.no_grad():
        made.lm_head.weight.mul_(sharpness * 8)
    return made.eval()


def save(folder: Path, seed: int = 0, *, chat: bool = True, sharpness: float = 1.0, **overrides: object) -> Path:
    model(seed, sharpness=sharpness, **overrides).save_pretrained(folder)
    tokenizer(chat=chat).save_pretrained(folder)
    return folder


class Oracle:
    """Every token sequence whose text is an answer, by plain forward passes without a cache.

    `answers` maps each text of the language to its rows (label numbers, and the verdict's number)."""

    def __init__(
        self, network: LlamaForCausalLM, fast: PreTrainedTokenizerFast, ends: list[int], answers: dict[str, set[int]]
    ):
        self.network = network
        self.ends = ends
        self.answers = {text.encode(): rows for text, rows in answers.items()}
        self.prefixes = {text[:end] for text in self.answers for end in range(len(text) + 1)}
        special = set(fast.all_special_ids)
        self.texts = {
            index: fast.backend_tokenizer.decode([index]).encode() for index in range(len(fast)) if index not in special
        }
        self.texts = {index: text for index, text in self.texts.items() if "\ufffd".encode() not in text}

    def run(self, prompt: list[int], rows: int, complete: dict[bytes, set[int]]) -> dict[str, torch.Tensor]:
        """All three marginals and the off-language mass. `complete`: prefix text → rows complete at it."""
        raw = torch.zeros(rows, dtype=torch.float64)
        inside = torch.zeros(rows, dtype=torch.float64)
        constrained = torch.zeros(rows, dtype=torch.float64)
        closed = off = 0.0
        level = [((), b"", 1.0, 1.0)]
        while level:
            following = []
            ids = torch.tensor([prompt + list(path) for path, *_ in level])
            with torch.no_grad():
                parts = [self.network(input_ids=chunk).logits[:, -1].double().softmax(-1) for chunk in ids.split(256)]
            for (path, text, mass, share), probabilities in zip(level, torch.cat(parts), strict=True):
                done = complete[text]
                moves = [
                    (token, text + piece)
                    for token, piece in self.texts.items()
                    if piece and text + piece in self.prefixes
                ]
                ends = self.ends if text in self.answers else []
                total = sum(float(probabilities[token]) for token, _ in moves) + sum(
                    float(probabilities[e]) for e in ends
                )
                left = mass * (1 - total)
                off += left
                for row in done:
                    raw[row] += left
                for token in ends:
                    ended = mass * float(probabilities[token])
                    closed += ended
                    for row in self.answers[text]:
                        raw[row] += ended
                        inside[row] += ended
                        constrained[row] += share * float(probabilities[token]) / total
                following += [
                    (
                        (*path, token),
                        after,
                        mass * float(probabilities[token]),
                        share * float(probabilities[token]) / total,
                    )
                    for token, after in moves
                ]
            level = following
        return {
            "marginal": raw,
            "marginal_in_language": inside / closed,
            "marginal_constrained": constrained,
            "off": torch.tensor(off),
        }


def guard_answers(
    codes: list[str], safe: str, head: str, separator: str
) -> tuple[dict[str, set[int]], dict[bytes, set[int]]]:
    """The answers of a Llama-Guard-like language and, for every prefix of one, the rows that are complete at it.

    Written without the automaton: a label is complete at a prefix when every answer that continues it has the label's
    code followed by a separator, or the whole answer, inside the prefix."""
    verdict = len(codes)
    answers: dict[str, set[int]] = {safe: set()}
    readings: dict[str, tuple[int, ...]] = {safe: ()}
    for size in range(1, len(codes) + 1):
        for chosen in permutations(range(len(codes)), size):
            text = head + separator.join(codes[label] for label in chosen)
            answers[text] = {*chosen, verdict}
            readings[text] = chosen
    complete: dict[bytes, set[int]] = {}
    for text, chosen in readings.items():
        for end in range(len(text) + 1):
            rows = set()
            if text != safe and end >= len(head.rstrip("\n")):
                rows.add(verdict)
            at = len(head)
            for label in chosen[:-1]:
                at += len(codes[label]) + len(separator)
                if at <= end:
                    rows.add(label)
            prefix = text[:end].encode()
            complete[prefix] = complete[prefix] & rows if prefix in complete else rows
    return answers, complete
