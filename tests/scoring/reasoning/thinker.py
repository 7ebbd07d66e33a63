"""A tiny guard that writes a few letters of reasoning before its answer, which depends on them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import LlamaForCausalLM

from tests.scoring import tiny

CODES = ["S1", "S10"]
TEXTS = ["hello", "Where is my parcel?", "I want my money back"]
RECORDS = [(f"r{n}", [{"role": "user", "content": text}]) for n, text in enumerate(TEXTS)]
TOKENS = 5  # too few for two letters and the end


def write(folder: Path, *, until: Any = "</t>", tokens: int = TOKENS) -> Path:
    """The guard file in `folder`, with its taxonomy and model."""
    labels = [{"id": f"l{n}", "name": f"Label {n}", "definition": "x"} for n in range(len(CODES))]
    taxonomy = {"id": "tiny", "version": "1", "title": "Tiny", "subject": "texts", "labels": labels}
    guard = {
        "guard": "thinker",
        "title": "Thinker",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": {f"l{n}": code for n, code in enumerate(CODES)},
        "prompt": {"message": "{{ conversation[0].content }}"},
        "reasoning": {"until": until, "tokens": tokens},
        "answer": [["safe"], [{"verdict": "unsafe"}, "\n", {"labels": [","]}]],
    }
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    path = folder / "thinker.yaml"
    path.write_text(yaml.safe_dump(guard))
    if not (folder / "model").exists():
        tiny.tokenizer().save_pretrained(folder / "model")
        trained().save_pretrained(folder / "model")
    return path


def trained() -> LlamaForCausalLM:
    """Two layers that have seen reasoning and answers: with an `a` in it, S1 is likely, with a `b`, S10."""
    torch.manual_seed(0)
    network, tokenizer, draw = tiny.model(0, sharpness=0.2), tiny.tokenizer(), random.Random(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(150):
        rows = []
        for _ in range(12):
            reasoning = draw.choice(["a", "b", "ab", "c", "cc"])
            answers = {"a": "unsafe\nS1", "b": "unsafe\nS10", "ab": "unsafe\nS1,S10"}
            answer = answers.get(reasoning, "safe") if draw.random() < 0.8 else draw.choice(["safe", "unsafe\nS1"])
            chat = [{"role": "user", "content": draw.choice(TEXTS)}]
            prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            rows.append((prompt, reasoning + "</t>" + answer + "<|end|>"))
        ids = [
            [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, output)]
            for prompt, output in rows
        ]
        width = max(len(prompt) + len(output) for prompt, output in ids)
        padded, targets, seen = [], [], []
        for prompt, output in ids:
            pad = width - len(prompt) - len(output)
            padded.append([0] * pad + prompt + output)
            targets.append([-100] * (pad + len(prompt)) + output)
            seen.append([0] * pad + [1] * (width - pad))
        tensors = [torch.tensor(one) for one in (padded, seen, targets)]
        network(input_ids=tensors[0], attention_mask=tensors[1], labels=tensors[2]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval()
