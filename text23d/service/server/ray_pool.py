"""Workers on many machines, through Ray: actors, which Ray places where there are cores and GPUs for them.

They share the jobs' folder and the database with the server, so that a job may go on wherever another worker is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from text23d.engine.process import kill
from text23d.engine.watchdog import GRACE
from text23d.errors import UserError
from text23d.service.server.options import ServerOptions
from text23d.service.server.pool import COMMAND, new_name, post
from text23d.service.server.store import Store
from text23d.service.server.worker import Post

LOOK, PAUSE = 0.5, 2.0
"""Seconds between two looks at the workers, and before another where one died."""


class Remote:
    """The worker on its machine: a process as on the server's own, for as long as this actor lives."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def work(self, told: dict[str, Any]) -> int:
        """Make jobs until `leave` is called. Returns the worker's exit status."""
        process = self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, start_new_session=True)
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            seen = os.environ.get("CUDA_VISIBLE_DEVICES") or None  # what Ray gave this actor
            process.stdin.write(json.dumps({**told, "gpu": seen}).encode() + b"\n")
            process.stdin.flush()
        return process.wait()

    def leave(self) -> None:
        """Stop the job, which then waits, and end."""
        process = self.process
        if process is None or process.stdin is None:
            return
        with suppress(BrokenPipeError, ValueError):
            process.stdin.close()
        try:
            process.wait(GRACE + 5)
        except subprocess.TimeoutExpired:
            kill(process)


@dataclass
class Place:
    """A worker's: its actor, whether Ray has found room for that, and what becomes of its work."""

    number: int
    name: str = ""
    actor: Any = None
    ready: Any = None
    work: Any = None
    due: float = field(default=0.0)


class RayPool:
    """Implements `Workers`. Raises UserError where Ray is not installed or its cluster does not answer, and where the
    database is that of this machine's folder though the cluster may have other machines."""

    def __init__(self, options: ServerOptions, store: Store, root: Path) -> None:
        if find_spec("ray") is None:
            raise UserError('server.workers=ray: it is not installed; pip install -e ".[ray]"')
        if options.ray.address is not None and options.database is None:
            raise UserError(
                f"server.ray.address={options.ray.address} and a database in a file of this machine's: workers on "
                "others cannot reach it; give server.database=postgresql+psycopg://..., or sqlite:/// for nodes here"
            )
        self.options, self.store = options, store
        self.post = post(options, store, root, max(1, int(options.ray.cores)), [], None)
        self.places = [Place(number) for number in range(options.ray.workers)]
        self.stopping = threading.Event()
        self.watcher = threading.Thread(target=self._watch, name="workers", daemon=True)
        import ray

        self.ray, before = ray, signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=options.ray.address, log_to_driver=False, include_dashboard=False, ignore_reinit_error=True
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"server.ray.address={options.ray.address}: {said}; start Ray there, or leave it out"
            ) from error
        finally:  # Ray would end this process by itself, before its jobs are saved
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)

    @property
    def alive(self) -> int:
        return sum(map(self._is_there, self.places))

    def _is_there(self, place: Place) -> bool:
        """Whether the worker has begun: an actor may wait long for room."""
        return place.actor is not None and bool(self.ray.wait([place.ready], timeout=0)[0])

    def start(self) -> None:
        for place in self.places:
            self._settle(place)
        self.watcher.start()

    def stop(self) -> None:
        self.stopping.set()
        if self.watcher.is_alive():
            self.watcher.join()
        leaving = [place.actor.leave.remote() for place in self.places if self._is_there(place)]
        with suppress(self.ray.exceptions.RayError):
            self.ray.wait(leaving, num_returns=len(leaving), timeout=GRACE + 10) if leaving else None
        self.ray.shutdown()

    def _settle(self, place: Place) -> None:
        """Another worker in this place, wherever Ray finds room for it."""
        place.name = new_name(place.number)
        asked = {"num_cpus": self.options.ray.cores, "num_gpus": self.options.ray.gpus}
        remote = self.ray.remote(Remote).options(max_concurrency=2, max_restarts=0, **asked)
        place.actor = remote.remote()
        place.ready = place.actor.__ray_ready__.remote()
        told: Post = self.post
        place.work = place.actor.work.remote({**asdict(told), "name": place.name})

    def _watch(self) -> None:
        while not self.stopping.wait(LOOK):
            for place in self.places:
                if place.actor is None:
                    if time.monotonic() >= place.due:
                        self._settle(place)
                elif self.ray.wait([place.work], timeout=0)[0]:  # it ended, or its machine is gone
                    self.ray.kill(place.actor)
                    place.actor, place.due = None, time.monotonic() + PAUSE
                    with suppress(SQLAlchemyError):  # then its leases run out
                        self.store.abandon(place.name)
