"""The database of jobs, SQLite or PostgreSQL, to which one at a time writes, and what may go wrong on the way to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from text23d.errors import UserError

EXPECTED = "expected sqlite:///<file> or postgresql+psycopg://<user>@<host>/<name>"
BUSY = 20.0
"""Seconds to wait for another process's transaction, on SQLite."""
WAIT, HELD = 10.0, 5.0
"""The same on PostgreSQL, and those after which it ends the transaction of a process that says nothing more. Both are
less than the time in which a worker has to renew its lease."""
AWAY = {"connect_timeout": 10, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""Settings of libpq: how long it takes to see, in seconds, that there is no way to the database (any more)."""
GONE = {"tcp_user_timeout": 10_000}
"""The same for what was sent and not received: in milliseconds."""
SECRETS = "password", "sslpassword"
LOCK = int.from_bytes(b"text23d", "big")
"""Of PostgreSQL's advisory locks, the one that writers of jobs hold."""


def connected(url: str | URL) -> Engine:
    """The database at a URL: it has been reached. Raises UserError, which shows no password, where there is none."""
    try:
        made = make_url(url)
    except (ArgumentError, ValueError) as error:  # the second for a port that is no number
        raise UserError(f"server.database={concealed(str(url))}: {EXPECTED}") from error
    if made.drivername == "postgresql":  # for which SQLAlchemy would take a driver of older days
        made = made.set(drivername="postgresql+psycopg")
    if made.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise UserError(f"server.database={shown(made)}: {EXPECTED}")
    try:
        engine = _sqlite(made) if made.get_backend_name() == "sqlite" else _postgresql(made)
        engine.connect().close()
    except ImportError as error:
        advice = 'it needs psycopg, which is not installed; pip install "text23d[postgresql]"'
        raise UserError(f"server.database={shown(made)}: {advice}") from error
    except (SQLAlchemyError, NoSuchModuleError, TypeError) as error:  # the last for an option that is none
        raise UserError(told(made, error)) from error
    return engine


def told(url: URL, error: Exception) -> str:
    """What the database says of an error, in one line."""
    said = " ".join(str(getattr(error, "orig", error)).partition("\n")[0].split())
    return f"server.database={shown(url)}: {said}; mend that, or leave it out for SQLite in server.folder"


def shown(url: URL) -> str:
    """A URL without its passwords."""
    return url.difference_update_query(SECRETS).render_as_string(hide_password=True)


def concealed(url: str) -> str:
    """A text that was to be a URL, without what may be a password in it."""
    return re.sub(r"(password=)[^&\s]*", r"\1***", re.sub(r":.*@", ":***@", url, flags=re.DOTALL))


def sqlite(file: Path) -> URL:
    """The database in a file."""
    return URL.create("sqlite", database=str(file))


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction beside which nobody else writes, so that what it reads first still holds when it writes."""
    with engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(
                f"SET LOCAL lock_timeout = '{WAIT:g}s'; SET LOCAL idle_in_transaction_session_timeout = '{HELD:g}s'; "
                f"SELECT pg_advisory_xact_lock({LOCK})"
            )
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes nothing, and waits for nobody."""
    with engine.connect().execution_options(reads=True) as connection, connection.begin():
        yield connection


def _postgresql(url: URL) -> Engine:
    """Each statement sees what was committed before it, whatever is usual on that server: those that follow the lock
    see what its last holder wrote."""
    own = {name: value for name, value in (AWAY | GONE).items() if name not in url.query}
    return sa.create_engine(url, pool_pre_ping=True, isolation_level="READ COMMITTED", connect_args=own)


def _sqlite(url: URL) -> Engine:
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, record: object) -> None:
    """SQLite shall lose nothing that it has confirmed, and let others read while one writes."""
    connection.isolation_level = None  # so that `_begin` says when a transaction begins
    connection.execute(f"PRAGMA busy_timeout={int(1000 * BUSY)}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    """Who will write takes the lock at once: two who read first and then write would both have to begin again."""
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reads") else "BEGIN IMMEDIATE")
