"""The process of a run, as who waits for it sees it: `worker` is what it does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from text23d.engine.worker import OUTPUT

Process = subprocess.Popen[bytes]


def cores() -> int:
    """Those that this process may use: a container, or a job of a cluster's, may have been given some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_threads(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment of a process that has so many threads at most; fewer, where OMP_NUM_THREADS says so already."""
    given = environment.get("OMP_NUM_THREADS", "")
    bound = min(threads, int(given)) if given.isdigit() and int(given) > 0 else threads
    return {**environment, "OMP_NUM_THREADS": str(bound)}


def last_words(folder: Path) -> str:
    """The last line of a run's log."""
    with suppress(OSError):
        lines = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.removeprefix("text23d: ") for line in reversed(lines) if line.strip()), "")
    return ""


def kill(process: Process) -> None:
    """A process and all that it started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.wait()
