"""Small random classifiers of several architectures, and transformers called plainly on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaV2Config,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from tests.scoring import tiny

START = tiny.END - 1  # <|start|>
CLASSES = ("safe", "hate", "violence")
SIZES: dict[str, Any] = {
    "vocab_size": tiny.END + 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": START,
    "eos_token_id": tiny.END,
}
CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "modernbert": lambda more: ModernBertConfig(
        **SIZES, cls_token_id=START, sep_token_id=tiny.END, local_attention=16, global_attn_every_n_layers=2, **more
    ),
    "deberta": lambda more: DebertaV2Config(
        **SIZES,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        **more,
    ),
    "llama": lambda more: LlamaConfig(**SIZES, num_key_value_heads=2, **more),
    "bert": lambda more: BertConfig(**(SIZES | more)),
    "roberta": lambda more: RobertaConfig(**{**SIZES, "pad_token_id": 1}, **more),
}
TOKEN_CLASSIFIERS = ("modernbert", "deberta", "bert")


def tokenizer() -> PreTrainedTokenizerFast:
    """The byte-level tokenizer of the tests, which puts <|start|> before each text and <|end|> after it."""
    fast = tiny.tokenizer()
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|start|> $A <|end|>",
        special_tokens=[("<|start|>", START), ("<|end|>", tiny.END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast.backend_tokenizer, eos_token="<|end|>", pad_token="<|stop|>", chat_template=tiny.CHAT
    )


def save(
    folder: Path, architecture: str, *, tokens: bool = False, classes: tuple[str, ...] = CLASSES, **config: Any
) -> Path:
    torch.manual_seed(7)
    names = dict(enumerate(classes))
    more = {"id2label": names, "label2id": {name: index for index, name in names.items()}, **config}
    auto = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    network = auto.from_config(CONFIGS[architecture](more)).eval()
    with torch.no_grad():  # random heads are nearly indifferent
        for name, weights in network.named_parameters():
            if name.startswith(("classifier", "score")):
                weights.mul_(1 if architecture == "modernbert" else 20)
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def plain_logits(folder: Path, text: str, *, tokens: bool = False) -> torch.Tensor:
    """The logits of one text, as a user of transformers would compute them."""
    auto = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    network = auto.from_pretrained(folder).eval()
    inputs = PreTrainedTokenizerFast.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        found = network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[0]
    return torch.as_tensor(found)
