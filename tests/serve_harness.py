"""python tests/serve_harness.py: a server under load, kills and requests that nobody meant, with figures at the end.

It submits `jobs` jobs of several clients, lets `watchers` clients watch one run, kills `workers` workers or their jobs'
processes at random and the server `servers` times, waits for all jobs, and sends `requests` requests that are none. It
counts jobs that were lost or made twice, answers of status 5xx, tracebacks, and files outside the folder. First of all
it measures how soon the first picture of a job is there. Options are key=value: those, seed, folder and database: the
URL of an empty one, or `postgresql` for one of its own that lasts as long as the harness.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from conftest import unlearned
from fuzz_server import Fuzzer, hostile, requests_of, snapshot
from postgres import running
from processes import awaited, children
from served import Served, start

from text23d.engine.folder import LOG
from text23d.prior.builtin.unet import UNetConfig
from text23d.quoting import quoted
from text23d.worlds.objects.caption import words

OPTIONS = (
    *("server.workers=2", "server.limits.queued=500", "server.limits.unfinished=500", "server.limits.running=8"),
    *("server.limits.iterations=5000",),
)
TINY = UNetConfig(len(words()), widths=(16,), blocks=1, attention=(False,), embedding=32, text_width=32)
"""The network of the pictures' prior, which has learned nothing and is quick."""


@dataclass
class Counts:
    """What was seen."""

    statuses: Counter[int] = field(default_factory=Counter)
    events: list[int] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Load:
    """A server, and all that is done to it."""

    def __init__(self, folder: Path, given: dict[str, int], database: str | None) -> None:
        self.folder, self.given, self.rng = folder, given, random.Random(given["seed"])
        self.counts, self.over = Counts(), threading.Event()
        unlearned(folder / "prior.safetensors", TINY)
        image = ("representation=image", "representation.size=16", f"prior.weights={folder}/prior.safetensors")
        where = [] if database is None else [f"server.database={quoted(database)}"]
        self.options = [*OPTIONS, *where, f"server.media.image=[{', '.join(map(quoted, image))}]"]
        self.served: Served = start(folder / "served", self.options)
        self.port = int(self.served.url.rpartition(":")[2])

    def ask(self, path: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, object]:
        """An answer, also where the server is away for a while."""
        until = time.monotonic() + 120
        while True:
            try:
                status, answer = self.served.ask(path, method, body, **headers)
                self.counts.statuses[status] += 1
                return status, answer
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def submit(self, client: str, medium: str, iterations: int) -> str:
        status, job = self.ask(
            "/api/jobs", "POST", {"prompt": "a red car", "medium": medium, "iterations": iterations}, X_Client=client
        )
        assert status == 202 and isinstance(job, dict), job
        return str(job["id"])

    def job(self, identity: str) -> dict[str, object]:
        status, job = self.ask(f"/api/jobs/{identity}")
        assert status == 200 and isinstance(job, dict), f"{identity}: {status}"
        return job

    def first_picture(self) -> None:
        """Of an object at the settings that a person has, on a server that waits."""
        time.sleep(20)  # until a process is ready
        begin = time.monotonic()
        job = self.submit("first", "object", 80)
        awaited(lambda: self.job(job)["picture"], 120)
        self.counts.figures["seconds to the first picture"] = round(time.monotonic() - begin, 1)
        self.ask(f"/api/jobs/{job}/cancel", "POST")
        awaited(lambda: self.job(job)["state"] == "cancelled" or None, 120)

    def watch(self, job: str, number: int) -> None:
        """A client that watches a run until its end, again from the last event where it is cut off; some are slow."""
        last, seen, state = "", 0, ""
        while state not in ("done", "failed", "cancelled") and not self.over.is_set():
            try:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{self.port}/api/jobs/{job}/events",
                    headers={"Last-Event-ID": last, "X-Client": f"watcher-{number}"},
                )
                with urllib.request.urlopen(request, timeout=60) as answer:
                    for line in answer:
                        text = line.decode().strip()
                        last = text.removeprefix("id: ") if text.startswith("id: ") else last
                        if text.startswith("data: ") and '"state":"' in text:
                            seen, state = seen + 1, text.partition('"state":"')[2].partition('"')[0]
                        if number % 4 == 0:
                            time.sleep(0.3)
            except urllib.error.HTTPError as error:
                self.counts.statuses[error.code] += 1
                time.sleep(0.5)
            except OSError:
                time.sleep(0.5)
        self.counts.events.append(seen)

    def kill_worker(self) -> None:
        workers = children(self.served.process.pid)
        if workers:
            victim = self.rng.choice(workers)
            if self.rng.random() < 0.5 and (jobs := children(victim)):
                victim = self.rng.choice(jobs)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    def kill_server(self) -> None:
        self.served.stop(signal.SIGKILL)
        self.served = awaited(self.restarted, 120)

    def restarted(self) -> Served | None:
        with suppress(AssertionError):  # of a port that is not free yet
            return start(self.folder / "served", self.options, self.port)
        return None

    def fuzz(self, count: int) -> Fuzzer:
        """Over the network, each request on a connection of its own."""

        def send(method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[int, str, bytes]:
            if method == "GET" and path.partition("?")[0].endswith("/events"):
                return 200, "", b""
            connection = http.client.HTTPConnection(urlsplit(self.served.url).netloc, timeout=60)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer.status, answer.headers.get("content-type", ""), answer.read()
            finally:
                connection.close()

        fuzzer = Fuzzer(send)
        _, document = self.ask("/openapi.json")
        fuzzer.run(requests_of(document, count, self.given["seed"]))  # type: ignore[arg-type]
        fuzzer.run(
            each for each in hostile() if set(each[1]).isdisjoint("\x00\r\n ") and "Content-Length" not in each[2]
        )
        return fuzzer


def memory(pid: int) -> float:
    """Megabytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def harness(folder: Path, given: dict[str, int], database: str | None = None) -> Counts:
    load = Load(folder, given, database)
    counts, before = load.counts, snapshot(folder, but="served")
    before |= {"prior.safetensors": 0}
    load.first_picture()
    watched = load.submit("watched", "image", 1500)
    jobs = [load.submit(f"client-{number % 7}", "image", 8) for number in range(given["jobs"] - 1)] + [watched]
    watchers = [threading.Thread(target=load.watch, args=(watched, number)) for number in range(given["watchers"])]
    [each.start() for each in watchers]  # type: ignore[func-returns-value]
    deeds = [load.kill_worker] * given["workers"] + [load.kill_server] * given["servers"]
    load.rng.shuffle(deeds)
    for deed in deeds:
        time.sleep(load.rng.uniform(4, 9))
        deed()
    awaited(lambda: all(load.job(job)["state"] == "done" for job in jobs) or None, 1800)
    load.over.set()
    [each.join(30) for each in watchers]  # type: ignore[func-returns-value]
    counts.figures["jobs"] = dict(Counter(str(load.job(job)["state"]) for job in jobs))
    counts.figures["made to the end"] = dict(Counter(completions(load.served.folder / "jobs" / job) for job in jobs))
    counts.figures["events that the watchers saw"] = f"{min(counts.events)} to {max(counts.events)}"
    counts.figures["megabytes before the requests"] = memory(load.served.process.pid)
    fuzzer = load.fuzz(given["requests"])
    counts.figures["megabytes after the requests"] = memory(load.served.process.pid)
    counts.figures["statuses of the requests"] = dict(sorted(fuzzer.statuses.items()))
    counts.faults += [*fuzzer.faults, *fuzzer.undocumented]
    load.served.stop()
    counts.figures["statuses of clients"] = dict(sorted(counts.statuses.items()))
    said = "".join(path.read_text() for path in folder.glob("served-*.txt"))
    counts.faults += ["a traceback"] * said.count("Traceback")
    after = {name for name in snapshot(folder, but="served") if not name.startswith("served-")}
    counts.faults += [f"{name} lies outside the folder" for name in after - before.keys()]
    if counts.figures["jobs"] != {"done": len(jobs)} or counts.figures["made to the end"] != {1: len(jobs)}:
        counts.faults.append("a job was lost, or made twice")
    counts.faults += [f"status {each}" for each in counts.statuses if each >= 500]
    return counts


def completions(folder: Path) -> int:
    """How often the run in a folder was made to its end."""
    return sum("done in" in line and "earlier process" not in line for line in (folder / LOG).read_text().splitlines())


def main(arguments: Sequence[str]) -> int:
    given = {"jobs": 50, "watchers": 20, "workers": 5, "servers": 2, "requests": 2000, "seed": 0}
    told = dict(each.split("=", 1) for each in arguments)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder, database = Path(told.pop("folder", place)).absolute(), told.pop("database", None)
        folder.mkdir(parents=True, exist_ok=True)
        if database == "postgresql":
            database = stack.enter_context(running()).new().render_as_string(hide_password=False)
        counts = harness(folder, given | {name: int(value) for name, value in told.items()}, database)
    for name, value in counts.figures.items():
        print(f"{name}: {value}")
    print(f"{len(counts.faults)} faults", *counts.faults[:20], sep="\n")
    return bool(counts.faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
