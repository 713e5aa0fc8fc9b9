"""python -m text23d.service.server.worker: makes one job after another, as the queue has them, until its input ends.

The first line of its standard input is a `Post` as JSON. A job is a process of its own, which ends when this one does,
whatever killed it; and its work is kept, so that another worker goes on with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from text23d.engine.folder import in_use
from text23d.engine.process import Process, kill, last_words, with_threads
from text23d.engine.resume import AUTO, asked, read_config
from text23d.engine.watchdog import GRACE
from text23d.engine.worker import INTERRUPTED, MISTAKE, OUTPUT, first_line
from text23d.errors import UserError
from text23d.service.server.child import PROGRESS
from text23d.service.server.media import Medium, read_media
from text23d.service.server.schema import BEAT, CANCELLED, DONE, FAILED, LEASE, Claim, Limits
from text23d.service.server.store import Store

LOOK, POLL = 0.3, 0.05
"""Seconds between two looks into the queue, and between two at the process of a job."""
COMMAND = (sys.executable, "-m", "text23d.service.server.child")
AWAY = 2.0
"""Seconds in which a folder that an earlier worker's job still has is left alone, and a database that is away."""


@dataclass(frozen=True)
class Post:
    """All that a worker is told.

    name: unlike that of any other. database: its URL. folder: of all jobs. threads, cores: of its jobs, how many and,
    if not empty, which. gpu, gpu_share: what its jobs see, and how much memory of it they may take; None: all.
    seconds: that a job may take. ready: whether a process waits with everything imported.
    """

    name: str
    database: str
    folder: str
    threads: int
    cores: Sequence[int]
    gpu: str | None
    gpu_share: float | None
    media: Mapping[str, Sequence[str]]
    previews: int
    seconds: float
    ready: bool
    limits: Mapping[str, int]

    @property
    def environment(self) -> dict[str, str]:
        """Of its jobs' processes."""
        seen = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        return {"OMP_WAIT_POLICY": "passive", **with_threads(os.environ, self.threads), **seen}


class Worker:
    """Makes jobs until `stopping` is set, in a process each. Then the job that it makes is stopped, and waits again."""

    def __init__(self, post: Post, stopping: threading.Event) -> None:
        self.post, self.stopping = post, stopping
        self.store = Store(post.database, Limits(**post.limits))
        self.media: dict[str, Medium] = read_media(post.media)
        self.spare: Process | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                if self.post.ready and (self.spare is None or self.spare.poll() is not None):
                    self.spare = self.begin()
                try:
                    claim = self.store.claim(self.post.name)
                    if claim is not None:
                        self.make(claim)
                        continue
                except SQLAlchemyError as error:  # it is away: what was claimed runs out, and comes again
                    say(f"the database is away: {type(error).__name__}")
                    self.stopping.wait(AWAY)
                self.stopping.wait(LOOK)
        finally:
            if self.spare is not None:
                kill(self.spare)

    def begin(self) -> Process:
        """A process that waits for its job."""
        return subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=self.post.environment, start_new_session=True,
        )  # fmt: skip

    def make(self, claim: Claim) -> None:
        """One job, to its end or as far as it comes."""
        folder = Path(self.post.folder, claim.id)
        if in_use(folder):  # by the process of a worker that died, which is saving its work
            self.store.give_back(claim, AWAY)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            cfg = self.configuration(claim, folder)
        except (UserError, OSError) as error:
            said = f"its folder cannot be made: {error.strerror}" if isinstance(error, OSError) else str(error)
            self.store.end(claim, FAILED, said)
            return
        process, self.spare = self.spare or self.begin(), None
        try:
            given = {"folder": str(folder), "cfg": cfg, "gpu_share": self.post.gpu_share}
            with suppress(BrokenPipeError):  # of a process that ended meanwhile, which its status tells
                assert process.stdin is not None
                process.stdin.write(json.dumps(given).encode() + b"\n")
                process.stdin.flush()
            why = self.awaited(process, claim, folder)
        finally:
            kill(process)
        self.close(claim, folder, process.returncode, why)

    def configuration(self, claim: Claim, folder: Path) -> dict[str, Any]:
        """That of the run in the folder, which goes on, or else of a new one. Raises UserError."""
        going_on = {"resume": {"folder": AUTO, "force": False}}
        try:
            return asked(read_config(folder), going_on, ())
        except UserError:
            pass
        if claim.medium not in self.media:
            raise UserError(f"the server no longer offers {claim.medium}: ask for one of {', '.join(self.media)}")
        cfg = self.media[claim.medium].configured(claim.prompt, claim.settings, self.post.previews)
        return {**cfg, **going_on}

    def awaited(self, process: Process, claim: Claim, folder: Path) -> str:
        """Wait for a job's process. Returns why it was told to stop: stopping, cancelled, late, lost, or "" if not."""
        begun = renewed = time.monotonic()
        why, until, beat = "", 0.0, 0.0
        while process.poll() is None:
            now = time.monotonic()
            if now >= beat:
                beat = now + BEAT
                spent, held = claim.spent + now - begun, self.renewed(claim, folder, claim.spent + now - begun)
                renewed = now if held is not None else renewed
                found = "cancelled" if held == "cancel" else "late" if spent > self.post.seconds else ""
                if held == "lost" or now - renewed > LEASE - 2 * BEAT:
                    found = "lost"
                why = "lost" if found == "lost" else why or found
            why = why or ("stopping" if self.stopping.is_set() else "")
            if why and not until:
                until = now + GRACE
                with suppress(BrokenPipeError):
                    assert process.stdin is not None
                    process.stdin.close()
            if until and now > until:
                kill(process)
            time.sleep(POLL)
        return why

    def renewed(self, claim: Claim, folder: Path, spent: float) -> str | None:
        """Hold the job for longer: held, cancel or lost; None: the database is away."""
        try:
            held = self.store.renew(claim, iteration(folder), spent)
        except SQLAlchemyError:
            return None
        return "lost" if held is None else "cancel" if held else "held"

    def close(self, claim: Claim, folder: Path, status: int, why: str) -> None:
        """Say how a job's process ended."""
        self.store.renew(claim, iteration(folder), claim.spent)
        if status == 0:
            self.store.end(claim, DONE)
        elif why == "cancelled":
            self.store.end(claim, CANCELLED)
        elif why == "late":
            self.store.end(claim, FAILED, f"it took longer than {self.post.seconds:g} s, which is all that a job may")
        elif why == "stopping":
            self.store.give_back(claim)
        elif status == MISTAKE:
            self.store.end(claim, FAILED, last_words(folder).replace(str(folder), "its folder"))
        elif not why:
            killed = f"it was killed by signal {-status}" if status < 0 else f"it ended with status {status}"
            self.store.retry(claim, "it was interrupted" if status == INTERRUPTED else f"{killed}; see {OUTPUT}")


def iteration(folder: Path) -> int:
    """How far the job in a folder has come."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return int(json.loads((folder / PROGRESS).read_bytes()).get("iteration") or 0)
    return 0


def say(text: str) -> None:
    print(f"text23d: {text}", file=sys.stderr, flush=True)


def bind(cores: Sequence[int]) -> None:
    """Let this process, and those that it starts, run on these cores alone."""
    if cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # of cores that were taken away
            os.sched_setaffinity(0, cores)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server is asked, and ends its workers by their input
    stopping = threading.Event()
    try:
        post = Post(**json.loads(first_line()))
    except KeyboardInterrupt:
        return
    bind(post.cores)

    def listen() -> None:
        while os.read(0, 4096):
            pass
        stopping.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        Worker(post, stopping).run()
    except UserError as error:
        say(str(error))
        sys.exit(MISTAKE)


if __name__ == "__main__":
    main()
