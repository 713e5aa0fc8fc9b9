"""The workers of this machine: processes, each on its share of it, and another where one dies."""

from __future__ import annotations

import json
import os
import platform
import secrets
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from text23d.engine.process import Process, cores, kill
from text23d.engine.watchdog import GRACE
from text23d.service.server.options import ServerOptions
from text23d.service.server.store import Store
from text23d.service.server.worker import Post

COMMAND = (sys.executable, "-m", "text23d.service.server.worker")
LOOK = 0.3
"""Seconds between two looks at the workers."""
YOUNG, LONGEST = 10.0, 30.0
"""A worker that dies within so many seconds is replaced after a pause, which doubles each time up to the second."""


class Workers(Protocol):
    """Whatever makes the jobs of a queue."""

    @property
    def alive(self) -> int:
        """How many there are now."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None:
        """Tell all to stop their jobs, which then wait, and wait until they have."""
        ...


def posts(options: ServerOptions, store: Store, folder: Path) -> list[Post]:
    """What the workers of this machine are told, but for their names: cores and GPUs are dealt out in turn."""
    assert options.workers != "ray"
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    share = options.cores or max(1, cores() // options.workers)
    found = []
    for slot in range(options.workers):
        own = mine[slot * share : (slot + 1) * share] if options.workers * share <= len(mine) else []
        gpu = str(options.gpus[slot % len(options.gpus)]) if options.gpus else None
        found.append(post(options, store, folder, share, own, gpu))
    return found


def post(
    options: ServerOptions, store: Store, folder: Path, threads: int, own: list[int], gpu: str | None, name: str = ""
) -> Post:
    """What a worker is told."""
    database = store.url.render_as_string(hide_password=False)
    return Post(
        name, database, str(folder), threads, own, gpu, options.gpu_share, options.media, options.previews,
        options.limits.seconds, options.ready, asdict(options.limits.of_store),
    )  # fmt: skip


def new_name(slot: int) -> str:
    """Of a worker, unlike any other."""
    return f"{platform.node()[:60]}/{slot}/{secrets.token_hex(6)}"


class Slot:
    """The place of a worker: its process, under a name of its own."""

    def __init__(self, number: int, post: Post) -> None:
        self.number, self.post = number, post
        self.process: Process | None = None
        self.name, self.begun, self.pause, self.due = "", 0.0, 0.5, 0.0

    def start(self) -> None:
        self.name, self.begun = new_name(self.number), time.monotonic()
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, start_new_session=True)
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(asdict(self.post) | {"name": self.name}).encode() + b"\n")
            self.process.stdin.flush()

    def is_dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def bury(self) -> None:
        """Note that the worker died, and when there shall be another."""
        self.process = None
        self.pause = min(LONGEST, 2 * self.pause) if time.monotonic() - self.begun < YOUNG else 0.5
        self.due = time.monotonic() + self.pause


class Pool:
    """Implements `Workers`, by processes that end with this one."""

    def __init__(self, posts: list[Post], store: Store) -> None:
        self.slots = [Slot(number, post) for number, post in enumerate(posts)]
        self.store, self.stopping = store, threading.Event()
        self.watcher = threading.Thread(target=self._watch, name="workers", daemon=True)

    @property
    def alive(self) -> int:
        return sum(slot.process is not None and slot.process.poll() is None for slot in self.slots)

    def start(self) -> None:
        for slot in self.slots:
            slot.start()
        self.watcher.start()

    def stop(self) -> None:
        self.stopping.set()
        if self.watcher.is_alive():
            self.watcher.join()
        running = [slot.process for slot in self.slots if slot.process is not None]
        for process in running:
            with suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.close()
        until = time.monotonic() + GRACE + 5
        for process in running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                kill(process)

    def _watch(self) -> None:
        while not self.stopping.wait(LOOK):
            for slot in self.slots:
                if slot.is_dead():
                    slot.bury()
                    with suppress(SQLAlchemyError):  # then its leases run out
                        self.store.abandon(slot.name)
                elif slot.process is None and time.monotonic() >= slot.due:
                    slot.start()
