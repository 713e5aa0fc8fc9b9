"""What the database of jobs holds, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

LEASE, BEAT = 20.0, 2.0
"""Seconds that a claim lasts, and from one renewal to the next."""
QUEUED, RUNNING, DONE, FAILED, CANCELLED = STATES = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)

tables = sa.MetaData()
jobs = sa.Table(
    "jobs",
    tables,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("client", sa.String(80), nullable=False, index=True),
    sa.Column("medium", sa.String(40), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False, index=True),
    sa.Column("created", sa.Double, nullable=False, index=True),
    sa.Column("started", sa.Double),
    sa.Column("ended", sa.Double),
    sa.Column("updated", sa.Double, nullable=False, index=True),
    sa.Column("iteration", sa.Integer, nullable=False, default=0),
    sa.Column("spent", sa.Double, nullable=False, default=0.0),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("failure", sa.Text),
    sa.Column("cancel", sa.Boolean, nullable=False, default=False),
    sa.Column("worker", sa.String(120)),
    sa.Column("holder", sa.String(32)),
    sa.Column("lease", sa.Double, nullable=False, default=0.0),
    sa.Column("not_before", sa.Double, nullable=False, default=0.0),
)
"""iteration: the furthest that was reached. spent: seconds that workers gave it. attempts: those since it last came
further. cancel: whether it shall stop. holder: the claim of who makes it."""
turns = sa.Table(
    "turns",
    tables,
    sa.Column("client", sa.String(80), primary_key=True),
    sa.Column("served", sa.Double, nullable=False),
)


class Full(Exception):
    """No room for another job; the message says why. seconds: after which it may be tried again."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class Limits:
    """queued: jobs that wait, of all; unfinished and running: jobs of one client; retries: attempts of a job that bring
    it no further, after the first."""

    queued: int = 100
    unfinished: int = 20
    running: int = 2
    retries: int = 3


@dataclass(frozen=True)
class Claim:
    """A job that a worker holds. spent: seconds that earlier attempts took."""

    id: str
    holder: str
    medium: str
    prompt: str
    settings: Mapping[str, Any]
    spent: float
