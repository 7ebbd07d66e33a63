"""An OpenAI-compatible server on loopback that needs very little time itself: one process, one asyncio protocol, a
fixed latency.

    with LoopbackLLM(latency=0.2) as server: … server.url

The answer depends on the request alone: a sentence of invented words, drawn by the hash of the body."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_SYLLABLES = [
    first + second for first in ("ba", "de", "fi", "go", "lu", "me", "no", "ri", "su", "ta") for second in "klmnprst"
]


class LoopbackLLM:
    """The server, in a separate process on 127.0.0.1; `latency` in seconds."""

    def __init__(self, *, latency: float) -> None:
        self._latency = latency

    def __enter__(self) -> Self:
        command = [sys.executable, str(Path(__file__).resolve()), str(self._latency)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._process.communicate()  # closes its input, which ends it


class _Connection(asyncio.Protocol):
    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = bytearray()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (head := self.received.find(b"\r\n\r\n")) >= 0:
            start = self.received.lower().find(b"content-length:", 0, head)
            length = int(self.received[start + 15 : self.received.find(b"\r\n", start)]) if start >= 0 else 0
            if len(self.received) < head + 4 + length:
                return
            body = bytes(self.received[head + 4 : head + 4 + length])
            del self.received[: head + 4 + length]
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self.answer, body)
            else:
                self.answer(body)

    def answer(self, request: bytes) -> None:
        digest = hashlib.sha256(request).digest()
        digest += hashlib.sha256(digest).digest()
        syllables = [_SYLLABLES[byte % len(_SYLLABLES)] for byte in digest]
        words = ["".join(syllables[start : start + 2]) for start in range(0, len(syllables), 2)]
        text = f"Please help me with the {' '.join(words)} of my order."
        body = json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": "loopback",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
                ],
                "usage": {"prompt_tokens": len(request) // 4, "completion_tokens": 24},
            }
        ).encode()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


async def _serve(latency: float) -> None:
    _Connection.latency = latency
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent closes it or ends


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
