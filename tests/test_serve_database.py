"""The database of a server's jobs: what is told of one that is not there, and what happens while it is away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from postgres import PASSWORD, Cluster
from served import environment
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from starlette.testclient import TestClient
from test_serve_api import CAR, desk_in

from text23d.errors import UserError
from text23d.service.server import database
from text23d.service.server.app import make_app
from text23d.service.server.store import Store

ASKED = {"seed": 0, "iterations": None, "guidance": None}


def refused(url: str | URL) -> str:
    """The line that is told of a database; it shows no password."""
    with pytest.raises(UserError) as raised:
        Store(url)
    said = str(raised.value)
    assert said.startswith("server.database=") and "secret" not in said and "\n" not in said
    return said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://anna:secret@here/x", "mysql://anna:***@here/x: expected sqlite:///<file> or postgresql+psycopg://"),
        ("postgresql+nothing://anna:secret@here/x", "postgresql+nothing://anna:***@here/x: expected"),
        ("nonsense", "nonsense: expected"),
        ("postgresql://anna:secret@here:port/x", "postgresql:***@here:port/x: expected"),
        ("postgresql:/anna:secret@here/x", "postgresql:***@here/x: expected"),
        ("postgresql:x?password=secret", "postgresql:x?password=***: expected"),
    ],
)
def test_texts_that_name_no_database(url: str, said: str) -> None:
    assert said in refused(url)


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    assert "unable to open database file; mend that" in refused(f"sqlite:///{tmp_path}/no/folder/x")
    (tmp_path / "x").write_text("no database at all, and longer than the head of one: " * 20)
    assert "file is not a database" in refused(f"sqlite:///{tmp_path}/x")


@pytest.mark.needs("postgres")
def test_a_postgresql_that_does_not_answer(cluster: Cluster) -> None:
    """A plain postgresql:// means the driver that is here."""
    said = refused("postgresql://anna:secret@127.0.0.1:1/x")
    assert "postgresql+psycopg://anna:***@127.0.0.1:1/x: " in said and "Connection refused" in said
    assert "password authentication failed" in refused(cluster.over_tcp("postgres", "secret"))
    assert 'database "none" does not exist' in refused(cluster.url("none"))
    elsewhere = "No such file or directory"
    assert elsewhere in refused("postgresql+psycopg:///x?host=/nowhere&password=secret")
    assert 'invalid connection option "colour"' in refused(cluster.url("x").update_query_dict({"colour": "red"}))
    name = cluster.new().database
    assert name is not None and Store(cluster.over_tcp(name, PASSWORD)).counts()["queued"] == 0


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    said = refused("postgresql+psycopg://anna:secret@here/x")
    assert said.endswith('it needs psycopg, which is not installed; pip install "text23d[postgresql]"')


def test_the_verb_tells_it_in_one_line(tmp_path: Path) -> None:
    url = "server.database=postgresql+psycopg://anna:secret@127.0.0.1:1/x"
    command = [sys.executable, "-m", "text23d.serve", f"server.folder={tmp_path}/s", "server.port=0", url]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "secret" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("text23d: server.database=postgresql+psycopg://anna:***@127")


@pytest.mark.needs("postgres")
def test_a_writer_that_hangs_holds_nobody_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did is undone; who cannot wait for as long is told by an exception."""
    url = cluster.new()
    one, other = Store(url), Store(url)
    monkeypatch.setattr(database, "HELD", 0.5)
    monkeypatch.setattr(database, "WAIT", 5.0)
    with pytest.raises(SQLAlchemyError), one._writing() as connection:
        connection.execute(sa.text("INSERT INTO turns VALUES ('anna', 1)"))
        assert other.submit("ben", "object", "a red car", ASKED)
        connection.execute(sa.text("SELECT 1"))
    assert cluster.does("SELECT * FROM turns", str(url.database)) == [] and one.counts()["queued"] == 1
    monkeypatch.setattr(database, "HELD", 5.0)
    monkeypatch.setattr(database, "WAIT", 0.2)
    with one._writing(), pytest.raises(SQLAlchemyError, match="lock timeout"):
        other.submit("ben", "object", "a red car", ASKED)
    assert other.submit("ben", "object", "a red car", ASKED), "and later it may"


@pytest.mark.needs("postgres")
def test_a_postgresql_that_was_away_is_used_again(cluster: Cluster) -> None:
    url = cluster.new()
    queue, name = Store(url), url.database
    job = queue.submit("anna", "object", "a red car", ASKED)
    cluster.does(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    cluster.does(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    with pytest.raises(SQLAlchemyError):
        queue.claim("w")
    cluster.does(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    claim = queue.claim("w")
    assert claim is not None and claim.id == job
    cluster.does(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert queue.end(claim, "done"), "over connections that were cut meanwhile, too"


def test_while_the_database_is_away_the_server_says_so(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    with TestClient(make_app(desk), base_url="http://127.0.0.1:8023") as client:
        job = client.post("/api/jobs", json=CAR).json()["id"]
        here, desk.store.engine = desk.store.engine, sa.create_engine(f"sqlite:///{tmp_path}/gone/jobs.sqlite")
        asked: list[tuple[str, str, Any]] = [
            ("GET", "/health", None), ("GET", "/metrics", None), ("GET", "/api/jobs", None),
            ("POST", "/api/jobs", CAR), ("GET", f"/api/jobs/{job}", None), ("POST", f"/api/jobs/{job}/cancel", None),
            ("GET", f"/api/jobs/{job}/events", None),
        ]  # fmt: skip
        for method, path, body in asked:
            answer = client.request(method, path, json=body)
            assert (answer.status_code, answer.json()) == (503, {"detail": "the database is away: try again later"})
            assert int(answer.headers["retry-after"]) > 0
        desk.store.engine = here
        assert client.get(f"/api/jobs/{job}").json()["state"] == "queued"
        document = client.get("/openapi.json").json()["paths"]
        assert all("503" in each["responses"] for path in document.values() for each in path.values())
