"""The queue: jobs in a database, which one worker at a time holds by a lease.

A worker that claims a job holds it until its lease runs out, unless it renews it; then another may claim it. Every
change that a worker makes names its claim, so that one who has lost the job changes nothing. Times are in seconds since
1970 by the clocks of those who write them: on several machines these have to agree within a few seconds.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError

from text23d.errors import UserError
from text23d.service.server.database import connected, reading, told, writing
from text23d.service.server.order import Waiting, order
from text23d.service.server.schema import (
    CANCELLED,
    FAILED,
    LEASE,
    QUEUED,
    RUNNING,
    STATES,
    Claim,
    Full,
    Limits,
    jobs,
    tables,
    turns,
)

PAUSE = 2.0
"""Seconds before a job that failed is tried again, doubled with each attempt."""


class Store:
    """The database of `url`, SQLite or PostgreSQL; its tables are made where they are not. Safe in threads.

    Raises UserError where there is no such database, and what SQLAlchemy does where it later fails.
    """

    def __init__(self, url: str | URL, limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
        self.limits, self.engine = limits, connected(url)
        try:
            with self._writing() as connection:
                tables.create_all(connection)
        except SQLAlchemyError as error:
            raise UserError(told(self.url, error)) from error

    @property
    def url(self) -> URL:
        return self.engine.url

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self.engine)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self.engine)

    # For clients

    def submit(self, client: str, medium: str, prompt: str, settings: Mapping[str, Any]) -> str:
        """A new job's id. Raises Full where the queue is, or the client has too many."""
        now, identity = time.time(), secrets.token_hex(8)
        with self._writing() as connection:
            self._expire(connection, now)
            states = sa.select(jobs.c.state, jobs.c.client).where(jobs.c.state.in_((QUEUED, RUNNING)))
            found = connection.execute(states).all()
            if sum(state == QUEUED for state, _ in found) >= self.limits.queued:
                raise Full(f"{self.limits.queued} jobs are waiting, which is all that may: try again later", 30)
            if sum(other == client for _, other in found) >= self.limits.unfinished:
                most = self.limits.unfinished
                raise Full(f"you have {most} jobs that are not done, which is all that one may have: wait for one", 15)
            values: dict[str, Any] = {"id": identity, "client": client, "medium": medium, "prompt": prompt}
            values |= {"state": QUEUED}
            values |= {"settings": json.dumps(dict(settings)), "created": now, "updated": now}
            connection.execute(sa.insert(jobs).values(values))
        return identity

    def get(self, identity: str) -> dict[str, Any] | None:
        """A job's row; None: there is none."""
        with self._reading() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == identity)).mappings().first()
        return dict(row) if row else None

    def page(self, client: str | None, state: str | None, after: str | None, limit: int) -> list[dict[str, Any]]:
        """Rows that follow the job `after`, the newest first; of one client, or of all (None); in one state, or any."""
        query = sa.select(jobs).order_by(jobs.c.created.desc(), jobs.c.id.desc()).limit(limit)
        if client is not None:
            query = query.where(jobs.c.client == client)
        if state is not None:
            query = query.where(jobs.c.state == state)
        with self._reading() as connection:
            if after is not None:
                last = connection.execute(sa.select(jobs.c.created).where(jobs.c.id == after)).scalar()
                place = sa.tuple_(jobs.c.created, jobs.c.id) < sa.tuple_(
                    sa.literal(last, sa.Double), sa.literal(after, sa.String)
                )
                query = query.where(place if last is not None else sa.false())
            return [dict(row) for row in connection.execute(query).mappings()]

    def changed(self, since: float) -> list[dict[str, Any]]:
        """The rows of all jobs that are not over, and of those that changed since."""
        query = sa.select(jobs).where(sa.or_(jobs.c.state.in_((QUEUED, RUNNING)), jobs.c.updated >= since))
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        with self._reading() as connection:
            query = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
            found: dict[str, int] = dict(connection.execute(query).all())  # type: ignore[arg-type]
        return {state: found.get(state, 0) for state in STATES}

    def positions(self) -> dict[str, int]:
        """The place in the queue of each job that waits, from 1."""
        with self._reading() as connection:
            return {job.id: place for place, job in enumerate(self._queue(connection), 1)}

    def cancel(self, identity: str) -> None:
        """Stop a job: at once where it waits, else as soon as its worker hears of it. One that is over stays so."""
        now, mine = time.time(), jobs.c.id == identity
        over = {"state": CANCELLED, "ended": now, "updated": now}
        with self._writing() as connection:
            connection.execute(sa.update(jobs).where(mine, jobs.c.state == QUEUED).values(over))
            asked = sa.update(jobs).where(mine, jobs.c.state == RUNNING)
            connection.execute(asked.values(cancel=True, updated=now))

    def delete(self, identity: str) -> bool:
        """Forget a job that nobody is making; whether that was done."""
        gone = sa.delete(jobs).where(jobs.c.id == identity, jobs.c.state != RUNNING)
        with self._writing() as connection:
            return connection.execute(gone).rowcount == 1

    # For workers

    def claim(self, worker: str) -> Claim | None:
        """The job whose turn it is, held by `worker` from now on; None: none waits that may begin."""
        now = time.time()
        if not self._work_waits(now):  # which a worker asks again and again, and which keeps nobody from writing
            return None
        with self._writing() as connection:
            self._expire(connection, now)
            at_work = sa.select(jobs.c.client, sa.func.count()).where(jobs.c.state == RUNNING).group_by(jobs.c.client)
            running: dict[str, int] = dict(connection.execute(at_work).all())  # type: ignore[arg-type]
            for job in self._queue(connection, now):
                if running.get(job.client, 0) < self.limits.running and (held := self._take(connection, job, worker)):
                    return held
        return None

    def _take(self, connection: Connection, job: Waiting, worker: str) -> Claim | None:
        now, holder = time.time(), secrets.token_hex(16)
        values = {"state": RUNNING, "holder": holder, "worker": worker, "lease": now + LEASE, "updated": now}
        values |= {"started": sa.func.coalesce(jobs.c.started, now), "attempts": jobs.c.attempts + 1}
        taken = sa.update(jobs).where(jobs.c.id == job.id, jobs.c.state == QUEUED).values(values)
        if connection.execute(taken).rowcount != 1:
            return None
        if not connection.execute(sa.update(turns).where(turns.c.client == job.client).values(served=now)).rowcount:
            connection.execute(sa.insert(turns).values(client=job.client, served=now))
        row = connection.execute(sa.select(jobs).where(jobs.c.id == job.id)).mappings().one()
        return Claim(job.id, holder, row["medium"], row["prompt"], json.loads(row["settings"]), row["spent"])

    def renew(self, claim: Claim, iteration: int, spent: float) -> bool | None:
        """Hold the job for longer. Returns whether it shall be stopped; None: the claim is lost.

        iteration: how far it has come. spent: seconds that it took, in all."""
        further = iteration > jobs.c.iteration
        values = {
            "lease": time.time() + LEASE,
            "spent": spent,
            "attempts": sa.case((further, 0), else_=jobs.c.attempts),
            "iteration": sa.case((further, iteration), else_=jobs.c.iteration),
        }
        with self._writing() as connection:
            if connection.execute(sa.update(jobs).where(*_held(claim)).values(values)).rowcount != 1:
                return None
            return bool(connection.execute(sa.select(jobs.c.cancel).where(jobs.c.id == claim.id)).scalar())

    def end(self, claim: Claim, state: str, failure: str | None = None) -> bool:
        """The job is over; whether the claim still held."""
        now = time.time()
        values = {"state": state, "failure": failure, "ended": now, "updated": now, "holder": None}
        with self._writing() as connection:
            return connection.execute(sa.update(jobs).where(*_held(claim)).values(values)).rowcount == 1

    def retry(self, claim: Claim, failure: str) -> None:
        """The attempt failed: another follows, unless there were as many as may be without coming further."""
        now, attempts = time.time(), (self.get(claim.id) or {}).get("attempts", 0)
        if attempts > self.limits.retries:
            self.end(claim, FAILED, f"{failure} (attempt {attempts}, and the last)")
            return
        values = {"not_before": now + PAUSE * 2**attempts, "failure": failure}
        with self._writing() as connection:
            connection.execute(sa.update(jobs).where(*_held(claim)).values({**_waits(now), **values}))

    def give_back(self, claim: Claim, seconds: float = 0.0) -> None:
        """The worker makes no more of the job, through no fault of it: it waits, for so many seconds at least."""
        now = time.time()
        values = {**_waits(now), "attempts": sa.case((jobs.c.attempts > 0, jobs.c.attempts - 1), else_=0)}
        with self._writing() as connection:
            connection.execute(sa.update(jobs).where(*_held(claim)).values({**values, "not_before": now + seconds}))

    def abandon(self, worker: str | None) -> None:
        """The worker is dead, or all are (None): what they held waits again, without its lease running out first."""
        held = jobs.c.state == RUNNING
        with self._writing() as connection:
            lost = held if worker is None else sa.and_(held, jobs.c.worker == worker)
            connection.execute(sa.update(jobs).where(lost).values(lease=0.0))
            self._expire(connection, time.time())

    def _work_waits(self, now: float) -> bool:
        """Whether a job may be claimed, or a lease has run out."""
        may = sa.and_(jobs.c.state == QUEUED, jobs.c.not_before <= now)
        lost = sa.and_(jobs.c.state == RUNNING, jobs.c.lease < now)
        with self._reading() as connection:
            return connection.execute(sa.select(jobs.c.id).where(sa.or_(may, lost)).limit(1)).first() is not None

    def _expire(self, connection: Connection, now: float) -> None:
        """Jobs whose lease ran out wait again; or are over, where that was asked for or has happened too often."""
        lost = (jobs.c.state == RUNNING, jobs.c.lease < now)
        over = {"ended": now, "updated": now, "holder": None}
        connection.execute(sa.update(jobs).where(*lost, jobs.c.cancel).values({**over, "state": CANCELLED}))
        why = f"its worker died {self.limits.retries + 1} times before it came any further"
        often = jobs.c.attempts > self.limits.retries
        connection.execute(sa.update(jobs).where(*lost, often).values({**over, "state": FAILED, "failure": why}))
        connection.execute(sa.update(jobs).where(*lost).values(_waits(now)))

    def _queue(self, connection: Connection, now: float | None = None) -> list[Waiting]:
        """What waits, in its order; with `now`, what may begin."""
        query = sa.select(jobs.c.id, jobs.c.client, jobs.c.created).where(jobs.c.state == QUEUED)
        if now is not None:
            query = query.where(jobs.c.not_before <= now)
        waiting = [Waiting(*row) for row in connection.execute(query)]
        return order(waiting, dict(connection.execute(sa.select(turns.c.client, turns.c.served)).all()))  # type: ignore[arg-type]


def _held(claim: Claim) -> tuple[Any, ...]:
    return jobs.c.id == claim.id, jobs.c.holder == claim.holder, jobs.c.state == RUNNING


def _waits(now: float) -> dict[str, Any]:
    return {"state": QUEUED, "holder": None, "worker": None, "updated": now}
