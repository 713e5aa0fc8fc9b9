"""The interface: jobs over HTTP, what they show while they run, and the page."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from text23d import __version__
from text23d.service.server import jobs as job_routes
from text23d.service.server import pages
from text23d.service.server.figures import TYPE, Figures
from text23d.service.server.guard import Guard, access_log
from text23d.service.server.live import Live, View
from text23d.service.server.media import Medium
from text23d.service.server.models import Health, Problem
from text23d.service.server.options import ServerOptions, Tokens
from text23d.service.server.pool import Workers
from text23d.service.server.store import Store

TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."}
}
ANYWHERE: dict[int | str, dict[str, Any]] = {
    421: {"model": Problem, "description": "Sent to another name."},
    503: {"model": Problem, "description": "The database is away. `Retry-After` says when to try again, in seconds."},
}
LOCAL = ("localhost", "127.0.0.1", "::1")
ABOUT = """Give a prompt, and watch it become an object, a picture, a panorama, a video or a sound.

A job waits in a queue that is fair between clients, runs in a process of its own, and outlives restarts of the server.
`GET /api/jobs/{id}/events` streams how it goes. Where the server has tokens, give yours as `Authorization: Bearer
<token>`, or get a cookie from `POST /api/session`."""


@dataclass
class Desk:
    """All that routes share. root: of the jobs' folders."""

    options: ServerOptions
    media: dict[str, Medium]
    tokens: Tokens
    store: Store
    root: Path
    workers: Workers
    figures: Figures = field(default_factory=Figures)
    streams: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.view = View(self.store, self.root)
        self.live = Live(self.view)


def names(options: ServerOptions) -> set[str]:
    """The names that the server answers to; empty: any, which tokens and cookies of one name make safe."""
    if not options.is_private and not options.hosts:
        return set()
    own = {options.host.lower(), *(LOCAL if options.is_private else ())}
    return own | {each.lower() for each in options.hosts}


def make_app(desk: Desk) -> Any:
    """The application. Its workers begin when it starts, and have ended when it has."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(tidy, desk)
        await anyio.to_thread.run_sync(desk.workers.start)
        looking = asyncio.create_task(desk.live.look())
        try:
            yield
        finally:
            desk.live.close()
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            await anyio.to_thread.run_sync(desk.workers.stop)

    app = FastAPI(
        title="text23d", version=__version__, description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json", responses=ANYWHERE, redirect_slashes=False,
    )  # fmt: skip
    app.state.desk = desk
    app.include_router(job_routes.router)
    app.include_router(pages.router)
    app.add_api_route("/health", health, methods=["GET"], response_model=Health, tags=["server"])
    app.add_api_route("/metrics", metrics, methods=["GET"], response_class=Response, tags=["server"], responses=TEXT)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, told)
    for each in (OperationalError, InterfaceError, TimeoutError):
        app.add_exception_handler(each, away)
    log = access_log(desk.root.parent / "access.log")
    return Guard(app, names(desk.options), desk.options.limits.body, desk.figures, log)


def tidy(desk: Desk) -> None:
    """Take away what is left of jobs that were deleted: a server may have been killed over it. A folder of which the
    database knows nothing stays: the database may be another."""
    for folder in desk.root.glob(f"{job_routes.GONE}*"):
        shutil.rmtree(folder, ignore_errors=True)


def health(request: Request) -> Health:
    """Whether the server works: whether it has workers and a database."""
    desk: Desk = request.app.state.desk
    alive = desk.workers.alive
    jobs: Any = desk.store.counts()
    free, status = shutil.disk_usage(desk.root).free >> 20, "ok" if alive else "no workers"
    return Health(status=status, version=__version__, workers=alive, jobs=jobs, free_mb=free)  # type: ignore[arg-type]


def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    desk: Desk = request.app.state.desk
    return Response(desk.figures.text(desk.store.counts(), desk.workers.alive), media_type=TYPE)


async def invalid(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a request, in one line."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(each) for each in first["loc"] if each not in ("body", "query", "path"))
    text = str(first["msg"]).removeprefix("Value error, ")
    said = f"{where}: {text}" if where else text
    return JSONResponse({"detail": said.encode("ascii", "backslashreplace").decode()[:500]}, 422)


async def told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=dict(error.headers or {}))


async def away(request: Request, error: Exception) -> Response:
    """The database does not answer, or nobody may write to it for too long."""
    return JSONResponse({"detail": "the database is away: try again later"}, 503, headers={"Retry-After": "10"})
