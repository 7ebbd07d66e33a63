"""A loopback server with the part of Argilla's API that Marginalia uses, whose replies a test can replace.

with FakeArgilla() as server:
    run = server.run(tmp_path, monkeypatch)      # a run folder whose annotation.url is this server
    server.answer("r1", "ann", labels=["a"])     # what an annotator submits
    server.replace["GET", "/users"] = lambda reply: {"items": None}
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.annotation.runs import SimulatedRun, make_run

OWNER_ID = "00000000-0000-4000-8000-000000000001"
USERS = ("owner", "ann", "ben", "eva")


class FakeArgilla:
    """Serves on a free port. `replace`: by method and end of the path, a function from the true reply to the one that
    is sent (bytes are sent as they are). `calls` lists method and path of every call; `before` is called with both."""

    def __init__(self) -> None:
        self.replace: dict[tuple[str, str], Callable[[Any], Any]] = {}
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.calls: list[tuple[str, str]] = []
        self.workspaces: dict[str, list[str]] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.records: dict[str, list[dict[str, Any]]] = {}
        self._ids = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def run(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> SimulatedRun:
        """A run whose Argilla is this server."""
        monkeypatch.setenv("ARGILLA_API_KEY", "a-key")
        annotation = {"url": self.url, **options.pop("annotation", {})}
        return make_run(folder / "run", folder / "no-home", self.url, annotation=annotation, **options)

    def answer(self, record_id: str, username: str, *, dataset: int = 0, **parts: Any) -> dict[str, Any]:
        """Adds or replaces an answer and returns it. `parts`: values by question, or `status`, `updated_at`,
        `user_id`."""
        record = next(item for item in self.records_of(dataset) if item["external_id"] == record_id)
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        response = {"user_id": f"id-of-{username}", "status": "submitted", "updated_at": now}
        response |= {name: parts.pop(name) for name in list(parts) if name in response}
        response["values"] = {name.replace("_", "-"): {"value": value} for name, value in parts.items()}
        others = [item for item in record["responses"] if item["user_id"] != response["user_id"]]
        record["responses"] = [*others, response]
        record["updated_at"] = now
        return response

    def delete_record(self, record_id: str) -> None:
        """What somebody does in Argilla's UI."""
        records = self.records_of(0)
        records[:] = [record for record in records if record["external_id"] != record_id]

    def records_of(self, at: int) -> list[dict[str, Any]]:
        """The records of the dataset that was created as the `at`-th, from 0."""
        return self.records[list(self.datasets)[at]]

    def new_id(self) -> str:
        """An id that is not in use."""
        self._ids += 1
        return f"id-{self._ids}"

    def reply(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The reply of a healthy Argilla; None where it has no body."""
        match method, path.split("/")[1:]:
            case "GET", ["me"]:
                return {"id": OWNER_ID, "username": "owner", "role": "owner"}
            case "GET", ["status"]:
                return {"search_engine": {"name": "sqlite", "answers_touch_records": True}}
            case "GET", ["users"]:
                return {"items": [{"id": f"id-of-{name}", "username": name} for name in USERS]}
            case "GET", ["me", "workspaces"]:
                return {"items": [{"id": f"w-{name}", "name": name} for name in self.workspaces]}
            case "POST", ["workspaces"]:
                self.workspaces[body["name"]] = []
                return {"id": f"w-{body['name']}", "name": body["name"]}
            case "GET", ["workspaces", workspace, "users"]:
                members = self.workspaces[workspace.removeprefix("w-")]
                return {"items": [{"id": f"id-of-{name}", "username": name} for name in members]}
            case "POST", ["workspaces", workspace, "users"]:
                self.workspaces[workspace.removeprefix("w-")].append(body["user_id"].removeprefix("id-of-"))
                return {}
            case "GET", ["me", "datasets"]:
                wanted = query.get("workspace_id")
                found = [item for item in self.datasets.values() if wanted in (None, item["workspace_id"])]
                return {"items": found}
            case "POST", ["datasets"]:
                dataset = {**body, "id": self.new_id(), "status": "draft", "questions": []}
                self.datasets[dataset["id"]], self.records[dataset["id"]] = dataset, []
                return dataset
            case _, ["datasets", dataset_id, *rest]:
                return self._of_dataset(method, dataset_id, rest, query, body)
        raise AssertionError((method, path))

    def _of_dataset(self, method: str, dataset_id: str, rest: list[str], query: dict[str, str], body: Any) -> Any:
        dataset, records = self.datasets[dataset_id], self.records[dataset_id]
        match method, rest:
            case "POST", ["fields"]:
                return {"id": self.new_id()}
            case "POST", ["questions"]:
                dataset["questions"].append({**body, "id": self.new_id()})
                return {"id": dataset["questions"][-1]["id"]}
            case "PUT", ["publish"]:
                dataset["status"] = "ready"
                return dataset
            case "DELETE", []:
                del self.datasets[dataset_id], self.records[dataset_id]
                return {}
            case "PATCH", []:
                dataset.update(body)
                return dataset
            case "GET", ["questions"]:
                return {"items": dataset["questions"]}
            case "GET", ["progress"]:
                return {"total": len(records), "completed": 0, "pending": len(records)}
            case "GET", ["users", "progress"]:
                users = {response["user_id"] for record in records for response in record["responses"]}
                return {"users": [_progress(user, records) for user in sorted(map(str, users))]}
            case "PUT", ["records", "bulk"]:
                for item in body["items"]:
                    same = [record for record in records if record["external_id"] == item["external_id"]]
                    if same:
                        same[0]["fields"] = item["fields"]
                    else:
                        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
                        records.append({**item, "id": self.new_id(), "responses": [], "updated_at": now})
                return {}
            case "GET", ["records"]:
                return {"items": _page(records, query), "total": len(records)}
            case "POST", ["records", "search"]:
                since = body["filters"]["and"][0]["ge"].split("+")[0]
                found = [record for record in records if record["updated_at"] >= since]
                return {"items": [{"record": record} for record in _page(found, query)], "total": len(found)}
        raise AssertionError((method, dataset_id, rest))


def _page(records: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    offset, limit = int(query["offset"]), int(query["limit"])
    return records[offset : offset + limit]


def _progress(user: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    given = [item for record in records for item in record["responses"] if str(item["user_id"]) == user]
    return {"username": user.removeprefix("id-of-"), "pending": {"submitted": len(given)}}


def _handler(server: FakeArgilla) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix("/api/v1")
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            text = self.rfile.read(int(self.headers.get("content-length") or 0))
            server.calls.append((self.command, path))
            server.before(self.command, path)
            replacement = next(
                (
                    replace
                    for (method, end), replace in server.replace.items()
                    if method == self.command and path.endswith(end)
                ),
                None,
            )
            reply = server.reply(self.command, path, query, json.loads(text) if text else None)
            if replacement is not None:
                reply = replacement(reply)
            self.send(reply if isinstance(reply, bytes) else json.dumps(reply).encode())

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do

        def send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that has given up
                super().handle()

    return Handler
