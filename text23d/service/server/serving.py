"""A server from its beginning to its end."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import FrameType

import uvicorn
from sqlalchemy.engine import URL
from uvicorn.protocols.http.h11_impl import H11Protocol

from text23d.engine.folder import claimed
from text23d.errors import UserError
from text23d.service.server.app import Desk, make_app
from text23d.service.server.database import sqlite
from text23d.service.server.media import read_media
from text23d.service.server.options import ServerOptions, read_tokens
from text23d.service.server.pool import Pool, Workers, posts
from text23d.service.server.store import Store
from text23d.service.server.worker import say

PATIENCE = 20.0
"""Seconds in which the head of a request has to arrive."""
HEAD = 16_384
"""Bytes of it."""
GRACE = 5
"""Seconds that requests have when the server ends."""


def serve(options: ServerOptions) -> None:
    """Serve until a signal comes; then jobs that run are interrupted, and go on when the server does. Raises UserError
    for options that do not serve, where the address is taken, and where another server has the folder."""
    tokens, media = read_tokens(options), read_media(options.media)
    folder = Path(options.folder).absolute()
    with claimed(folder), listening(options) as sock:
        root = folder / "jobs"
        root.mkdir(exist_ok=True)
        store = Store(url_of(options, folder), options.limits.of_store)
        if options.database is None and options.workers != "ray":
            store.abandon(None)  # the database is this folder's: all that an earlier server's workers held is lost
        desk = Desk(options, media, tokens, store, root, workers_of(options, store, root))
        config = uvicorn.Config(
            make_app(desk), http=Impatient, ws="none", lifespan="on", log_level="warning", access_log=False,
            server_header=False, proxy_headers=False, h11_max_incomplete_event_size=HEAD,
            timeout_keep_alive=15, timeout_graceful_shutdown=GRACE,
        )  # fmt: skip
        host, port = sock.getsockname()[:2]
        address = f"[{host}]" if ":" in host else host
        say(f"http://{address}:{port} serves {', '.join(media)} with {told_workers(options)}, from {folder}")
        Server(config, desk).run(sockets=[sock])


def told_workers(options: ServerOptions) -> str:
    number = options.ray.workers if options.workers == "ray" else options.workers
    where = " through Ray" if options.workers == "ray" else ""
    return f"{number} worker{'s' if number != 1 else ''}{where}"


def url_of(options: ServerOptions, folder: Path) -> str | URL:
    return sqlite(folder / "jobs.sqlite") if options.database is None else options.database


def workers_of(options: ServerOptions, store: Store, root: Path) -> Workers:
    """Raises UserError for Ray where it is not installed, or cannot share what lies on this machine alone."""
    if options.workers != "ray":
        return Pool(posts(options, store, root), store)
    from text23d.service.server.ray_pool import RayPool

    return RayPool(options, store, root)


def listening(options: ServerOptions) -> socket.socket:
    """A socket at the address. Raises UserError where it cannot be had."""
    said = f"server.host={options.host} server.port={options.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(512)
    except OSError as error:
        raise UserError(f"{said}: {error.strerror or error}; choose another port or address") from error
    return sock


class Server(uvicorn.Server):
    """Ends the streams as soon as a signal comes: uvicorn would wait for them."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.desk.live.close)
        super().handle_exit(sig, frame)


class Impatient(H11Protocol):
    """Closes connections on which no whole head of a request arrives."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(PATIENCE, self.close_if_idle)

    def close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
