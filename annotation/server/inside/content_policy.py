"""A Content-Security-Policy header that limits what annotators' browsers do with Argilla's pages.

Argilla's UI inserts a record's text into the page as HTML, in text fields and chat fields: a script in it would run in
the session of the annotator, and could answer in their name. Records are untrusted: models and unknown people write
them. So the policy allows only the UI's own script files and the inline scripts of its pages, identified by hash;
nothing is fetched from other sites (no tracking images, no web fonts), and no other site may embed the UI in a frame.
"""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


class ContentPolicy:
    """ASGI middleware that adds the header to every response."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.policy = policy(ui_folder(app)).encode("ascii")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self.policy)]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def ui_folder(app: FastAPI) -> Path:
    """The folder that the web UI is served from: a copy that Argilla made at this start."""
    route = next(route for route in app.routes if getattr(route, "name", None) == "static")
    return Path(route.app.directory)


def policy(ui: Path) -> str:
    """The header's value for the pages in `ui`."""
    scripts = {script for page in ui.rglob("*.html") for script in _INLINE_SCRIPT.findall(page.read_text("utf-8"))}
    hashes = sorted(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return "; ".join(
        [
            "default-src 'self'",
            " ".join(["script-src 'self'", *(f"'sha256-{digest}'" for digest in hashes)]),
            "style-src 'self' 'unsafe-inline'",  # the UI sets styles on elements
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        ]
    )
