"""Servers for tests: real ones, in processes of their own, whose jobs are tiny runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny
from kill_harness import NERF
from processes import awaited

from text23d.quoting import quoted

ROOT = Path(__file__).resolve().parent.parent
ENDED = ("done", "failed", "cancelled")


def media(prior: Path, *more: str) -> dict[str, list[str]]:
    """What a server of tests offers: an object and a picture, which are made in seconds."""
    own = [f"prior.weights={prior}", "prior.precision=float32", "stage=none", *more]
    return {
        "object": [*NERF, *tiny.GRID, "method.iterations=4", *own],
        "image": ["representation=image", "representation.size=16", "method.iterations=8", *own],
    }


def settings(prior: Path, *more: str) -> list[str]:
    """The same on a command line."""
    offered = [f"server.media.{name}=[{', '.join(map(quoted, each))}]" for name, each in media(prior, *more).items()]
    return [*offered, "~server.media.panorama", "~server.media.video", "~server.media.audio"]


@dataclass
class Served:
    """A server that runs. said: the file of its words."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path
    said: Path
    overrides: Sequence[str] = ()
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer; its bytes where it is none."""
        data = None if body is None else json.dumps(body).encode()
        told = {**self.headers, **({"Content-Type": "application/json"} if data else {}), **headers}
        request = urllib.request.Request(self.url + path, data, {k.replace("_", "-"): v for k, v in told.items()})
        request.method = method
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, read = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, read = error.code, error.read()
        with suppress(ValueError):
            return status, json.loads(read)
        return status, read

    def submit(self, prompt: str = "a red car", medium: str = "image", **more: Any) -> str:
        headers = {"X_Client": more.pop("client")} if "client" in more else {}
        status, job = self.ask("/api/jobs", "POST", {"prompt": prompt, "medium": medium, **more}, **headers)
        assert status == 202, job
        return str(job["id"])

    def job(self, identity: str) -> dict[str, Any]:
        status, job = self.ask(f"/api/jobs/{identity}")
        assert status == 200, job
        return dict(job)

    def until(self, identity: str, states: Sequence[str] = ENDED, seconds: float = 90) -> dict[str, Any]:
        """The job once it is in one of these states."""

        def look() -> dict[str, Any] | None:
            job = self.job(identity)
            return job if job["state"] in states else None

        return awaited(look, seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def again(self) -> None:
        """Another server in the same folder, as a person would start one."""
        after = start(self.folder, self.overrides)
        self.process, self.url, self.said = after.process, after.url, after.said


def environment() -> dict[str, str]:
    """Of a process that shall be this checkout's, with one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def start(folder: Path, overrides: Sequence[str], port: int = 0) -> Served:
    """A server with its files in `folder`; it has answered once."""
    said = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.txt")
    command = [sys.executable, "-m", "text23d.serve", f"server.folder={folder}", f"server.port={port}", *overrides]
    with open(said, "wb") as words:
        process = subprocess.Popen(command, stderr=words, stdout=words, env=environment(), start_new_session=True)

    def address() -> str | None:
        assert process.poll() is None, said.read_text()
        found = re.search(r"text23d: (http://\S+) serves", said.read_text())
        return found[1] if found else None

    served = Served(process, awaited(address), folder, said, overrides)

    def answers() -> bool | None:
        with suppress(OSError):
            return served.ask("/health")[0] == 200 or None
        return None

    awaited(answers)
    return served


@contextmanager
def serving(folder: Path, overrides: Sequence[str]) -> Iterator[Served]:
    served = start(folder, overrides)
    try:
        yield served
    finally:
        with suppress(ProcessLookupError):
            served.process.send_signal(signal.SIGTERM)
        try:
            served.process.wait(60)
        finally:
            served.process.kill()
