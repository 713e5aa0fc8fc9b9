"""A PostgreSQL of the tests' own: a cluster in a temporary folder, for as long as they run."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import awaited
from programs import found
from sqlalchemy.engine import URL

USER, PASSWORD = "text23d", "sesame"
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=100")
"""What a cluster need not do whose data nobody wants after a crash."""


@dataclass(frozen=True)
class Cluster:
    """folder: where its socket lies. port: on 127.0.0.1, where it wants the password; the socket's, where it does
    not."""

    folder: str
    port: int

    def url(self, name: str) -> URL:
        return URL.create(
            "postgresql+psycopg", USER, database=name, query={"host": self.folder, "port": str(self.port)}
        )

    def over_tcp(self, name: str, password: str) -> URL:
        return URL.create("postgresql+psycopg", USER, password, "127.0.0.1", self.port, name)

    def does(self, statement: str, name: str = "postgres") -> list[Any]:
        """Runs a statement outside of any transaction; its rows, if it has any."""
        import psycopg

        given = {"host": self.folder, "port": self.port, "user": USER, "dbname": name}
        with psycopg.connect(**given, autocommit=True) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new(self) -> URL:
        """An empty database."""
        name = f"t{secrets.token_hex(6)}"
        self.does(f"CREATE DATABASE {name}")
        return self.url(name)


@contextmanager
def running() -> Iterator[Cluster]:
    """It belongs to another user where root runs the tests: PostgreSQL refuses to be root's."""
    server = found("postgres")
    assert server is not None
    owner = "nobody" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # in /tmp itself: the path of a socket has to be short
    try:
        (folder / "password").write_text(PASSWORD)
        if owner is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, owner)
        asked = ("--no-sync", f"--username={USER}", f"--pwfile={folder}/password", "--auth-local=trust")
        options = (*asked, "--auth-host=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions")
        initdb = [str(Path(server).with_name("initdb")), f"--pgdata={folder}/data", *options]
        subprocess.run(initdb, user=owner, cwd=folder, env=_environment(), check=True, stdout=subprocess.DEVNULL)
        with _started(server, folder, owner) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(server: str, folder: Path, owner: str | None) -> Iterator[Cluster]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [f"-c{each}" for each in (*QUICK, f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1")]
    command = [server, "-D", f"{folder}/data", "-p", str(port), *settings]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, user=owner, cwd=folder, env=_environment(), stdout=log, stderr=log)
    made = Cluster(str(folder), port)
    try:
        awaited(lambda: _answers(made, process, folder / "log"), 30)
        yield made
    finally:
        process.send_signal(signal.SIGINT)  # it ends all sessions, and then itself
        process.wait(30)


def _answers(made: Cluster, process: subprocess.Popen[bytes], log: Path) -> bool | None:
    import psycopg

    assert process.poll() is None, log.read_text()
    try:
        return bool(made.does("SELECT 1"))
    except psycopg.OperationalError:
        return None


def _environment() -> dict[str, str]:
    """Without what tells PostgreSQL's programs of another cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
