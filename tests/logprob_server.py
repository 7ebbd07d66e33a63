"""A loopback server that gives log-probabilities of a real model: /v1/completions as in vLLM, with faults on demand.

    with LogprobServer(network, tokenizer, faults={"500": 0.1}) as server: … server.url, server.requests

Names, limits and error bodies follow vLLM's entrypoints/openai/completion (2026): `logprobs` top entries and the
sampled one, `token_id:N` on request, `logprob_token_ids`, −9999 for −inf, echo with a null at its start. A fault is
drawn from a hash of the request and of how often it was sent before, so it does not depend on the order of calls."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import torch

FAULTS = ("429", "500", "503", "reset", "hang", "truncated", "html")
HANG = 2.0  # seconds, longer than the clients of the tests wait


class BadRequest(Exception):
    def __init__(self, status: int, message: str, kind: str = "BadRequestError", parameter: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.parameter = status, kind, parameter


class LogprobServer:
    """Options of the server, which follow real servers:

    - `max_logprobs`: as vLLM's option.
    - `token_ids`: supports return_tokens_as_token_ids; `asked_ids`: supports logprob_token_ids.
    - `logprobs` False: answers null instead of log-probabilities. `prompt_ids` False: accepts only text.
    - `strict`: refuses unknown keys, as OpenAI does. `form`: `vllm` or `llama.cpp`. `key`: the required bearer token.
    - `poison`: requests whose prompt contains this id always fail, with `poison_status`.
    - `noise`: nats added to the values of calls that run at the same time as others.
    - `tells`: most top entries that it gives, whatever was requested.
    - `chats`: has only /v1/chat/completions.
    - `scale`: factor of the log-probabilities, as with a temperature.
    - `keeps`: tokens outside the top `keeps` get the value `floor` (None: null; "absent": they are left out).
      `renormalised`: the others are divided by their sum, as with top-k before the log-probabilities.
    - `jitter`: nats by which the logit of each token differs from call to call. `shift`: nats added to each value.
    - `special`: how tokens with a special meaning are named where texts are: their `text`, "empty", or "absent".
    - `bos`: token that is put before texts. `body`: status and bytes that answer every completion. `redirect`: address
      to which every completion is redirected."""

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        models: tuple[str, ...] = ("tiny-guard",),
        max_logprobs: int = 20,
        token_ids: bool = True,
        asked_ids: bool = False,
        logprobs: bool = True,
        prompt_ids: bool = True,
        strict: bool = False,
        form: str = "vllm",
        key: str | None = None,
        faults: dict[str, float] | None = None,
        poison: int | None = None,
        poison_status: str = "500",
        noise: float = 0.0,
        latency: float = 0.0,
        max_model_len: int = 2048,
        tells: int | None = None,
        chats: bool = False,
        scale: float = 1.0,
        keeps: int | None = None,
        floor: float | str | None = -9999.0,
        renormalised: bool = False,
        jitter: float = 0.0,
        shift: float = 0.0,
        special: str = "text",
        bos: int | None = None,
        body: tuple[int, bytes] | None = None,
        redirect: str | None = None,
    ) -> None:
        assert set(faults or {}) <= set(FAULTS)
        self.network, self.tokenizer, self.models = network, tokenizer, models
        self.max_logprobs, self.token_ids, self.asked_ids = max_logprobs, token_ids, asked_ids
        self.logprobs, self.prompt_ids, self.strict, self.form = logprobs, prompt_ids, strict, form
        self.poison_status = poison_status
        self.key, self.faults, self.poison, self.noise = key, faults or {}, poison, noise
        self.latency, self.max_model_len = latency, max_model_len
        self.tells, self.chats, self.scale = tells, chats, scale
        self.keeps, self.floor, self.renormalised = keeps, floor, renormalised
        self.special = special
        self.jitter, self.shift, self.bos, self.body, self.redirect = jitter, shift, bos, body, redirect
        self.strict_but: tuple[str, ...] = ()  # keys that a strict server accepts nevertheless
        self.headers: list[dict[str, str]] = []  # of all calls, with names in lower case
        self.paths: list[str] = []
        self.requests: list[dict[str, Any]] = []  # bodies of all completions, in order of arrival
        self.calls = 0  # to any path
        self.most_in_flight = 0
        self._in_flight = 0
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._rows: dict[tuple[int, ...], torch.Tensor] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # ---- the model ---------------------------------------------------------------------------------------------------

    def row(self, ids: tuple[int, ...]) -> torch.Tensor:
        """Log-probabilities after `ids`, by a plain forward pass."""
        with self._lock:
            if ids not in self._rows:
                with torch.inference_mode():
                    self._rows[ids] = self.network(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            return self._rows[ids]

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self._check(body)
        prompts = body["prompt"]
        single = isinstance(prompts, str) or (prompts and isinstance(prompts[0], int))
        choices, prompt_tokens, completion_tokens = [], 0, 0
        for index, prompt in enumerate([prompts] if single else prompts):
            ids = self._ids(prompt)
            prompt_tokens += len(ids)
            new = self._generate(ids, body)
            completion_tokens += len(new)
            choices.append(self._choice(index, ids, new, body))
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        answer = {"id": "cmpl-1", "object": "text_completion", "created": 0, "model": body["model"]}
        return {**answer, "choices": choices, "usage": usage, "system_fingerprint": "vllm-0.32.0-tests"}

    def _check(self, body: dict[str, Any]) -> None:
        if body.get("model") not in self.models:
            message = f"The model `{body.get('model')}` does not exist."
            raise BadRequest(404, message, "NotFoundError", "model")
        standard = {"model", "prompt", "max_tokens", "temperature", "n", "logprobs", "echo", "seed", *self.strict_but}
        if self.strict and (extra := sorted(body.keys() - standard)):
            raise BadRequest(400, f"Unrecognized request argument supplied: {extra[0]}", "invalid_request_error")
        requested = body.get("logprobs")
        if requested is not None and requested > self.max_logprobs:
            message = (
                f"Requested sample logprobs of {requested}, which is greater than max allowed: {self.max_logprobs}"
            )
            raise BadRequest(400, message, parameter="logprobs")
        if not self.prompt_ids and not isinstance(body["prompt"], str):
            raise BadRequest(422, "prompt: Input should be a valid string")

    def _ids(self, prompt: str | list[int]) -> list[int]:
        ids = prompt if isinstance(prompt, list) else self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if self.bos is not None and not isinstance(prompt, list):
            ids = [self.bos, *ids]
        if len(ids) + 1 > self.max_model_len:
            message = f"This model's maximum context length is {self.max_model_len} tokens. You requested more."
            raise BadRequest(400, message)
        return list(ids)

    def _generate(self, ids: list[int], body: dict[str, Any]) -> list[int]:
        new: list[int] = []
        draw = random.Random(_identity(body))
        while len(new) < body.get("max_tokens", 16):
            row = self.row((*ids, *new))
            if body.get("temperature", 1.0) == 0:
                new.append(int(row.argmax()))
            else:
                new.append(draw.choices(range(len(row)), row.exp().tolist())[0])
            if new[-1] == self.network.config.eos_token_id:
                break
        return new

    def _choice(self, index: int, ids: list[int], new: list[int], body: dict[str, Any]) -> dict[str, Any]:
        shown = ids + new if body.get("echo") else new
        text = self.tokenizer.decode(shown, skip_special_tokens=True)
        ended = bool(new) and new[-1] == self.network.config.eos_token_id
        choice: dict[str, Any] = {"index": index, "text": text, "finish_reason": "stop" if ended else "length"}
        if body.get("logprobs") is None or not self.logprobs:
            return {**choice, "logprobs": None}
        start = len(ids) - (len(shown) - len(new))
        steps = [(tuple((ids + new)[:end]), (ids + new)[end]) for end in range(start, len(ids) + len(new))]
        return {**choice, "logprobs": self._logprobs(steps, body)}

    def _logprobs(self, steps: list[tuple[tuple[int, ...], int]], body: dict[str, Any]) -> dict[str, Any]:
        """`steps` are (ids before, id of the token)."""
        values = [self._step(before, token, body) if before else None for before, token in steps]
        if self.form == "llama.cpp":
            content = [
                {
                    **self._entry(token, of_token[token]),
                    "top_logprobs": [self._entry(top, value) for top, value in of_token.items()],
                }
                for (_, token), of_token in zip(steps, values, strict=True)
                if of_token is not None
            ]
            return {"content": content}
        names = [self._name(token, body) for _, token in steps]
        return {
            "text_offset": [0] * len(names),
            "tokens": names,
            "token_logprobs": [
                of_token and of_token[token] for (_, token), of_token in zip(steps, values, strict=True)
            ],
            "top_logprobs": [
                of_token
                and {
                    name: value
                    for top, value in of_token.items()
                    if (name := self._name(top, body)) or self.special != "absent"
                }
                for of_token in values
            ],
        }

    def _step(self, before: tuple[int, ...], token: int, body: dict[str, Any]) -> dict[int, float | None]:
        row = self.row(before)
        if self.noise and self._in_flight > 1:
            row = row + self.noise
        if self.jitter:
            with self._lock:
                self._times["jitter"] += 1
                draw = torch.Generator().manual_seed(self._times["jitter"])
            row = (row + self.jitter * (2 * torch.rand(row.shape, generator=draw) - 1)).log_softmax(-1)
        kept = set(row.topk(self.keeps).indices.tolist()) if self.keeps else None
        if kept is not None and self.renormalised:
            row = row - torch.logsumexp(row[sorted(kept)], dim=0)
        if self.asked_ids and body.get("logprob_token_ids"):
            tops = list(body["logprob_token_ids"])
        else:
            count = min(body["logprobs"], len(row), self.tells or len(row))
            tops = row.topk(count).indices.tolist()
        values: dict[int, float | None] = {}
        for top in dict.fromkeys([token, *tops]):
            if kept is None or top in kept:
                values[top] = max(float(row[top]) * self.scale + self.shift, -9999.0)
            elif not isinstance(self.floor, str):
                values[top] = self.floor
        return values

    def _name(self, token: int, body: dict[str, Any]) -> str:
        if self.token_ids and body.get("return_tokens_as_token_ids"):
            return f"token_id:{token}"
        if self.special != "text" and token in self.tokenizer.all_special_ids:
            return ""
        return str(self.tokenizer.decode([token]))

    def _entry(self, token: int, value: float | None) -> dict[str, Any]:
        return {"id": token, "token": self.tokenizer.decode([token]), "logprob": value, "bytes": []}

    # ---- HTTP --------------------------------------------------------------------------------------------------------

    def fault(self, body: dict[str, Any]) -> str | None:
        if self.poison is not None and self.poison in body["prompt"]:
            return self.poison_status
        identity = _identity(body)
        with self._lock:
            self._times[identity] += 1
            drawn = random.Random(f"{identity}:{self._times[identity]}").random()
        for name, rate in self.faults.items():
            drawn -= rate
            if drawn < 0:
                return name
        return None

    def cards(self) -> dict[str, Any]:
        card = {"object": "model", "created": 0, "owned_by": "vllm", "max_model_len": self.max_model_len}
        return {"object": "list", "data": [{"id": name, "root": name, **card} for name in self.models]}


def _identity(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def process_request(self, request: Any, client_address: Any) -> None:
        self.__dict__.setdefault("connections", []).append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        """Also closes the connections that clients keep open, so that a stopped server answers on none."""
        super().server_close()
        for connection in self.__dict__.get("connections", []):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients of the tests are killed in the middle of calls


def _handler(server: LogprobServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            server.calls += 1
            if self._authorized():
                known = self.path == "/v1/models"
                self._send(200 if known else 404, server.cards() if known else {"detail": "Not Found"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.calls += 1
            if not self._authorized():
                return
            if server.chats and self.path == "/v1/chat/completions":
                self._send(422, {"detail": "messages: Field required"})
                return
            if server.chats or self.path.partition("?")[0] != "/v1/completions":
                self._send(404, {"detail": "Not Found"})
                return
            server.requests.append(body)
            with server._lock:
                server._in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server._in_flight)
            try:
                self._complete(body)
            finally:
                with server._lock:
                    server._in_flight -= 1

        def _authorized(self) -> bool:
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.paths.append(self.path)
            if server.key is not None and self.headers.get("Authorization") != f"Bearer {server.key}":
                seen = self.headers.get("Authorization", "").removeprefix("Bearer ")
                self._send(401, {"error": f"Unauthorized: {seen}"})
                return False
            return True

        def _complete(self, body: dict[str, Any]) -> None:
            time.sleep(server.latency)
            if server.redirect is not None:
                self._send(307, {}, {"Location": server.redirect})
                return
            if server.body is not None:
                self._raw(*server.body, "application/json")
                return
            try:
                answer = server.complete(body)
            except BadRequest as problem:
                error = {"message": str(problem), "type": problem.kind, "param": problem.parameter}
                self._send(problem.status, {"error": {**error, "code": problem.status}})
                return
            match server.fault(body):
                case None:
                    self._send(200, answer)
                case "429":
                    self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"})
                case "400" | "403" as status:
                    self._send(int(status), {"error": {"message": "content not allowed"}})
                case "500" | "503" as status:
                    self._send(int(status), {"error": {"message": "upstream trouble"}})
                case "reset":
                    # an RST instead of a normal end
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                case "hang":
                    time.sleep(HANG)
                    self.close_connection = True
                case "truncated":
                    self._raw(200, json.dumps(answer).encode()[: len(json.dumps(answer)) // 2], "application/json")
                case "html":
                    self._raw(200, b"<!doctype html><title>Gateway</title><p>Please sign in", "text/html")

        def _send(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            self._raw(status, json.dumps(value).encode(), "application/json", headers)

        def _raw(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
