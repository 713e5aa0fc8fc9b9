"""Many main jobs beside each other, each a process of its own: the one place where studies start runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from text23d.studies.worker import GRACE

COMMAND = (sys.executable, "-m", "text23d.studies.worker")
POLL = 0.05
"""Seconds between two looks at the processes."""

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Job:
    """A main job: its overrides, as on the command line, and the folder for all that it writes."""

    overrides: tuple[str, ...]
    folder: Path

    @property
    def log(self) -> Path:
        """The file of what the job says."""
        return self.folder / "output.txt"


@dataclass(frozen=True)
class Outcome:
    """How a job ended. failure: why it did not succeed, in a few words; None: it did."""

    job: Job
    failure: str | None = None


def launch(jobs: Sequence[Job], workers: int, device: str) -> list[Outcome]:
    """Run the jobs, `workers` at a time, on `device` (auto, cpu or cuda), each on its share of the processor's cores.

    The outcomes have the order of the jobs; a job that fails stops no other. Where the call is interrupted, by Ctrl-C
    or by any exception, the jobs that run are stopped and waited for; where this process is killed, they stop by
    themselves.
    """
    waiting, running = list(reversed(range(len(jobs)))), dict[int, Process]()
    failures: dict[int, str | None] = {}
    try:
        with tqdm(total=len(jobs), desc="runs", unit="run") as bar:
            while waiting or running:
                while waiting and len(running) < workers:
                    number = waiting.pop()
                    try:
                        running[number] = start(jobs[number], workers, device)
                    except OSError as error:
                        failures[number] = f"cannot write to {jobs[number].folder}: {error.strerror}"
                        bar.update()
                time.sleep(POLL)
                for number in [number for number, process in running.items() if process.poll() is not None]:
                    failures[number] = failure(jobs[number], ended(running.pop(number)))
                    bar.update()
    finally:
        stop(running.values())
    return [Outcome(job, failures[number]) for number, job in enumerate(jobs)]


def start(job: Job, workers: int, device: str) -> Process:
    """The process of a job. Raises OSError where its folder or its log cannot be written."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.log, "wb") as log:
        return subprocess.Popen(
            [*COMMAND, str(job.folder), f"device={device}", *job.overrides],
            stdin=subprocess.PIPE,  # kept open and never written to: see `worker`
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(os.environ, workers),
            start_new_session=True,  # Ctrl-C is for this process alone, which stops the others in order
        )


def environment(inherited: Mapping[str, str], workers: int) -> dict[str, str]:
    """The environment of one of `workers` processes that share the cores."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    return {"OMP_WAIT_POLICY": "passive", **inherited, "OMP_NUM_THREADS": str(threads)}


def failure(job: Job, status: int) -> str | None:
    """What an exit status says of a job; negative: the number of the signal that killed it."""
    if status == 0:
        return None
    killed = f"it was killed by signal {-status}, " if status < 0 else ""
    return f"{killed}see {job.log}"


def ended(process: Process) -> int:
    """Close the pipe to a process and wait for its exit status."""
    if process.stdin:
        process.stdin.close()
    return process.wait()


def stop(processes: Iterable[Process]) -> None:
    """Tell the processes to end, and kill those, with all that they started, that have not within GRACE seconds."""
    for process in processes:
        if process.stdin:
            process.stdin.close()
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
