"""What every request goes through: whose name it was sent to, how long it may be, what browsers are told, the log."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from text23d.service.server.figures import Figures

PATIENCE = 20.0
"""Seconds in which a request has to arrive as a whole."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
SAFE = ("GET", "HEAD", "OPTIONS")
SIZE, OLD = 10_000_000, 5
"""Bytes of an access log, and how many older ones are kept."""


class Refused(Exception):
    """The request is refused with this status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Guard:
    """The outermost of the application. hosts: the names in `Host` that are answered to; empty: any. body: bytes of a
    request, at most."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str], body: int, figures: Figures, log: logging.Logger | None = None
    ) -> None:
        self.app, self.hosts, self.body, self.figures, self.log = app, hosts, body, figures, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, written = time.monotonic(), 0, 0

        async def answer(message: Message) -> None:
            nonlocal status, written
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message.get("headers", [])}
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                if b"cache-control" not in given:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message.get("headers", []), *more]}
            written += len(message.get("body", b""))
            await send(message)

        try:
            self.check(scope)
            body = await self.whole(scope, receive)
            await self.app(scope, replayed(body, receive), answer)
        except Refused as refused:
            await JSONResponse({"detail": refused.detail}, refused.status)(scope, receive, answer)
        except ConnectionError:  # it is gone
            status = status or 499
        finally:
            self.note(scope, status or 500, time.monotonic() - begun, written)

    def check(self, scope: Scope) -> None:
        """Raises Refused for a request that was sent to another name than ours, as a page that has its own name point
        here would have it, and for one that another site's page sends."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts and name_of(host) not in self.hosts:
            raise Refused(421, f"this server is not called so: ask for {' or '.join(sorted(self.hosts))}")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and scope["method"] not in SAFE and netloc_of(origin) != host.lower():
            raise Refused(403, "the request comes from another site's page")

    async def whole(self, scope: Scope, receive: Receive) -> bytes:
        """The body. Raises Refused where it is too long or takes too long, and ConnectionError where it breaks off."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = Refused(413, f"the request is longer than {self.body} bytes")
        if not declared.isdigit() or int(declared[:20]) > self.body:
            raise too_long
        body, more = b"", True
        try:
            until = asyncio.get_running_loop().time() + PATIENCE
            while more:
                left = until - asyncio.get_running_loop().time()
                message = await asyncio.wait_for(receive(), max(0.01, left))
                if message["type"] == "http.disconnect":
                    raise ConnectionResetError
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > self.body:
                    raise too_long
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise Refused(408, f"the request did not arrive within {PATIENCE:g} s") from error
        return body

    def note(self, scope: Scope, status: int, seconds: float, written: int) -> None:
        """One line of the access log, and the figures."""
        route = getattr(scope.get("route"), "path", None) or "none"
        method = scope["method"] if scope["method"] in (*SAFE, "POST", "DELETE", "PUT", "PATCH") else "other"
        if not route.endswith("/events"):
            self.figures.requested(method, route, status, seconds)
        if self.log is not None:
            client = scope.get("client") or ("", 0)
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "address": client[0],
                "client": scope.get("state", {}).get("client"), "method": scope["method"][:20],
                "path": scope["path"][:300], "status": status, "ms": round(1000 * seconds), "bytes": written,
            }  # fmt: skip
            self.log.info(json.dumps(line))


def replayed(body: bytes, receive: Receive) -> Receive:
    """What receives a body that has been received already, and then what follows."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def name_of(host: str) -> str:
    """The name in a header `Host`, without its port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name.strip("[]").lower()


def netloc_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def access_log(path: Path) -> logging.Logger:
    """The log of all requests, a JSON object a line, in a file that begins anew when it is long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=SIZE, backupCount=OLD, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.Logger("text23d.access")  # its own: nothing of Hydra's logging reaches it
    log.addHandler(handler)
    return log
