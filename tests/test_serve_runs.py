"""A server with its workers and real runs: nothing is lost by kills and restarts, and nobody holds up anybody."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from processes import awaited, children, ends
from served import Served, serving, settings

from text23d.engine.folder import LOG
from text23d.errors import UserError
from text23d.service.server.database import sqlite
from text23d.service.server.options import ServerOptions
from text23d.service.server.serving import serve
from text23d.service.server.store import Store
from text23d.settings import checked

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds processes by Linux' /proc")
OPTIONS = ("server.limits.running=4", "server.limits.unfinished=50")
LONG = 2000
"""Iterations of a job that is not to end by itself."""


@pytest.fixture(scope="module")
def served(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served") / "a folder, with = (all)"
    more = ("server.limits.iterations=5000", "server.workers=1")
    with serving(folder, [*settings(tiny_prior), *OPTIONS, *more]) as served:
        yield served


def events(served: Served, path: str, last: str | None = None, most: int = 10_000) -> Iterator[tuple[str, str, Any]]:
    """(event, id, data) of a stream, as they come, until it ends."""
    request = urllib.request.Request(served.url + path, headers={"Last-Event-ID": last} if last else {})
    with urllib.request.urlopen(request, timeout=90) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found: dict[str, str] = {}
        for line in answer:
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name:
                found[name] = value
            elif "data" in found:
                yield found.get("event", ""), found.get("id", ""), json.loads(found["data"])
                found = {}
            else:
                found = {}


def test_a_job_is_made_and_watched(served: Served) -> None:
    job = served.submit("a red car", "object", seed=3)
    seen = list(events(served, f"/api/jobs/{job}/events"))
    told = [data for event, _, data in seen if event == "job"]
    assert told[-1]["state"] == "done" and {each["id"] for each in told} == {job}
    pictures = [data["url"] for event, _, data in seen if event == "picture"]
    assert len(set(pictures)) == len(pictures) >= 2, "the picture changed as the run went"
    assert served.ask(pictures[-1])[1][:4] == b"\x89PNG"
    files = {each["name"]: each for each in told[-1]["files"]}
    assert {"mesh.glb", "turntable.mp4", "contact.png", "summary.json", "metrics.jsonl"} <= set(files)
    glb = served.ask(files["mesh.glb"]["url"])[1]
    assert glb[:4] == b"glTF" and len(glb) == files["mesh.glb"]["bytes"]
    assert served.ask(files["summary.json"]["url"])[1]["seed"] == 3
    progress = [each["progress"] for each in told if each["progress"]]
    assert progress[-1]["iteration"] == progress[-1]["iterations"] == 4 and "loss" in progress[-1]["figures"]
    last = [number for event, number, _ in seen if event == "job"][-1]
    assert list(events(served, f"/api/jobs/{job}/events", last)) == [], "nothing has changed since"
    assert [event for event, *_ in events(served, f"/api/jobs/{job}/events", "other-7")] == ["picture", "job"]


def test_a_job_that_is_killed_goes_on_and_one_that_is_cancelled_makes_room(served: Served) -> None:
    """Meanwhile twenty clients ask for everything and read nothing, or never finish their request."""
    long = served.submit(iterations=LONG)
    served.until(long, ["running"])
    blocked, after = served.submit(), served.submit(client="other")
    (served.folder / "jobs" / blocked).write_text("in the way")
    lazy = lazy_clients(served, long)
    iteration_after(served, long, 20)
    assert served.job(after)["place"] == 1 and served.ask(f"/api/jobs/{long}", "DELETE")[0] == 409
    (worker,) = children(served.process.pid)
    for child in children(worker):
        os.kill(child, signal.SIGKILL)
    awaited(lambda: served.job(long)["failure"])
    assert served.job(long)["failure"] == "it was killed by signal 9; see output.txt", "for a moment"
    served.until(long, ["running"])
    waits = [time.monotonic()]
    while served.job(long)["progress"]["iteration"] < 40:
        waits.append(time.monotonic())
        time.sleep(0.05)
    status, job = served.ask(f"/api/jobs/{long}/cancel", "POST")
    assert status == 200 and job["cancelling"] and served.until(long)["state"] == "cancelled"
    assert served.until(after)["state"] == "done" and served.until(blocked)["state"] == "failed"
    assert served.job(blocked)["failure"] == "its folder cannot be made: File exists", "and it is not tried again"
    assert served.ask(f"/api/jobs/{long}", "DELETE")[0] == 204 and not (served.folder / "jobs" / long).exists()
    assert max(later - sooner for sooner, later in pairwise(waits)) < 5, "nobody was held up"
    [each.close() for each in lazy]  # type: ignore[func-returns-value]
    awaited(lambda: "text23d_streams 0" in served.ask("/metrics")[1].decode() or None)


def iteration_after(served: Served, job: str, least: int) -> None:
    """Wait until a job has come so far."""
    awaited(lambda: (served.job(job)["progress"] or {}).get("iteration", 0) > least or None)


def lazy_clients(served: Served, job: str) -> list[socket.socket]:
    """Of whom none reads, and some never finish their request."""
    host, port = served.url.removeprefix("http://").split(":")
    lazy = [socket.create_connection((host, int(port))) for _ in range(20)]
    for number, each in enumerate(lazy):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        path = "/api/events" if number % 2 else f"/api/jobs/{job}/events"
        each.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n".encode() + (b"\r\n" if number % 3 else b""))
    return lazy


def completions(folder: Path) -> int:
    """How often the run in a folder was made to its end."""
    return sum("done in" in line and "earlier process" not in line for line in (folder / LOG).read_text().splitlines())


def test_what_cannot_be_served_is_told_in_one_line(tmp_path: Path, served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    for given, said in (
        ({"host": "0.0.0.0"}, "give server.tokens"),
        ({"port": port}, "choose another port"),
        ({"folder": str(served.folder)}, "another run is writing to"),
        ({"database": "oracle://x"}, "server.database"),
    ):
        with pytest.raises(UserError, match=said) as raised:
            serve(ServerOptions(**{"folder": str(tmp_path / "x"), **given}))  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)
    for wrong, said in (({"workers": 0}, "1 to 256 or ray"), ({"limits": {"queued": "x"}}, "server.limits.queued=x")):
        with pytest.raises(UserError, match=said):
            checked(wrong, ServerOptions, "server")


def test_a_job_outlives_its_worker_and_its_server(served: Served) -> None:
    """Both are killed at once; the job is made to its end once, and each of its iterations is there once.
    `serve_harness.py` kills more."""
    job = served.submit(iterations=60)
    awaited(lambda: is_at_work(served.job(job)) or None)
    (worker,) = children(served.process.pid)
    os.kill(worker, signal.SIGKILL)
    served.stop(signal.SIGKILL)
    served.again()
    assert served.until(job)["state"] == "done" and completions(served.folder / "jobs" / job) == 1
    lines = (served.folder / "jobs" / job / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == list(range(1, 61))


def test_a_server_that_is_asked_to_end_keeps_what_it_has(served: Served) -> None:
    """To be the last: streams end, the job is saved and waits, and no process stays."""
    job = served.submit(iterations=LONG)
    awaited(lambda: is_at_work(served.job(job)) or None)
    waits = served.submit(client="other")
    stream = events(served, f"/api/jobs/{job}/events")
    next(stream)
    (worker,) = children(served.process.pid)
    (child,) = children(worker)
    assert served.stop(signal.SIGTERM) == 128 + signal.SIGTERM and list(stream)
    assert ends(worker) and ends(child)
    queue = Store(sqlite(served.folder / "jobs.sqlite"))
    rows = {each: queue.get(each) or {} for each in (job, waits)}
    assert [row["state"] for row in rows.values()] == ["queued", "queued"] and rows[job]["attempts"] == 0
    folder = served.folder / "jobs" / job
    assert list(folder.glob("checkpoints/*.safetensors")) and "interrupted after" in (folder / "output.txt").read_text()
    assert "Traceback" not in "".join(path.read_text() for path in served.said.parent.glob("*.txt"))


def is_at_work(job: dict[str, Any]) -> bool:
    return job["state"] == "running" and job["progress"]["iteration"] > 5
