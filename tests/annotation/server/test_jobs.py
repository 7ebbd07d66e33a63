"""Argilla's job queue, tested with webhooks, which make a job for every answer: jobs run, and failed ones are
logged."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue

import httpx

from tests.annotation.server.rest import LABELS, Dataset, post, respond
from tests.argilla_fixture import free_port


@contextmanager
def webhook(owner: httpx.Client, port: int) -> Iterator[None]:
    body = {"url": f"http://127.0.0.1:{port}/", "events": ["response.created"]}
    created = post(owner, "/webhooks", body)
    try:
        yield
    finally:
        owner.delete(f"/webhooks/{created['id']}").raise_for_status()


def test_a_job_runs_without_redis(owner: httpx.Client, ann: httpx.Client, new_dataset: Callable[..., Dataset]) -> None:
    dataset = new_dataset(["a"])
    received: Queue[dict[str, object]] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        with webhook(owner, receiver.server_port):
            respond(ann, dataset.records[0], [LABELS[1]])
            event = received.get(timeout=60)
        receiver.shutdown()
    assert event["type"] == "response.created"


def test_a_job_that_fails_is_logged_and_the_answer_is_kept(
    owner: httpx.Client, ann: httpx.Client, new_dataset: Callable[..., Dataset], argilla_home: Path
) -> None:
    dataset = new_dataset(["a"])
    with webhook(owner, free_port()):
        respond(ann, dataset.records[0], [LABELS[1]])
        deadline = time.monotonic() + 60
        while "(notify_event_job) failed, attempt 1 of 4" not in (log := (argilla_home / "server.log").read_text()):
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
    assert "Connection refused" in log
    assert ann.get(f"/me/datasets/{dataset.id}/metrics").json()["responses"]["submitted"] == 1
