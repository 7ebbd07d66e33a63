"""A loopback OpenAI-compatible server whose answers depend only on the request, with faults on demand.

    with OpenAIServer(faults={"500": 0.1, "reset": 0.1}) as server: … server.url, server.calls

A fault is drawn from a hash of the request and of how often the same request was sent before. So it does not depend on
time or on the order of calls, and a retried call has a new chance."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

FAULTS = ("429", "500", "503", "reset", "hang", "truncated", "html")
_THINGS = (
    *("kettle", "jacket", "lamp", "blanket", "charger", "sofa", "drill", "basket", "printer", "candle", "mirror"),
    *("bicycle", "teapot", "rucksack", "carpet", "speaker", "bookshelf", "umbrella", "saucepan", "notebook", "hammock"),
)
_HAPPENED = (
    "arrived with a deep scratch on one side",
    "never came although the courier says otherwise",
    "was charged twice on my bank statement",
    "does not fit through our narrow front door",
    "smells strange whenever I switch it on",
    "cost less on your page the very next morning",
    "stopped working after the second weekend",
    "came without the screws and the little manual",
    "looks nothing like the colour in the picture",
    "was left outside in the pouring rain",
    "made my neighbour laugh out loud",
    "keeps falling over when the cat walks past",
)
_WISHES = (
    "please tell me what I should do about it",
    "could somebody finally call my sister back",
    "I would like to hear from you before Friday",
    "who do I have to write to next",
    "my company needs a paper for the tax office",
    "send me another one or pay me back",
    "nobody has replied to my earlier letters",
    "I am travelling from Monday and cannot wait",
    "is there a shop near the old harbour",
    "my password does not let me look it up",
    "the voucher in the newsletter was refused too",
    "I wonder whether others had the same trouble",
)

Answer = Callable[[dict[str, Any]], str]


def written(payload: dict[str, Any]) -> str:
    """An English text that depends on every part of the request."""
    draw = random.Random(request_hash(payload))
    first, second = draw.sample(_THINGS, 2)
    return (
        f"The {first} from order {draw.randrange(1000, 9999)} {draw.choice(_HAPPENED)}, and the {second} "
        f"{draw.choice(_HAPPENED)}; {draw.choice(_WISHES)}, {draw.choice(_WISHES)}."
    )


def request_hash(payload: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


class OpenAIServer:
    """Serves /v1/chat/completions and /v1/models on 127.0.0.1, from its own thread.

    - `faults`: name of FAULTS → rate.
    - `status`: answers every call with this HTTP status. `body`: with these bytes and status 200. `raw`: with these
      bytes as head and body, or with those that a function of the request returns (None: the usual answer); then the
      connection ends, unless `keep_open`.
    - `latency`: seconds per answer, or a function of the request."""

    def __init__(
        self,
        *,
        answer: Answer = written,
        faults: dict[str, float] | None = None,
        status: int | None = None,
        error: dict[str, Any] | None = None,
        body: bytes | None = None,
        raw: bytes | Callable[[dict[str, Any]], bytes | None] | None = None,
        keep_open: bool = False,
        latency: float | Callable[[dict[str, Any]], float] = 0.0,
        retry_after: str = "0.01",
        finish_reason: str = "stop",
        usage: Any = "count",
    ) -> None:
        self.faults = faults or {}
        assert set(self.faults) <= set(FAULTS)
        self.requests: list[dict[str, Any]] = []  # bodies of all calls, in order of arrival
        self.authorizations: list[str] = []
        self.heads: list[str] = []  # request lines and headers
        self.answered = 0
        self.most_in_flight = 0
        self.in_flight = 0
        self._answer, self._status, self._error, self._body = answer, status, error, body
        self._raw, self._keep_open = raw, keep_open
        self._latency, self._retry_after = latency, retry_after
        self._finish_reason, self._usage = finish_reason, usage
        self._times: Counter[str] = Counter()
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.Task[Any]]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="openai-server", daemon=True)
        self._up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def calls(self) -> int:
        return len(self.requests)

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(RuntimeError):  # it has already stopped
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def die(self) -> None:
        """Closes the socket and all connections. For functions that the server calls: `answer` and `latency`."""
        self._stopping.set()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._stopping.wait()
        server.close()
        for writer, _ in self._connections:
            writer.transport.abort()
        await asyncio.gather(*(task for _, task in self._connections))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add((writer, task))
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._connections.discard((writer, task))

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handles one request. False if the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.strip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        if request_line.split()[1].partition("?")[0] != "/v1/chat/completions":
            models = {"object": "list", "data": [{"id": "test-model", "object": "model"}]}
            return await self._send(writer, 200, json.dumps(models).encode())
        payload = json.loads(data)
        self.requests.append(payload)
        self.heads.append(head)
        self.authorizations.append(headers.get("authorization", ""))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._complete(payload, writer)
        finally:
            self.in_flight -= 1

    async def _complete(self, payload: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        latency = self._latency(payload) if callable(self._latency) else self._latency
        await asyncio.sleep(latency)
        if self._status is not None:
            error = self._error or {"message": f"refused with {self._status}", "type": "error", "code": None}
            return await self._send(writer, self._status, json.dumps({"error": error}).encode())
        raw = self._raw(payload) if callable(self._raw) else self._raw
        if raw is not None:
            writer.write(raw)
            await writer.drain()
            if self._keep_open:
                await self._stopping.wait()
            return False
        if self._body is not None:
            return await self._send(writer, 200, self._body)
        answer = self._completion(payload)
        match self._fault(payload):
            case "429":
                wait = {"Retry-After": self._retry_after}
                return await self._send(writer, 429, b'{"error": {"message": "slow down"}}', headers=wait)
            case "500" | "503" as status:
                return await self._send(writer, int(status), b"upstream trouble", kind="text/plain")
            case "reset":
                writer.transport.abort()
                return False
            case "hang":
                await self._stopping.wait()
                return False
            case "truncated":
                return await self._send(writer, 200, answer[: len(answer) // 2])
            case "html":
                page = b"<!doctype html><title>Gateway</title><p>Please sign in"
                return await self._send(writer, 200, page, kind="text/html")
        self.answered += 1
        return await self._send(writer, 200, answer)

    def _fault(self, payload: dict[str, Any]) -> str | None:
        identity = request_hash(payload)
        self._times[identity] += 1
        draw = random.Random(f"{identity}:{self._times[identity]}").random()
        for name, rate in self.faults.items():
            draw -= rate
            if draw < 0:
                return name
        return None

    def _completion(self, payload: dict[str, Any]) -> bytes:
        text = self._answer(payload)
        prompt = sum(len(message["content"].split()) for message in payload["messages"])
        usage = (
            {"prompt_tokens": prompt, "completion_tokens": len(text.split())} if self._usage == "count" else self._usage
        )
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": payload["model"]}
        return json.dumps({**body, "choices": [choice], "usage": usage}).encode()

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes,
        *,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> bool:
        lines = {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        writer.write(head.encode("latin-1") + body)
        await writer.drain()
        return True
