"""The routes of jobs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.exceptions import HTTPException
from sse_starlette import EventSourceResponse, ServerSentEvent

from text23d.errors import UserError
from text23d.service.server import models
from text23d.service.server.child import PREVIEW
from text23d.service.server.models import FILES, Asked, FileName, Job, Jobs, Media, Session, State, problems
from text23d.service.server.schema import ENDED, RUNNING, Full
from text23d.service.server.sending import opened, send

if TYPE_CHECKING:
    from text23d.service.server.app import Desk

COOKIE, NICKNAME = "text23d_token", "text23d_client"
GONE = ".deleted-"
"""How the folder of a job begins that is being deleted."""
CLIENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
"""What a header `X-Client` may say."""
PING, SLOW = 15, 30.0
"""Seconds between two signs of life of a stream, and those after which a client that takes nothing is let go."""
Identity = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="A job's id.")]
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "Events: `job` (as JSON), `picture` (id and URL of a new one), `deleted` (id).",
    }
}
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "The picture."}
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind.partition(";")[0]: BINARY for kind in FILES.values()}, "description": "The whole file."},
    206: {"description": "The range that was asked for."},
    416: {"description": "There are no such bytes."},
}


def whoever(request: Request) -> str:
    """Who asks: the name of the token; without tokens, what `X-Client` says beside the address. Raises HTTPException
    where a token is wanted and there is none that is known."""
    desk: Desk = request.app.state.desk
    address = request.client.host if request.client else "here"
    if not desk.tokens:
        said = request.headers.get("x-client", "") or request.cookies.get(NICKNAME, "")
        client = f"{address} {said}" if re.fullmatch(CLIENT, said, re.ASCII) else address
    else:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
        known = desk.tokens.client(token)
        if known is None:
            raise HTTPException(401, "give your token: Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"})
        client = known
    request.state.client = client
    return client


Client = Annotated[str, Depends(whoever)]
router = APIRouter(prefix="/api", tags=["jobs"], responses=problems(401, 422))


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def row_of(request: Request, client: str, identity: str) -> dict[str, Any]:
    """The row of a job that the client may see: with tokens, its own. Raises HTTPException."""
    desk = desk_of(request)
    row = desk.store.get(identity)
    if row is None or (desk.tokens and row["client"] != client):
        raise HTTPException(404, f"there is no job {identity}")
    return row


def shown(request: Request, row: dict[str, Any]) -> Job:
    desk = desk_of(request)
    return desk.view.job(row, desk.store.positions() if row["state"] == "queued" else {})


@router.get("/session", tags=["server"])
def session(request: Request, client: Client) -> Session:
    """Who you are to the server."""
    return Session(client=client, token_required=bool(desk_of(request).tokens))


@router.post("/session", tags=["server"], responses=problems(403))
def begin_session(request: Request, response: Response, client: Client) -> Session:
    """Keep the token that was given in a cookie that pages of other sites cannot use, for browsers."""
    desk = desk_of(request)
    if desk.tokens:
        token = request.headers.get("authorization", "").partition(" ")[2].strip()
        if token:
            secure = request.url.scheme == "https"
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, max_age=30 * 86_400)
    return Session(client=client, token_required=bool(desk.tokens))


@router.get("/media")
def media(request: Request, client: Client) -> Media:
    """What may be asked for, and the words for it."""
    desk = desk_of(request)
    told = [
        models.Medium(
            name=each.name,
            iterations=each.iterations,
            words=each.words,
            examples=each.examples,
            settings=list(each.may),
        )
        for each in desk.media.values()
    ]
    return Media(media=told, longest_prompt=desk.options.limits.prompt, most_iterations=desk.options.limits.iterations)


@router.post("/jobs", status_code=202, responses=problems(403, 413, 429))
def submit(request: Request, response: Response, client: Client, asked: Asked) -> Job:
    """Ask for something. The answer tells its place in the queue, and `Location` where to look."""
    desk = desk_of(request)
    try:
        check(desk, asked)
        settings = asked.model_dump(include={"seed", "iterations", "guidance"})
        identity = desk.store.submit(client, asked.medium, asked.prompt, settings)
    except UserError as error:
        raise HTTPException(422, str(error)) from error
    except Full as full:
        raise HTTPException(429, str(full), {"Retry-After": str(full.seconds)}) from full
    desk.figures.submitted[asked.medium] += 1
    anyio.from_thread.run_sync(desk.live.hurry)
    response.headers["Location"] = f"/api/jobs/{identity}"
    return shown(request, row_of(request, client, identity))


def check(desk: Desk, asked: Asked) -> None:
    """Raises UserError for what this server does not make."""
    limits = desk.options.limits
    medium = desk.media.get(asked.medium)
    if medium is None:
        raise UserError(f"medium: there is no {asked.medium} here; ask for one of {', '.join(desk.media)}")
    if len(asked.prompt) > limits.prompt:
        raise UserError(f"prompt: it has {len(asked.prompt)} characters; {limits.prompt} at most")
    if asked.iterations is not None and asked.iterations > limits.iterations:
        raise UserError(f"iterations: {asked.iterations} are too many; {limits.iterations} at most")
    if asked.guidance is not None and "guidance" not in medium.may:
        raise UserError(f"guidance: {medium.name} has none; leave it out")
    medium.check(asked.prompt)


@router.get("/jobs")
def jobs(
    request: Request,
    client: Client,
    state: Annotated[State | None, Query(description="Only these.")] = None,
    after: Annotated[str | None, Query(pattern="^[0-9a-f]{16}$", description="The page after this job.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
) -> Jobs:
    """All jobs, the newest first; where the server has tokens, your own."""
    desk = desk_of(request)
    rows = desk.store.page(client if desk.tokens else None, state, after, limit + 1)
    places = desk.store.positions()
    found = [desk.view.job(row, places) for row in rows[:limit]]
    return Jobs(jobs=found, next=found[-1].id if len(rows) > limit else None)


@router.get("/jobs/{identity}", responses=problems(404))
def job(request: Request, client: Client, identity: Identity) -> Job:
    """A job as it is now."""
    return shown(request, row_of(request, client, identity))


@router.post("/jobs/{identity}/cancel", responses=problems(403, 404))
def cancel(request: Request, client: Client, identity: Identity) -> Job:
    """Stop a job. One that runs stops within seconds, and keeps what it has; one that is over stays as it is."""
    desk = desk_of(request)
    row_of(request, client, identity)
    desk.store.cancel(identity)
    anyio.from_thread.run_sync(desk.live.hurry)
    return shown(request, row_of(request, client, identity))


@router.delete("/jobs/{identity}", status_code=204, responses=problems(403, 404, 409))
def delete(request: Request, client: Client, identity: Identity) -> None:
    """Forget a job and all its files."""
    desk = desk_of(request)
    row = row_of(request, client, identity)
    if row["state"] == RUNNING or not desk.store.delete(identity):
        raise HTTPException(409, "the job is running: cancel it first")
    rubbish = desk.root / f"{GONE}{identity}"
    with suppress(OSError):  # of a job that had not begun
        (desk.root / identity).rename(rubbish)
        shutil.rmtree(rubbish, ignore_errors=True)
    anyio.from_thread.run_sync(desk.live.forget, identity, row["client"])


@router.get("/jobs/{identity}/picture", responses={**problems(404), **PNG}, response_class=Response)
def picture(request: Request, client: Client, identity: Identity) -> Response:
    """The latest picture of a job, from before its first iteration on: PNG."""
    row_of(request, client, identity)
    file = opened(desk_of(request).root / identity / PREVIEW)
    if file is None:
        raise HTTPException(404, "there is no picture of it yet")
    return send(file, "image/png", f"{identity}.png")


@router.get("/jobs/{identity}/files/{name}", responses={**problems(404), **BYTES}, response_class=Response)
def fetch(
    request: Request, client: Client, identity: Identity, name: FileName, range: Annotated[str | None, Header()] = None
) -> Response:
    """A file of a job, as it is now, or a range of its bytes."""
    row_of(request, client, identity)
    file = opened(desk_of(request).root / identity / name)
    if file is None:
        raise HTTPException(404, f"there is no {name} of it yet, or none of its medium")
    return send(file, FILES[name], name, range)


@router.get("/jobs/{identity}/events", responses={**problems(404, 429), **STREAM}, response_class=EventSourceResponse)
async def follow(request: Request, client: Client, identity: Identity, last_event_id: LastEvent = None) -> Response:
    """How a job goes: its state at once, and each change until it is over, when the stream ends."""
    row = await anyio.to_thread.run_sync(row_of, request, client, identity)
    desk = desk_of(request)
    after, number = desk.live.place(last_event_id), desk.live.number
    known, now = desk.live.latest.get(identity), None
    if not after or known is None or known.number > after:
        # Before the stream begins: once it has, nothing can be told of a database that is away.
        now = await anyio.to_thread.run_sync(shown, request, row)

    async def events() -> AsyncIterator[ServerSentEvent]:
        with counted(desk, client):
            teller, last = Teller(), now or (known.job if known else None)
            if now is not None:
                for each in teller.told(f"{desk.live.epoch}-{number}", now):
                    yield each
            if last is not None and last.state in ENDED:
                return
            async for changes in desk.live.changes(after or 0):
                for change in changes:
                    if change.id != identity:
                        continue
                    if change.job is None:
                        yield gone(desk, change.number, identity)
                        return
                    for each in teller.told(f"{desk.live.epoch}-{change.number}", change.job):
                        yield each
                    if change.job.state in ENDED:
                        return

    require_room(desk, client)
    return EventSourceResponse(events(), ping=PING, send_timeout=SLOW)


LastEvent = Annotated[str | None, Header(max_length=40, description="The id of the last event that was received.")]


@router.get("/events", responses={**problems(429), **STREAM}, response_class=EventSourceResponse)
async def follow_all(request: Request, client: Client, last_event_id: LastEvent = None) -> Response:
    """How all jobs go that are not over, or were deleted; where the server has tokens, your own. Never ends."""
    desk = desk_of(request)

    async def events() -> AsyncIterator[ServerSentEvent]:
        with counted(desk, client):
            teller = Teller()
            async for changes in desk.live.changes(desk.live.place(last_event_id)):
                for change in changes:
                    if desk.tokens and change.client != client:
                        continue
                    if change.job is None:
                        yield gone(desk, change.number, change.id)
                    else:
                        for each in teller.told(f"{desk.live.epoch}-{change.number}", change.job):
                            yield each

    require_room(desk, client)
    return EventSourceResponse(events(), ping=PING, send_timeout=SLOW)


class Teller:
    """A job's changes as events; a picture is told once."""

    def __init__(self) -> None:
        self.pictures: dict[str, str | None] = {}
        self.last: dict[str, Job] = {}

    def told(self, number: str, job: Job) -> Iterator[ServerSentEvent]:
        if self.last.get(job.id) == job:
            return
        self.last[job.id] = job
        if job.picture is not None and self.pictures.get(job.id) != job.picture:
            self.pictures[job.id] = job.picture
            yield ServerSentEvent(json.dumps({"id": job.id, "url": job.picture}), event="picture")
        yield ServerSentEvent(job.model_dump_json(), event="job", id=number)


def gone(desk: Desk, number: int, identity: str) -> ServerSentEvent:
    return ServerSentEvent(json.dumps({"id": identity}), event="deleted", id=f"{desk.live.epoch}-{number}")


def require_room(desk: Desk, client: str) -> None:
    """Raises HTTPException where there are as many streams as may be, of all or of one client."""
    most = desk.options.limits.streams
    if desk.streams.total() >= most or desk.streams[client] >= max(1, most // 5):
        raise HTTPException(429, "there are too many event streams: close some", {"Retry-After": "10"})


@contextmanager
def counted(desk: Desk, client: str) -> Iterator[None]:
    """A stream, as long as it is open."""
    desk.streams[client] += 1
    desk.figures.streams += 1
    try:
        yield
    finally:
        desk.streams[client] -= 1
        desk.figures.streams -= 1
        if not desk.streams[client]:
            del desk.streams[client]
