"""The demo's LLM endpoint: an OpenAI-compatible server on this machine over the bundled SmolLM2-135M-Instruct.

    with start(cache) as endpoint: …  endpoint.url, endpoint.model
    python -m marginalia.pipeline.generation.endpoint.bundled_llm_server CACHE          the same in the foreground

Routes: GET /v1/models, POST /v1/chat/completions (one choice, not streamed; temperature, top_p, seed, max_tokens).
The same request with a seed always gets the same answer. `response_format` is taken and has no effect, as with most
small servers; answers are free text."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self

import httpx2
from pydantic import BaseModel, Field

from marginalia.schemas.errors import ServiceError
from marginalia.schemas.http_client import ExchangeLimits, client
from marginalia.scoring.models.bundled_model import NAME, bundled_smollm2

if TYPE_CHECKING:
    from fastapi import FastAPI

    from marginalia.pipeline.generation.endpoint.batched_decoding import BatchedDecoder

HOST = "127.0.0.1"
START_SECONDS = 180.0  # the first start converts the model
THREADS = 2


class ChatMessage(BaseModel):
    """One message of a chat, as the OpenAI API has it."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    """The part of OpenAI's request that has an effect here; other keys are passed over, as servers do."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    n: Literal[1] = 1
    stream: Literal[False] = False


def application(lanes: BatchedDecoder) -> FastAPI:
    """The routes over a loaded model."""
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    from marginalia.pipeline.generation.endpoint.batched_decoding import CONTEXT_TOKENS, Sampling

    app = FastAPI(title="demo LLM endpoint")

    def refused(message: str, code: str | None = None, status: int = 400) -> JSONResponse:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        return JSONResponse({"error": error}, status_code=status)

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return refused(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    app.add_exception_handler(RequestValidationError, on_invalid)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "local"}]}

    async def complete(request: ChatRequest) -> Any:
        if request.model != NAME:
            return refused(f"no model '{request.model}'; this server has '{NAME}'", "model_not_found", 404)
        ids = lanes.encode([message.model_dump() for message in request.messages])
        wanted = request.max_completion_tokens or request.max_tokens
        room = CONTEXT_TOKENS - len(ids)
        if room < 1 or (wanted or 1) > room:
            message = f"{len(ids)} prompt tokens and {wanted or 1} to write; this model holds {CONTEXT_TOKENS}"
            return refused(message, "context_length_exceeded")
        sampling = Sampling(wanted or room, request.temperature, request.top_p, request.seed)
        done = await asyncio.wrap_future(lanes.submit(ids, sampling))
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": NAME,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": done.text},
                    "finish_reason": done.finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": done.prompt_tokens,
                "completion_tokens": done.completion_tokens,
                "total_tokens": done.prompt_tokens + done.completion_tokens,
            },
        }

    app.post("/v1/chat/completions", response_model=None)(complete)
    return app


@dataclass
class BundledServer:
    """A running server. It ends with `stop`, with the `with` block, or with this process, however that dies."""

    url: str
    model: str
    log: Path
    _process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ends the server and waits for it. May be called twice."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def start(cache: Path, *, port: int = 0, log: Path | None = None) -> BundledServer:
    """Starts the server as a child process on 127.0.0.1 and waits until it answers.

    `cache` is the folder for the converted model, `log` the server's log (in `cache` by default). Port 0
    takes a free one. Raises ServiceError with the end of the log when it does not come up."""
    cache.mkdir(parents=True, exist_ok=True)
    log = log or cache / "llm-server.log"
    # bound here and handed down: no other process can take the port in between
    listener = socket.create_server((HOST, port))
    url = f"http://{HOST}:{listener.getsockname()[1]}/v1"
    command = [
        sys.executable,
        "-m",
        "marginalia.pipeline.generation.endpoint.bundled_llm_server",
        str(cache),
        "--fd",
        str(listener.fileno()),
    ]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # it answers while other stages compute: its threads do not spin while they wait
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
    }
    with listener, log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            env=environment,
            start_new_session=True,  # Ctrl-C reaches us, and we end the server
        )
    endpoint = BundledServer(url, NAME, log, process)
    try:
        _wait_until_up(endpoint, process)
    except BaseException:
        endpoint.stop()
        raise
    return endpoint


def _wait_until_up(endpoint: BundledServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    with client(ExchangeLimits(seconds=2.0, body_bytes=1_000_000)) as http:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServiceError(
                    f"the demo's LLM server ended at once: {_last_line(endpoint.log)}", hint=f"{endpoint.log}"
                )
            try:
                if http.get(f"{endpoint.url}/models").status_code == 200:
                    return
            except httpx2.HTTPError:
                time.sleep(0.1)
    raise ServiceError(f"the demo's LLM server did not answer in {START_SECONDS:.0f} s", hint=f"{endpoint.log}")


def _last_line(log: Path) -> str:
    lines = log.read_bytes().decode("utf-8", "replace").strip().split("\n")
    return lines[-1] or "no output"


def _end_with_parent(pipe: IO[bytes]) -> None:
    """Ends this process when the other end of `pipe` closes, which the kernel does even for a killed parent."""

    def wait() -> None:
        pipe.read()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main(arguments: list[str] | None = None) -> None:
    """Serves the bundled model until the process is ended."""
    parser = argparse.ArgumentParser(
        prog="python -m marginalia.pipeline.generation.endpoint.bundled_llm_server",
        description="the demo's LLM endpoint",
    )
    parser.add_argument("cache", type=Path, help="folder for the converted model")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--fd", type=int, help="a listening socket handed down by the parent; then it ends with it")
    options = parser.parse_args(arguments)
    if options.fd is not None:
        _end_with_parent(sys.stdin.buffer)

    import torch
    import uvicorn

    from marginalia.pipeline.generation.endpoint.batched_decoding import BatchedDecoder

    torch.set_num_threads(THREADS)
    app = application(BatchedDecoder(bundled_smollm2(options.cache)))
    uvicorn.run(app, host=HOST, port=options.port, fd=options.fd, log_level="warning")


if __name__ == "__main__":
    main()
