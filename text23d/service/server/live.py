"""What runs show while they go on: read from their folders once, for all who watch."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy.exc import SQLAlchemyError

from text23d.service.server.child import PREVIEW, PROGRESS
from text23d.service.server.models import FILES, File, Job, Progress
from text23d.service.server.schema import ENDED, QUEUED, RUNNING
from text23d.service.server.store import Store

LOOK, IDLE = 0.4, 5.0
"""Seconds between two looks at the jobs, with somebody who watches and without."""
RECENT = 15.0
"""Seconds for which a job that is over is looked at."""
KEPT = 1000
"""The number of changes that can be told later to who was away."""


class View:
    """The jobs of a store as clients see them, with what their folders in `root` hold."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store, self.root = store, root

    def job(self, row: Mapping[str, Any], places: Mapping[str, int]) -> Job:
        folder, settings = self.root / row["id"], json.loads(row["settings"])
        where = f"/api/jobs/{row['id']}"
        ended, begun = row["state"] in ENDED, row["started"] is not None
        return Job(
            **{name: row[name] for name in ("id", "state", "prompt", "medium", "created", "started", "ended")},
            seed=settings["seed"],
            iterations=settings["iterations"],
            guidance=settings["guidance"],
            cancelling=bool(row["cancel"]) and not ended,
            place=places.get(row["id"]) if row["state"] == QUEUED else None,
            progress=progress(folder, row) if begun else None,
            picture=picture_url(where, folder) if begun else None,
            failure=row["failure"] if row["state"] != "done" else None,
            files=[
                File(name=name, bytes=size, type=kind, url=f"{where}/files/{name}")  # type: ignore[arg-type]
                for name, kind in (FILES if begun else {}).items()
                if (size := size_of(folder / name)) is not None
            ],
        )

    def changed(self, since: float) -> list[tuple[str, Job]]:
        """(client, job) of those that are not over, or changed since."""
        rows, places = self.store.changed(since), self.store.positions()
        return [(row["client"], self.job(row, places)) for row in rows]


def progress(folder: Path, row: Mapping[str, Any]) -> Progress:
    """How far a job has come, by what its run noted."""
    told = Progress(stage="starting", iteration=0)
    with suppress(OSError, ValueError, TypeError, AttributeError):  # there is none, or it is damaged
        said = json.loads((folder / PROGRESS).read_bytes())
        known = {name: said[name] for name in Progress.model_fields if said.get(name) is not None}
        told = Progress(**{"stage": "starting", "iteration": 0, **known})
    running = row["state"] == RUNNING
    return told if running else told.model_copy(update={"seconds_left": None})


def picture_url(where: str, folder: Path) -> str | None:
    """The latest picture's, with the time of it, so that no cache gives an older one."""
    with suppress(OSError):
        return f"{where}/picture?v={(folder / PREVIEW).stat().st_mtime_ns:x}"
    return None


def size_of(path: Path) -> int | None:
    with suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return path.stat().st_size
    return None


@dataclass(frozen=True)
class Change:
    """A job as it became; None: it was deleted."""

    number: int
    id: str
    client: str
    job: Job | None


class Live:
    """Looks at all jobs for all who watch, and keeps of each only its latest change: who reads slowly misses what was
    in between, and holds up nobody."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.epoch, self.number = secrets.token_hex(4), 0
        self.latest: dict[str, Change] = {}
        self.watching = 0
        self.closed = False
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()

    async def look(self) -> None:
        """Look at the jobs again and again, until cancelled."""
        while not self.closed:
            since = time.time() - RECENT
            with suppress(SQLAlchemyError):  # it is away: the next look tells
                for client, job in await anyio.to_thread.run_sync(self.view.changed, since):
                    self.tell(client, job)
            self._wanted.clear()
            with suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), LOOK if self.watching else IDLE)
            if self.watching:
                await asyncio.sleep(LOOK / 4)

    def hurry(self) -> None:
        """Something was changed by this server: look now."""
        self._wanted.set()

    def tell(self, client: str, job: Job) -> None:
        known = self.latest.get(job.id)
        if known is None or known.job != job:
            self._change(job.id, client, job)

    def forget(self, identity: str, client: str) -> None:
        """The job was deleted."""
        self._change(identity, client, None)

    def _change(self, identity: str, client: str, job: Job | None) -> None:
        self.number += 1
        self.latest.pop(identity, None)  # so that the oldest change comes first
        self.latest[identity] = Change(self.number, identity, client, job)
        while len(self.latest) > KEPT:
            del self.latest[next(iter(self.latest))]
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._wake()
        self._wanted.set()

    def place(self, last: str | None) -> int:
        """The number of the change that is the last that a client knows, by the id of an event; 0: it knows nothing."""
        epoch, _, number = (last or "").partition("-")
        return int(number) if epoch == self.epoch and number.isascii() and number.isdigit() else 0

    async def changes(self, after: int) -> AsyncIterator[list[Change]]:
        """The changes after that number, as they come, each job's latest only; an empty list where the server ends."""
        self.watching += 1
        self.hurry()
        try:
            while not self.closed:
                news = self._news
                found = [each for each in self.latest.values() if each.number > after]
                if found:
                    after = found[-1].number
                    yield found
                else:
                    await news.wait()
        finally:
            self.watching -= 1
