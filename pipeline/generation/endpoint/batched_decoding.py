"""Text generation for many requests at once, such that a request's answer never depends on its company.

There is a fixed number of lanes. A request is prefilled alone, then decodes in a lane; every decoding step runs all
lanes, used or not, over caches of one fixed length. All shapes are thereby the same whatever else is going on, so a
row's logits are bit for bit the same (left padding or a growing batch would change the order of the floating-point
sums), and each request samples from its own seeded generator."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

CONTEXT_TOKENS = 768
LANES = 16
_FIRST_LOOK = 128  # tokens that sampling looks at first; the whole vocabulary when these do not hold enough


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 is greedy. `seed` None draws a fresh one."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Completion:
    """A finished answer, and how many tokens its prompt had."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Literal["stop", "length"]


@dataclass
class _Job:
    ids: list[int]
    sampling: Sampling
    future: Future[Completion]
    random: torch.Generator
    written: list[int] = field(default_factory=list)


_UNUSED = _Job([], Sampling(max_tokens=1, temperature=0.0), Future(), torch.Generator())


class _LaneCache(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer: lanes x heads x CONTEXT_TOKENS x size, written in place at each lane's position."""

    is_sliding = False

    def __init__(self, config: Any, dtype: Any) -> None:
        super().__init__()
        shape = (LANES, config.num_key_value_heads, CONTEXT_TOKENS, config.head_dim)
        self.keys, self.values = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
        self.rows = torch.arange(LANES)
        self.positions = torch.zeros(LANES, dtype=torch.long)
        self.is_initialized = True

    def lazy_initialization(self, *_: Any) -> None: ...

    def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        self.keys[self.rows, :, self.positions] = keys[:, :, 0]
        self.values[self.rows, :, self.positions] = values[:, :, 0]
        return self.keys, self.values

    def get_mask_sizes(self, _: int) -> tuple[int, int]:
        return CONTEXT_TOKENS, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return CONTEXT_TOKENS


class BatchedDecoder:
    """The model and its lanes. `submit` is called from any thread; one thread of its own does the work."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # float32: on CPU its prefill is faster than bfloat16's, and sampling is not blurred by rounding
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        self.model.eval()
        end = self.model.generation_config.eos_token_id
        self.end_ids = set(end) if isinstance(end, list) else {end}
        self._layers = [
            _LaneCache(self.model.config, torch.float32) for _ in range(self.model.config.num_hidden_layers)
        ]
        self._cache = Cache(layers=self._layers)
        self._waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._jobs: list[_Job | None] = [None] * LANES
        threading.Thread(target=self._work, name="lanes", daemon=True).start()

    def encode(self, messages: list[dict[str, str]]) -> list[int]:
        """Token ids of the chat with the assistant's turn opened."""
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def submit(self, ids: list[int], sampling: Sampling) -> Future[Completion]:
        """The answer in time. Needs 1 <= len(ids) and len(ids) + max_tokens <= CONTEXT_TOKENS."""
        random = torch.Generator()
        if sampling.seed is None:
            random.seed()
        else:
            random.manual_seed(sampling.seed)
        job = _Job(ids, sampling, Future(), random)
        self._waiting.put(job)
        return job.future

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _work(self) -> None:
        while True:
            self._fill_lanes()
            jobs = [(lane, job) for lane, job in enumerate(self._jobs) if job is not None]
            if not jobs:
                continue
            tokens, positions = torch.zeros(LANES, 1, dtype=torch.long), torch.zeros(LANES, dtype=torch.long)
            for lane, job in jobs:
                tokens[lane], positions[lane] = job.written[-1], len(job.ids) + len(job.written) - 1
            # every lane is sampled, so that shapes stay the same; what an unused one says is dropped
            requests = [_UNUSED if job is None else job for job in self._jobs]
            chosen = self._sample(self._step(tokens, positions), requests)
            for lane, job in jobs:
                self._advance(lane, job, chosen[lane])

    def _fill_lanes(self) -> None:
        idle = all(job is None for job in self._jobs)
        for lane in [number for number, job in enumerate(self._jobs) if job is None]:
            try:
                job = self._waiting.get(block=idle)
            except queue.Empty:
                return
            idle = False
            if job.future.set_running_or_notify_cancel():
                self._advance(lane, job, self._sample(self._prefill(lane, job.ids), [job])[0])

    def _prefill(self, lane: int, ids: list[int]) -> Any:
        own = DynamicCache()
        out = self.model.model(torch.tensor([ids]), past_key_values=own, use_cache=True)
        for layer, filled in zip(self._layers, own.layers, strict=True):
            layer.keys[lane, :, : len(ids)] = filled.keys[0]
            layer.values[lane, :, : len(ids)] = filled.values[0]
        return self.model.lm_head(out.last_hidden_state[:, -1])

    def _step(self, tokens: Any, positions: Any) -> Any:
        for layer in self._layers:
            layer.positions = positions
        seen = torch.arange(CONTEXT_TOKENS)[None] <= positions[:, None]
        mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None, None]
        out = self.model.model(
            tokens,
            past_key_values=self._cache,
            use_cache=True,
            attention_mask=mask,
            position_ids=positions[:, None],
        )
        return self.model.lm_head(out.last_hidden_state[:, -1])

    def _sample(self, logits: Any, jobs: list[_Job]) -> list[int]:
        return sample(logits, [job.sampling for job in jobs], [job.random for job in jobs])

    def _advance(self, lane: int, job: _Job, token: int) -> None:
        """Takes the job's next token; ends it or leaves it in its lane."""
        ended = token in self.end_ids
        if not ended:
            job.written.append(token)
        if not ended and len(job.written) < job.sampling.max_tokens:
            self._jobs[lane] = job
            return
        self._jobs[lane] = None
        text = self.tokenizer.decode(job.written, skip_special_tokens=True)
        reason: Literal["stop", "length"] = "stop" if ended else "length"
        job.future.set_result(Completion(text, len(job.ids), len(job.written) + ended, reason))


def sample(logits: Any, sampling: list[Sampling], randoms: list[Any]) -> list[int]:
    """One token id per row of float32 logits (rows x vocabulary) by temperature and nucleus, greedy at temperature 0.

    Each row takes one draw from its own generator and inverts the cumulative probability in order of probability."""
    temperatures = torch.tensor([each.temperature or 1.0 for each in sampling])
    scaled = logits / temperatures[:, None]
    totals = scaled.logsumexp(-1)
    values, ids = scaled.topk(min(_FIRST_LOOK, scaled.shape[-1]))
    chosen = []
    for row, (each, random) in enumerate(zip(sampling, randoms, strict=True)):
        if each.temperature <= 0:
            chosen.append(int(ids[row, 0]))
            continue
        draw = float(torch.rand((), generator=random, dtype=torch.float64))
        token = _invert(values[row], ids[row], totals[row], each.top_p, draw)
        if token is None:
            everything = scaled[row].sort(descending=True)
            token = _invert(everything.values, everything.indices, totals[row], each.top_p, draw, whole=True)
        chosen.append(int(token or 0))
    return chosen


def _invert(values: Any, ids: Any, total: Any, top_p: float, draw: float, *, whole: bool = False) -> int | None:
    """The token at `draw` in the nucleus, or None when these, the most probable ones, do not reach far enough."""
    cumulative = (values.double() - total.double()).exp().cumsum(0)
    seen = float(cumulative[-1])
    if whole or seen >= top_p:
        kept = min(int(torch.searchsorted(cumulative, min(top_p, seen))) + 1, len(cumulative))
        mass = float(cumulative[kept - 1])
    elif top_p >= 1 and draw < seen:
        kept, mass = len(cumulative), 1.0
    else:
        return None
    place = int(torch.searchsorted(cumulative, draw * mass, right=True))
    return int(ids[min(place, kept - 1)])
