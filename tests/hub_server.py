"""A loopback server with the calls of the Hugging Face Hub that a data set needs: create, settings, info, preupload,
LFS upload, commit, history, tree and download. Tests can set faults for each call."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopbackWriteToken000000000000000000"
DATE = "2026-11-01T12:00:00.000Z"


@dataclass
class Commit:
    id: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repository:
    private: bool
    gated: str | bool = False
    commits: list[Commit] = field(default_factory=list)

    def add(self, title: str, files: dict[str, bytes]) -> Commit:
        seed = f"{len(self.commits)}:{title}:{sorted(files)}"
        self.commits.append(Commit(hashlib.sha1(seed.encode()).hexdigest(), title, files))
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.id == revision), None)


class HubServer:
    """State of the server. `calls` lists (method, call) in order, such as ("POST", "commit").

    `faults[call]` lists the faults of the next calls of that name. An HTTP status is answered without doing the work;
    "lost" does the work and closes the connection; "hang" does the work and never answers; "late" hangs first and does
    the work afterwards. A dictionary is merged into the answer, a list
    replaces it. Files whose names end with `lfs` are uploaded on
    their own, as the Hub wants it of large ones."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.calls: list[tuple[str, str]] = []
        self.faults: dict[str, list[int | str | list[Any] | dict[str, Any]]] = {}
        self.lfs: tuple[str, ...] = ()
        self.uploaded: dict[str, bytes] = {}
        self.authorizations: set[str | None] = set()
        self.released = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def create(self, repo_id: str, *, private: bool = True, files: dict[str, bytes] | None = None) -> Repository:
        repository = Repository(private)
        repository.add("initial commit", {".gitattributes": b"", **(files or {})})
        self.repositories[repo_id] = repository
        return repository

    def count(self, call: str) -> int:
        return sum(name == call for _, name in self.calls)

    @contextmanager
    def running(self) -> Iterator[HubServer]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()


ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("PUT", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/settings", "settings"),
    ("POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "upload"),
    ("POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
    ("GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/commits/(?P<revision>[^/]+)", "commits"),
    ("GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)", "paths"),
    ("GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?", "info"),
    ("GET", r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "file"),
]


def _handler(server: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.serve("GET")

        def do_HEAD(self) -> None:
            self.serve("GET")

        def do_POST(self) -> None:
            self.serve("POST")

        def do_PUT(self) -> None:
            self.serve("PUT")

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def serve(self, method: str) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            for route_method, pattern, name in ROUTES:
                match = re.fullmatch(pattern, unquote(url.path))
                if match and route_method == method:
                    server.calls.append((self.command, name))
                    server.authorizations.add(self.headers.get("authorization"))
                    self.answer_call(name, match.groupdict(), parse_qs(url.query), body)
                    return
            self.answer(404, {"error": f"no such call: {method} {url.path}"})

        def answer_call(self, name: str, groups: dict[str, str], query: dict[str, list[str]], body: bytes) -> None:
            faults = server.faults.get(name)
            fault = faults.pop(0) if faults else None
            if isinstance(fault, int):
                self.answer(fault, {"error": "set by the test"})
            elif fault == "late":
                server.released.wait(60)
            elif self.headers.get("authorization") != f"Bearer {TOKEN}" and name not in ("validate", "upload"):
                self.answer(401, {"error": "Invalid username or password."})
            else:
                status, value, headers = getattr(self, f"on_{name}")(groups, query, body)
                if fault == "hang":
                    server.released.wait(60)
                if fault in ("lost", "hang"):
                    self.close_connection = True
                    return
                if isinstance(fault, dict):
                    value = {**value, **fault}
                self.answer(status, fault if isinstance(fault, list) else value, headers)

        def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if not isinstance(value, bytes):
                self.send_header("Content-Type", "application/json")
            for key, text in (headers or {}).items():
                self.send_header(key, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def on_create(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            url = f"{server.url}/datasets/{name}"
            if name in server.repositories:
                return 409, {"error": "You already created this dataset repo", "url": url}, {}
            server.create(name, private=request["visibility"] == "private")
            return 200, {"url": url, "name": name}, {}

        def on_validate(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            return 200, {"warnings": [], "errors": []}, {}

        def on_settings(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            server.repositories[groups["repo"]].gated = json.loads(body)["gated"]
            return 200, {}, {}

        def on_preupload(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            head = server.repositories[groups["repo"]].commits[-1]
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(server.lfs) else "regular",
                    "shouldIgnore": False,
                    "oid": blob_id(head.files[file["path"]]) if file["path"] in head.files else None,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}, {}

        def on_batch(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            objects = [
                {**item, "actions": {"upload": {"href": f"{server.url}/lfs/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}, {}

        def on_upload(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            server.uploaded[groups["oid"]] = body
            return 200, {}, {}

        def on_commit(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            repository = server.repositories[groups["repo"]]
            lines = [json.loads(line) for line in body.splitlines()]
            header = lines[0]["value"]
            if header.get("parentCommit") not in (None, repository.commits[-1].id):
                return 412, {"error": "A commit has happened since. Please refresh and try again."}, {}
            files = dict(repository.commits[-1].files)
            for line in lines[1:]:
                if line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
                elif line["key"] == "lfsFile":
                    files[line["value"]["path"]] = server.uploaded[line["value"]["oid"]]
                else:
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = repository.add(header["summary"], files)
            url = f"{server.url}/datasets/{groups['repo']}/commit/{commit.id}"
            return 200, {"success": True, "commitOid": commit.id, "commitUrl": url}, {}

        def on_commits(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            commits = reversed(server.repositories[groups["repo"]].commits)
            entries = [{"id": c.id, "title": c.title, "message": "", "authors": [], "date": DATE} for c in commits]
            return 200, entries, {}

        def on_tree(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            commit, missing = self.commit(groups)
            if commit is None:
                return missing
            folder = f"{groups['path']}/" if groups["path"] else ""
            paths = [path for path in sorted(commit.files) if path.startswith(folder)]
            folders = sorted({path.rsplit("/", 1)[0] for path in paths if "/" in path[len(folder) :]})
            if folder and not paths:
                return 404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound"}
            entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders]
            return 200, [*entries, *(self.entry(path, commit.files[path]) for path in paths)], {}

        def on_paths(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            commit, missing = self.commit(groups)
            if commit is None:
                return missing
            paths = json.loads(body)["paths"]
            return 200, [self.entry(path, commit.files[path]) for path in paths if path in commit.files], {}

        def on_info(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            commit, missing = self.commit(groups)
            if commit is None:
                return missing
            repository = server.repositories[groups["repo"]]
            info = {
                "id": groups["repo"],
                "sha": commit.id,
                "private": repository.private,
                "gated": repository.gated,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "lastModified": DATE,
                "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            }
            return 200, info, {}

        def on_file(self, groups: dict[str, str], query: Any, body: bytes) -> tuple[int, Any, dict[str, str]]:
            commit, missing = self.commit(groups)
            if commit is None:
                return missing
            if groups["path"] not in commit.files:
                return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.id}
            data = commit.files[groups["path"]]
            return 200, data, {"ETag": f'"{blob_id(data)}"', "X-Repo-Commit": commit.id, "Accept-Ranges": "none"}

        def commit(self, groups: dict[str, str]) -> tuple[Commit | None, tuple[int, Any, dict[str, str]]]:
            repository = server.repositories.get(groups["repo"])
            if repository is None:
                return None, (404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            commit = repository.at(groups.get("revision") or "main")
            return commit, (404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})

        @staticmethod
        def entry(path: str, data: bytes) -> dict[str, Any]:
            return {"type": "file", "oid": blob_id(data), "size": len(data), "path": path}

    return Handler


def blob_id(data: bytes) -> str:
    """Git's id of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
